"""The delivery checker: faults in a group of its own, and a verdict on what its clients saw."""
