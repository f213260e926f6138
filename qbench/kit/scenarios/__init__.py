"""How the timed window is driven: one module for each way, with one function::

    def drive(opened: Opened) -> Timed: ...

``qbench.spec.scenarios`` says which scenario is driven by which module. A module here imports the
standard library and NumPy, and what its scenario's ``package`` names, and nothing else.
"""
