"""``python -m qbench.cli``."""

from qbench.cli import main

if __name__ == "__main__":  # not in the processes that `qbench site` starts
    main()
