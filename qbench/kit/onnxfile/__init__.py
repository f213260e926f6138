"""Read, rewrite, calibrate and save ONNX files, for adapters that prepare from them.

Needs onnx; ``calibration`` and ``tools`` also need onnxruntime; ``external``, ``quantized`` and
``wire`` need nothing. Never imported while measuring.
"""
