"""Pools whose metadata is damaged, and their repair."""
