"""Results in the form of other benchmarking tools, to and fro: pytest-benchmark's JSON files."""
