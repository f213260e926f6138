"""The jobs of a worker, a module each with a function ``run``."""
