"""The catalog of one pool: which thin device is what, and what is being done to it.

It is an SQLite database (WAL) on a small LV beside the pool, so it moves with the disks and stays writable when the
pool is full. Every change of the pool is recorded first (the intent, durable), then carried out, then recorded as done;
what a crash leaves open, recovery finds in the states.
"""
