"""8- and 4-bit weights with float32 activations: MatMulNBits. Never imported while measuring."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer  # needs onnx_ir
from onnxruntime.quantization.onnx_model import ONNXModel

from qbench.kit.adapter import Unsupported
from qbench.kit.model import PrepareTarget, Provenance
from qbench.kit.onnxfile import graph, rewrite
from qbench.kit.onnxfile.tools import FILE, count, percent, save, tool
from qbench_onnxruntime.options import GROUP_SIZES

BITS = {"w8": 8, "w4": 4}
DEFAULT_GROUP = 64
"""Or the column's length if that is shorter. On digits_vit (450 test items, one thread): w4 at
16, 32, 64 and 128 gave 21.5, 22.1, 22.5 and 22.2 dB at 1.02x to 1.09x of fp32's speed; w8 gave
46.9 to 50.0 dB at 0.74x to 0.84x, since every call unpacks 8-bit weights. The file is smallest at
64: smaller groups need more scales, and columns are padded to whole groups."""

_FLOAT32 = 1  # accuracy_level, the rounding of activations; 4 would quantize them to int8


def weight_only(
    clean: Path, target: PrepareTarget, shapes: Mapping[str, Sequence[int]], out: Path
) -> Provenance:
    """Quantize the weights of matrix products, in groups.

    Args:
        clean: the preprocessed model.
        shapes: of the inputs, by name.

    Raises:
        Unsupported: most of the work is not such products, or groups cannot be this large.
    """
    model = rewrite.with_products_for_gemm(graph.load(clean))
    share = graph.product_share(model, shapes)
    if share < 0.5:
        raise Unsupported(
            "MatMulNBits packs the weights of matrix products only; they are "
            f"{percent(share)} of this model's multiply-adds, the rest is convolutions or products "
            "of activations"
        )
    wanted = target.options["group_size"]
    bits = BITS[target.precision]
    sizes = _group_sizes(model, wanted)
    if not sizes:
        raise Unsupported(
            "MatMulNBits packs matrices on the right of a product, and this model has none"
        )
    settings = {"bits": bits, "is_symmetric": False, "accuracy_level": _FLOAT32}
    with tool("MatMulNBitsQuantizer"):
        for size, names in sizes.items():
            others = [n.name for n in model.graph.node if n.name not in names]
            quantizer = MatMulNBitsQuantizer(
                model, block_size=size, nodes_to_exclude=others, **settings
            )
            quantizer.process()
            assert isinstance(quantizer.model, ONNXModel)
            model = quantizer.model.model
    save(model, out / FILE)
    return Provenance(
        FILE,
        "onnxruntime.MatMulNBitsQuantizer",
        {
            **settings,
            "quant_format": "QOperator",
            "skip_symbolic_shape": True,
            "block_size": {str(size): len(names) for size, names in sizes.items()},
        },
        count("MatMulNBitsQuantizer", out),
        (f"matrix products only: {percent(share)} of the multiply-adds",),
    )


def _group_sizes(model: onnx.ModelProto, wanted: int | None) -> dict[int, set[str]]:
    """Names of matrix products with constant weights, by group size.

    Args:
        wanted: group size; -1 for the length of the weights' input axis; None for the default.
    """
    weights = {t.name: list(t.dims) for t in model.graph.initializer}
    sizes: dict[int, set[str]] = defaultdict(set)
    for node in model.graph.node:
        shape = weights.get(node.input[1]) if node.op_type == "MatMul" else None
        if not shape or len(shape) < 2 or any(size != 1 for size in shape[:-2]):
            continue
        length = shape[-2]
        whole = next((size for size in GROUP_SIZES if size >= length), None)
        if wanted == -1 and whole is None:
            raise Unsupported(
                f"group_size -1: '{node.name}' has {length} weights along its input, and "
                f"MatMulNBits takes groups of {GROUP_SIZES[-1]} at most"
            )
        if wanted is None:
            size = min(DEFAULT_GROUP, whole or DEFAULT_GROUP)
        else:
            size = whole if wanted == -1 and whole else wanted
        sizes[size].add(node.name)
    return dict(sizes)
