"""What the operator costs with many ModelDeployments, on a real API server; `make bench-fleet`."""
