"""LVM: the disks of a pool, its volume group, and the sizes of what lies in it. Never a volume of the driver."""
