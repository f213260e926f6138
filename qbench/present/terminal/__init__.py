"""Terminal output: tables and the progress of a run, drawn with rich in the parent process."""
