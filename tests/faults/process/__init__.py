"""The node's process replaced, or stopped, while its volumes are in use."""
