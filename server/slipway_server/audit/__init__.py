"""What a model makes of a table before any traffic: ``slipway-audit``."""
