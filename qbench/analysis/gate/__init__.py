"""Find regressions: the verdict of `qbench gate`."""
