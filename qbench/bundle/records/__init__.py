"""The records of a bundle, by the file that holds them."""
