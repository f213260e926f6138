"""ONNX files, for adapters that prepare from them: reading, rewriting, calibrating, saving.

Needs onnx, and ``calibration`` and ``prepare`` need onnxruntime; never imported while measuring.
"""
