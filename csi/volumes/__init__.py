"""The life of volumes, snapshots and groups: what CSI asks for, carried out on the catalog and the thin pool."""
