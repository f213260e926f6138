"""All that runs in a worker's interpreter, and all that a plugin imports.

Nothing is imported here: a worker records its start before NumPy is loaded.
"""
