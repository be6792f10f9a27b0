"""What takes a kubelet, a registry and a router: measured on the test cluster; `make bench-fleet-real`."""
