"""Which configuration satisfies the limits, and which is best."""
