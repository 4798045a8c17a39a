"""Device-mapper by ioctl: tables and status as values, the control device, thin pools, thin devices, freezing."""
