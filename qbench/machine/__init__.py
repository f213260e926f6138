"""This machine: its fingerprint, GPUs, power sensors, lock and doctor.

All modules except ``lock`` keep the kit's rules, since boards are given both: Python 3.10, the
standard library, NumPy and ``qbench.kit``; ``pynvml`` is optional.
"""
