"""This machine: its fingerprint, GPUs, power sensors, lock and doctor."""
