"""Disks that fail, hang and vanish under a pool."""
