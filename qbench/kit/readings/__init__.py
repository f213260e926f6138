"""A worker's readings of its process and its machine."""
