"""Energy, measured by the parent in windows of seconds, separate from the latency trials.

==============  ===================================================================
``sensor``      one sensor
``sensors``     finds this machine's sensors: RAPL, hwmon, INA3221
``nvml``        ... and those of NVIDIA's GPUs
``wall``        a wall meter: its log, or a command that prints watts
``meter``       samples sensors while a window runs
``integral``    joules of a window from these samples
``marker``      a load with a known pattern, to align the wall meter's clock
==============  ===================================================================
"""
