"""The case table of a bundle, and the columns that it computes."""
