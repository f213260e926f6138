"""Data sets: find, read and preprocess their items."""
