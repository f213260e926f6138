"""The history of cases over many runs: an index of all bundles, trends, and retention."""
