"""A guest kernel with device-mapper for tests, on a machine whose own kernel has none: User-Mode Linux.

The guest runs as an ordinary process on this machine's file tree, seen through an overlay: the guest reads the same
files at the same paths, and whatever it writes is gone with it. Only three things come back: output, live, through
two serial lines; the exit status, through a file; and the disks, which are sparse files here.

``python3 -m tests.guest --help`` is the command; :class:`tests.guest.machine.Guest` the same for tests that need more
than one boot. Nothing here needs more than Python's standard library.
"""
