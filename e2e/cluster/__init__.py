"""The test cluster: a real Kubernetes behind one command, `python -m e2e.cluster`.

Two providers build it: `kind` where Docker and the node image are within reach, and `node`, which runs the
same components from Go modules and Debian packages in namespaces of their own on this machine.
"""
