"""Has anything become worse? The verdict of `qbench gate`."""
