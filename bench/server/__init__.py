"""The model server beside others: the same models, one core each, in turn; `make bench-server`."""
