"""Slipway: a Kubernetes operator for model serving."""
