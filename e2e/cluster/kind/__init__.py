"""A kind cluster: the provider where Docker and the node image are within reach."""
