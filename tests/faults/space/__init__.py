"""Pools that run out: of data, of metadata, of room for the catalog, of ids."""
