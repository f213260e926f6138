"""NVIDIA GPUs as the parent sees them, by NVML, while workers use them. No setting is changed.

===========  ======================================================================
``card``     which card of NVML a CUDA device is, how it is set, who computes on it
``state``    its clocks, power, temperature, throttling and memory at this moment
``watch``    samples that while a worker runs, and sums up the worker's timed window
``records``    what a bundle keeps of that
``sharing``  before a run: nobody else may compute on the card
===========  ======================================================================

Every function takes the module ``pynvml`` (distribution ``nvidia-ml-py``), or a fake of it. What
the figures come to is in ``qbench.analysis.table.gpu``.
"""
