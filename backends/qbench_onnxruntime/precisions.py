"""Precisions of ONNX Runtime's CPU and CUDA providers. Standard library only.

Kernels are those that onnxruntime and onnxruntime-gpu 1.31.1 register (``get_all_opkernel_def``).
"""

from __future__ import annotations

CPU = ("fp32", "fp16", "int8-dynamic", "int8-static", "w8", "w4", "as-shipped")
NEVER_ON_CPU = {
    "tf32": "tf32 is a format of NVIDIA's matrix units; the CPU provider computes in fp32",
    "bf16": "the CPU provider has no bfloat16 kernel of Conv or MatMul on x86, and this adapter "
    "does not offer it elsewhere yet",
    "fp8": "the CPU provider casts 8-bit floats, but has no kernel that computes in them",
    "int8-qat": "onnxruntime does not train; a model from quantization-aware training arrives "
    "quantized: run it as-shipped",
    "int16x8": "the CPU provider has no kernel for 16-bit activations: it dequantizes them, and "
    "Conv and Gemm compute in float32",
}

CUDA_SINCE = {
    "fp32": (0, 0),
    "tf32": (8, 0),
    "fp16": (5, 3),
    "w8": (0, 0),
    "w4": (0, 0),
    "as-shipped": (0, 0),
}
"""By precision, the minimum compute capability (CUDA C++ Programming Guide, "Arithmetic
Instructions" and "Tensor Cores"). The probe's first computation shows whether the build has code
for a device."""
NEVER_ON_CUDA = {
    "bf16": "the CUDA provider has bfloat16 kernels of MatMul, Gemm and Conv, but none of pooling, "
    "Clip or BatchNormalization, and this adapter does not offer it yet",
    "fp8": "the CUDA provider quantizes to 8-bit floats, but has no Conv or MatMul that computes "
    "in them",
    "int8-dynamic": "the CUDA provider has no kernel for activations quantized at run time: these "
    "operators would run on the CPU",
    "int8-static": "the CUDA provider has no int8 kernel of Conv, Gemm or MatMul for Q/DQ files: "
    "it dequantizes, and computes in float32; TensorRT computes in int8",
    "int8-qat": "onnxruntime does not train; a model from quantization-aware training arrives "
    "quantized: run it as-shipped",
    "int16x8": "the CUDA provider has no kernel for 16-bit activations",
}
