"""Catalogs that are destroyed, and clocks that are set back, under a node with volumes and snapshots."""
