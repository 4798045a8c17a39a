"""What the driver costs, measured beside LVM and beside what cannot be avoided: ``python -m bench --help``."""
