"""What an inference costs on each machine."""
