"""What a router costs, and what neighbours notice of each other in it; `make bench-router`."""
