"""What breaks, in every way that we know of, and what must hold all the same."""
