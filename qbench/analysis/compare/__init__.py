"""Two bundles, or two configurations of one, compared."""
