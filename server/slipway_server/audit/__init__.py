"""How a model treats groups of people, counted on a table before any traffic: ``slipway-audit``."""
