"""Data sets: what their cards say, reading them, and preprocessing their items."""
