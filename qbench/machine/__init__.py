"""What this machine is and does: fingerprint, GPUs, power sensors, lock, doctor."""
