"""qbench: which inference backend, at which precision, on which machine?

Importing this package costs nothing: the worker processes that measure import it too.
"""

__version__ = "0.1.0"
