"""Whether rows of several requests may share a call: proved from the model's graph, operator by operator."""
