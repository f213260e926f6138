"""Worker processes, the interpreters they run in, and the installed adapters."""
