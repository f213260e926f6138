"""What a worker reads of its process and its machine."""
