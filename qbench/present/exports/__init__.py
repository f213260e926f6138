"""Import and export of other benchmarking tools' results: pytest-benchmark's JSON files."""
