"""File systems and mounts: making, checking, growing, mounting, and the paths that they are mounted on."""
