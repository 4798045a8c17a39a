"""Settings of unit tests."""

import hypothesis

# The machine's load must not fail a test, and two runs of one tree must not differ.
hypothesis.settings.register_profile("thinpool-csi", deadline=None, database=None, derandomize=True)
hypothesis.settings.load_profile("thinpool-csi")
