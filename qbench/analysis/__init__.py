"""Pure functions of bundles: tables, and later comparisons and judgements."""
