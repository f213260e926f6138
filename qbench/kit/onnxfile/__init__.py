"""Read, rewrite, calibrate and save ONNX files, for adapters that prepare from them.

Needs onnx; ``calibration`` and ``tools`` also need onnxruntime, ``external`` needs nothing. Never
imported while measuring.
"""
