"""Energy, measured by the parent in windows of seconds, apart from the latency trials.

==============  ===================================================================
``settings``    the suite's key ``energy:``
``sensors``     what this machine can be asked: RAPL, hwmon, INA3221
``nvml``        ... and NVIDIA's GPUs
``wall``        a wall meter: its log, or a command that prints watts
``meter``       samples sensors while a window runs
``integral``    joules of a window from such samples
``marker``      a load with a known pattern, and the meter's clock from its trace
``measure``     the energy pass of a run: idle, windows, records
``records``     what ``energy.jsonl`` holds
==============  ===================================================================

What the records come to in the case table, and the proxies where nothing is measured, is in
``qbench.analysis.table.energy``.
"""
