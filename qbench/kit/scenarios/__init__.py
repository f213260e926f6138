"""Drivers of the timed window: one module each, with one function::

    def drive(opened: Opened) -> Timed: ...

``qbench.spec.scenarios`` maps scenarios to modules. A module here imports the standard library,
NumPy and the package that its scenario names, nothing else.
"""
