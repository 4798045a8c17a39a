"""The benchmark, tried."""
