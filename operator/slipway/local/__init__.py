"""A model served on this machine by what clusters have: server, sources, and the judgement of rollouts."""
