"""gRPC: the CSI services and the driver's own, one file each, in front of the node.

A service reads a request, refuses what the specification forbids before anything is touched, calls the node once and
writes the answer. It raises the errors of csi/errors.py; the interceptor turns them into status codes by the one table
in status.py and writes one log line a request.
"""
