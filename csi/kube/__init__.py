"""The cluster's API: objects as plain mappings, by one connection. The only importer of `kubernetes`."""
