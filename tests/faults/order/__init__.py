"""Whether what must be on disk first is there first: a disk recorded, and replayed to any point of the record."""
