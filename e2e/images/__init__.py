"""The images of Slipway and of what stands beside it in the tests: `python -m e2e.images build`."""
