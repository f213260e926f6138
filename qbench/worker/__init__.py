"""The child side: one request, one process. See ``qbench.worker.main`` for the protocol."""
