"""A real node of this machine: the provider that needs no container engine and no image registry."""
