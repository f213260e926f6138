"""The cost of an inference on each machine."""
