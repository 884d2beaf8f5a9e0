"""A federation of many sites in one process and in simulated time."""
