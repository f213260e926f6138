"""NVIDIA GPUs, as the parent reads them through NVML while workers use them. No setting is changed.

===========  ======================================================================
``nvml``     calls to NVML
``card``     the NVML device of a CUDA device; its settings and compute processes
``listing``  the GPUs of this machine, for its fingerprint
``state``    clocks, power, temperature, throttling and memory now
``watch``    samples the state while a worker runs, and summarizes its timed window
``sharing``  checks before a run that no other process computes on a GPU
===========  ======================================================================

Functions take the module ``pynvml`` (distribution ``nvidia-ml-py``), or a fake of it.
"""
