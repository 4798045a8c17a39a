"""A real Kubernetes for tests: the control plane on this machine, each node in a guest, all in one network namespace.

``python -m tests.cluster`` brings one up for a person; :class:`tests.cluster.cluster.Cluster` does for tests.
"""
