"""What the TensorRT adapter reads off an engine: layers that real engines told, and fake engines.

The samples are what the engine inspector of real versions printed, shortened: NVIDIA/TensorRT
issues 3583 (9.1 on an A800), 4020 (10.1), 4397 (10.x, a transformer) and 2418 (8.5), the README of
its sample_editable_timing_cache (10.8), and the developer guide's section on the engine inspector.
"""

from __future__ import annotations

import json
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import fake_tensorrt
import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_tensorrt_build import ZOO, artifact, compiled, small

from qbench.kit.model import Calibration, PrepareTarget, RunConfig
from qbench.kit.operators import EffectivePrecision
from qbench.spec.precisions import complete_options
from qbench_tensorrt import Backend
from qbench_tensorrt.inspect import read_operators
from qbench_tensorrt.source import Node, read_nodes, write_nodes

ISSUE_3583 = {  # a 1x1 convolution of 9.1, with TF32 allowed
    "Name": "p2o.Conv.20 + p2o.BatchNormalization.20 + p2o.Add.10 + p2o.Relu.18",
    "LayerType": "CaskGemmConvolution",
    "Inputs": [
        {
            "Name": "relu_17.tmp_0",
            "Location": "Device",
            "Dimensions": [6, 128, 60, 92],
            "Format/Datatype": "Channel major FP32 format where channel % 4 == 0",
        },
        {
            "Name": "relu_15.tmp_0",
            "Location": "Device",
            "Dimensions": [6, 512, 60, 92],
            "Format/Datatype": "Channel major FP32 format where channel % 4 == 0",
        },
    ],
    "Outputs": [
        {
            "Name": "relu_18.tmp_0",
            "Location": "Device",
            "Dimensions": [6, 512, 60, 92],
            "Format/Datatype": "Channel major FP32 format where channel % 4 == 0",
        }
    ],
    "ParameterType": "Convolution",
    "Kernel": [1, 1],
    "OutMaps": 512,
    "Groups": 1,
    "Weights": {"Type": "Float", "Count": 65536},
    "Bias": {"Type": "Float", "Count": 512},
    "TacticName": "sm80_xmma_gemm_f32f32_tf32f32_f32_nn_n_tilesize64x128x16_stage4_"
    "warpsize2x2x1_tensor16x8x8",
    "TacticValue": "0x00000000000202f7",
    "StreamId": 0,
    "Metadata": "[ONNX Layer: p2o.Conv.20]\x1e[ONNX Layer: p2o.BatchNormalization.20]\x1e"
    "[ONNX Layer: p2o.Add.10]\x1e[ONNX Layer: p2o.Relu.18]",
}
GUIDE = {  # the developer guide's example of DETAILED
    "Name": "node_of_gpu_0/res4_0_branch2a_1 + node_of_gpu_0/res4_0_branch2a_bn_1",
    "LayerType": "CaskConvolution",
    "Inputs": [
        {
            "Name": "gpu_0/res3_3_branch2c_bn_3",
            "Dimensions": [16, 512, 28, 28],
            "Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format.",
        }
    ],
    "Outputs": [
        {
            "Name": "gpu_0/res4_0_branch2a_bn_2",
            "Dimensions": [16, 256, 28, 28],
            "Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format.",
        }
    ],
    "ParameterType": "Convolution",
    "Kernel": [1, 1],
    "OutMaps": 256,
    "Weights": {"Type": "Int8", "Count": 131072},
    "Bias": {"Type": "Float", "Count": 256},
    "TacticName": "sm80_xmma_fprop_implicit_gemm_interleaved_i8i8_i8i32_f32_nchw_vect_c_32kcrs_"
    "vect_c_32_nchw_vect_c_32_tilesize256x128x64_stage4_warpsize4x2x1_g1_tensor16x8x32",
    "TacticValue": "0x11bde0e1d9f2f35d",
}
PRODUCT = {  # a product of 10.8
    "Name": "matMul1_myl0_0",
    "LayerType": "gemm",
    "Inputs": [
        {"Name": "input", "Dimensions": [128, 128], "Format/Datatype": "Float"},
        {"Name": "weight1", "Dimensions": [128, 128], "Format/Datatype": "Float"},
        {"Name": "__mye34matMul1_alpha", "Dimensions": [1], "Format/Datatype": "Float"},
        {"Name": "__mye35matMul1_beta", "Dimensions": [1], "Format/Datatype": "Float"},
    ],
    "Outputs": [
        {"Name": "__myln_k_arg__bb1_4", "Dimensions": [128, 128], "Format/Datatype": "Float"}
    ],
    "TacticName": "sm80_xmma_gemm_f32f32_tf32f32_f32_nn_n_tilesize32x32x64_stage3_"
    "warpsize2x1x2_tensor16x8x8",
    "StreamId": 0,
    "Metadata": "",
}
SOFTMAX = {  # what follows it there
    "Name": "__myl_TraMaxSubExpSum_myl0_1",
    "LayerType": "kgen",
    "Inputs": [
        {"Name": "__myln_k_arg__bb1_4", "Dimensions": [128, 128], "Format/Datatype": "Float"}
    ],
    "Outputs": [{"Name": "sum", "Dimensions": [128, 1], "Format/Datatype": "Float"}],
    "TacticName": "__myl_TraMaxSubExpSum_0xcbcb71f14cb4526fd18f61134658c571",
    "StreamId": 0,
    "Metadata": "",
}
REFORMAT = {  # issue 4020
    "Name": "Reformatting CopyNode for Input Tensor 0 to resnetv15_conv0_fwd",
    "LayerType": "Reformat",
    "Inputs": [
        {
            "Name": "data",
            "Location": "Device",
            "Dimensions": [1, 3, 224, 224],
            "Format/Datatype": "Row major linear FP32",
        }
    ],
    "Outputs": [
        {
            "Name": "Reformatted Input Tensor 0 to resnetv15_conv0_fwd",
            "Location": "Device",
            "Dimensions": [1, 3, 224, 224],
            "Format/Datatype": "Row major Int8 format",
        }
    ],
    "ParameterType": "Reformat",
    "Origin": "REFORMAT",
    "TacticValue": "0x00000000000003e8",
    "StreamId": 0,
    "Metadata": "",
}
POOLING = {  # issue 2418
    "Name": "GlobalAveragePool_5",
    "LayerType": "CaskPooling",
    "Inputs": [
        {
            "Name": "input.12",
            "Location": "Device",
            "Dimensions": [1, 64, 540, 960],
            "Format/Datatype": "Channel major FP16 format where channel % 8 == 0",
        }
    ],
    "Outputs": [
        {
            "Name": "input.16",
            "Location": "Device",
            "Dimensions": [1, 64, 1, 1],
            "Format/Datatype": "Channel major FP16 format where channel % 8 == 0",
        }
    ],
    "TacticName": "sm50_xmma_pooling_fw_4d_FP16FP32NHWC_Average_FastDiv_GenericWindowWidth_CAlign4",
}


def told(*layers: Any, ports: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"Layers": list(layers), "Bindings": list(ports)}


def test_a_convolution_that_rounds_to_tf32() -> None:
    ports = ("relu_15.tmp_0", "relu_17.tmp_0")
    (op,) = read_operators(told(ISSUE_3583, ports=ports), {}, tf32=True)
    assert (op.role, op.precision, op.fallback) == ("compute", "tf32", False)
    assert op.macs == 6 * 512 * 60 * 92 * 128
    assert op.weight_bytes == 4 * (65536 + 512)
    assert op.activation_bytes == 4 * 6 * 60 * 92 * (128 + 512 + 512)
    assert op.layers == ("p2o.Conv.20", "p2o.BatchNormalization.20", "p2o.Add.10", "p2o.Relu.18")


def test_a_kernel_of_plain_float32_is_not_tf32_though_it_was_allowed() -> None:
    plain = {**PRODUCT, "TacticName": "sm80_xmma_gemm_f32f32_f32f32_f32_nn_n_tilesize32x32x8"}
    assert read_operators(told(plain, ports=("input",)), {}, tf32=True)[0].precision == "fp32"
    silent = {**PRODUCT, "TacticName": "matmul_kernel"}
    for allowed, word in ((True, "tf32"), (False, "fp32")):
        (op,) = read_operators(told(silent, ports=("input",)), {}, tf32=allowed)
        assert op.precision == word
    old = {**PRODUCT, "TacticName": "ampere_sgemm_32x32_sliced1x4_nn"}
    assert read_operators(told(old, ports=("input",)), {}, tf32=True)[0].precision == "fp32"


@pytest.mark.parametrize(
    ("tactic", "word"),
    [
        ("sm90_xmma_gemm_e4m3f32_e4m3f32_f32_tn_n_tilesize128x128x128", "fp8"),
        ("sm80_xmma_fprop_implicit_gemm_indexed_f16f16_f16f32_f32_nhwckrsc_nhwc", "fp16"),
        ("sm80_xmma_gemm_bf16bf16_bf16f32_f32_nn_n_tilesize64x64x64", "bf16"),
        ("sm80_xmma_gemm_i8f32_i8i32_f32_tn_n_tilesize32x32x64", "int8"),
    ],
)
def test_what_a_kernel_multiplies_stands_in_its_name(tactic: str, word: str) -> None:
    """Whatever its inputs and outputs are stored as."""
    layer = {**PRODUCT, "TacticName": tactic}
    assert read_operators(told(layer, ports=("input",)), {}, tf32=False)[0].precision == word


def test_an_int8_convolution() -> None:
    (op,) = read_operators(told(GUIDE, ports=("gpu_0/res3_3_branch2c_bn_3",)), {}, tf32=False)
    assert (op.role, op.precision) == ("compute", "int8")
    assert op.macs == 16 * 256 * 28 * 28 * 512
    assert op.weight_bytes == 131072 + 4 * 256
    assert op.activation_bytes == 16 * 28 * 28 * (512 + 256)


def test_a_product_and_what_follows_it() -> None:
    product, softmax = read_operators(told(PRODUCT, SOFTMAX, ports=("input", "sum")), {}, tf32=True)
    assert (product.role, product.precision, product.macs) == ("compute", "tf32", 128**3)
    assert product.weight_bytes == 4 * 128 * 128
    assert product.activation_bytes == 4 * (2 * 128 * 128 + 2)  # alpha and beta too
    assert (softmax.role, softmax.precision, softmax.macs) == ("other", "fp32", None)
    assert softmax.weight_bytes == 0


def half(name: str, *shape: int) -> dict[str, Any]:
    return {"Name": name, "Dimensions": list(shape), "Format/Datatype": "Half"}


QKV = {  # issue 4397: three products as one, whose weights are not listed
    "Name": "/encoder/layers_2/mha/attn/mha_prob/key/MatMul+/encoder/layers_2/mha/attn/mha_prob/"
    "query/MatMul+/encoder/layers_2/mha/attn/value/MatMul_myl0_16",
    "LayerType": "gemm",
    "Inputs": [half("__mye56053_20", 1, 40, 256)],
    "Outputs": [half("__mye56053", 3, 40, 256)],
    "TacticName": "sm80_xmma_gemm_f16f16_f16f16_f16_nn_n_tilesize32x32x64_stage6_warpsize2x2x1_"
    "tensor16x8x16",
    "StreamId": 0,
    "Metadata": "[ONNX Layer: key/MatMul]\x1f[ONNX Layer: key/Add]\x1f[ONNX Layer: query/MatMul]"
    "\x1f[ONNX Layer: query/Add]\x1f[ONNX Layer: value/MatMul]\x1f[ONNX Layer: value/Add]",
}
ATTENTION = {  # what follows it: parts of one tensor
    "Name": "_gemm_mha_v2_myl0_17",
    "LayerType": "kgen",
    "Inputs": [
        half("__mye56053", 4, 40, 64),
        half("__mye56053", 4, 64, 40),
        half("__mye55389_7", 1, 1, 40, 40),
        half("__mye56053", 4, 40, 64),
    ],
    "Outputs": [half("__mye54417", 4, 40, 64)],
    "TacticName": "_gemm_mha_v2_0x957a2fe283f77dcf35c142c1390a3e6a",
    "StreamId": 0,
    "Metadata": "[ONNX Layer: attn/MatMul]\x1f[ONNX Layer: attn/Softmax]\x1f"
    "[ONNX Layer: attn/MatMul_1]",
}


def test_a_transformers_layers() -> None:
    one = Node("MatMul", 40 * 256 * 256, 2 * 256 * 256)
    other = Node("MatMul", 4 * 40 * 64 * 40, 0)
    nodes = {f"{name}/MatMul": one for name in ("key", "query", "value")}
    nodes |= {"attn/MatMul": other, "attn/MatMul_1": other, "attn/Softmax": Node("Softmax")}
    products, attention = read_operators(told(QKV, ATTENTION), nodes, tf32=False)
    assert (products.role, products.precision) == ("compute", "fp16")
    assert products.macs == 3 * 40 * 256 * 256
    assert products.weight_bytes == 3 * 2 * 256 * 256
    assert products.activation_bytes == 2 * (40 * 256 + 3 * 40 * 256)
    assert (attention.role, attention.precision) == ("compute", "fp16")
    assert attention.macs == 2 * 4 * 40 * 64 * 40
    assert attention.weight_bytes == 0
    assert attention.activation_bytes == 2 * (3 * 4 * 40 * 64 + 40 * 40 + 4 * 40 * 64)


def test_weights_that_nothing_tells_are_not_known() -> None:
    (products,) = read_operators(told(QKV), {}, tf32=False)
    assert (products.weight_bytes, products.macs) == (None, None)


def test_reformatting_and_pooling_compute_nothing() -> None:
    copy, pool = read_operators(told(REFORMAT, POOLING, ports=("data", "input.12")), {}, tf32=True)
    assert (copy.role, copy.precision) == ("convert", None)
    assert copy.activation_bytes == 3 * 224 * 224 * (4 + 1)
    assert (pool.role, pool.precision) == ("other", "fp16")


def test_names_alone_are_refused() -> None:
    with pytest.raises(RuntimeError, match="compile it again"):
        read_operators(told("conv1 + relu1"), {}, tf32=False)


def test_sizes_that_are_not_told_are_not_known() -> None:
    tensor = {"Name": "x", "Dimensions": [-1, 8], "Format/Datatype": "N/A due to dynamic shapes"}
    layer = {"Name": "act", "LayerType": "PointWiseV2", "Inputs": [tensor], "Outputs": [tensor]}
    (op,) = read_operators(told(layer, ports=("x",)), {}, tf32=False)
    assert (op.precision, op.activation_bytes) == (None, None)


def test_work_of_a_fused_layer_is_that_of_its_nodes() -> None:
    """A fused attention tells no weights and no kernel size: only the ONNX file knows."""
    layer = {
        "Name": "_gemm_mha_v2_myl0_4",
        "LayerType": "kgen",
        "TacticName": "_gemm_mha_v2_0x1234",
        "Metadata": "\x1f".join(
            f"[ONNX Layer: {name}]" for name in ("/qk/MatMul", "/softmax", "/av/MatMul")
        ),
        "Inputs": [{"Name": "q", "Dimensions": [1, 2, 16, 8], "Datatype": "Half"}],
        "Outputs": [{"Name": "o", "Dimensions": [1, 2, 16, 8], "Datatype": "Half"}],
    }
    move = {**layer, "Name": "__myl_Move_myl0_3", "TacticName": "__myl_Move_0x1"}
    nodes = {
        "/qk/MatMul": Node("MatMul", 4096),
        "/softmax": Node("Softmax"),
        "/av/MatMul": Node("MatMul", 4096),
    }
    before, fused = read_operators(told(move, layer, ports=("q", "o")), nodes, tf32=False)
    assert (fused.role, fused.precision, fused.macs) == ("compute", "fp16", 8192)
    assert (before.role, before.macs) == ("other", None)


def test_a_product_that_no_kernel_names_is_the_last_layers() -> None:
    layer = {
        "Name": "__myl_FcAdd_myl0_1",
        "LayerType": "kgen",
        "TacticName": "__myl_FcAdd_0x1",
        "Metadata": "[ONNX Layer: fc]",
        "Inputs": [{"Name": "x", "Dimensions": [1, 8], "Datatype": "BFloat16"}],
        "Outputs": [{"Name": "y", "Dimensions": [1, 4], "Datatype": "BFloat16"}],
    }
    (op,) = read_operators(told(layer, ports=("x", "y")), {"fc": Node("Gemm", 32)}, tf32=False)
    assert (op.role, op.precision, op.macs) == ("compute", "bf16", 32)


def test_a_product_behind_a_cast_computes_in_its_weights_type() -> None:
    """A fused layer begins with what is cast in it; 4-bit weights are unpacked to the others."""
    layer = {
        "Name": "__myl_CastFc_myl0_0",
        "LayerType": "kgen",
        "TacticName": "__myl_CastFc_0x1",
        "Metadata": "[ONNX Layer: fc]",
        "Inputs": [{"Name": "x", "Dimensions": [1, 8], "Datatype": "Float"}],
        "Outputs": [half("y", 1, 4)],
    }
    for told_as, word in (("BFloat16", "bf16"), ("FP8", "fp8"), ("Int4", "fp32")):
        weights = {"Name": "w", "Dimensions": [8, 4], "Datatype": told_as}
        fused = {**layer, "Inputs": [*layer["Inputs"], weights]}
        (op,) = read_operators(told(fused, ports=("x", "y")), {"fc": Node("Gemm", 32)}, tf32=False)
        assert (op.role, op.precision) == ("compute", word)


def test_the_edges_of_many_layers_as_one_do_not_tell_their_precision() -> None:
    one = {
        "Name": "{ForeignNode[a...b]}",
        "LayerType": "Myelin",
        "Metadata": "[ONNX Layer: a]\x1f[ONNX Layer: b]",
        "Inputs": [{"Name": "x", "Dimensions": [1, 8], "Format/Datatype": "Row major linear FP32"}],
        "Outputs": [half("y", 1, 4)],
    }
    nodes = {"a": Node("MatMul", 64), "b": Node("MatMul", 32)}
    (op,) = read_operators(told(one, ports=("x", "y")), nodes, tf32=False)
    assert (op.role, op.precision, op.macs) == ("compute", None, 96)


@given(
    groups=st.integers(1, 5),
    m=st.integers(1, 40),
    k=st.integers(1, 40),
    n=st.integers(1, 40),
    flipped=st.booleans(),
    shared=st.booleans(),
)
def test_work_of_any_product(
    groups: int, m: int, k: int, n: int, flipped: bool, shared: bool
) -> None:
    """From shapes alone, with the second factor transposed or not, one for all or one for each."""
    second = [n, k] if flipped else [k, n]
    shapes = ([groups, m, k], second if shared else [groups, *second], [groups, m, n])
    tensors = [
        {"Name": name, "Dimensions": shape, "Format/Datatype": "Half"}
        for name, shape in zip("abc", shapes, strict=True)
    ]
    layer = {"Name": "p", "LayerType": "gemm", "Inputs": tensors[:2], "Outputs": tensors[2:]}
    (op,) = read_operators(told(layer, ports=("a",)), {}, tf32=False)
    assert op.macs == groups * m * k * n


@given(
    st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.lists(inner), max_leaves=5)
)
def test_metadata_never_breaks_reading(junk: Any) -> None:
    layer = {**PRODUCT, "Metadata": f"[ONNX Layer: {junk}", "TacticName": str(junk)}
    assert read_operators(told(layer), {}, tf32=False)[0].role == "compute"


# --------------------------------------------------------------------------- whole engines


@pytest.fixture(params=["10", "11"])
def trt(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    return fake_tensorrt.install(monkeypatch, request.param)


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("name", ["digits_cnn", "digits_mobilenet", "digits_vit"])
def test_both_versions_tell_the_same(trt: Any, tmp_path: Path, name: str, batch: int) -> None:
    """The work is that of the ONNX file, counted by another's arithmetic (qbench's own count of
    one item), however the version words it."""
    from qbench.kit.onnxfile import graph

    model = onnx.load(ZOO / f"{name}.onnx")
    out, _ = compiled(tmp_path, artifact(tmp_path / "in", model), batch=batch)
    layers = json.loads((out / "layers.json").read_text())
    found = read_operators(layers, read_nodes(out), tf32=False)
    summary = EffectivePrecision.of(found)
    (picture,) = graph.real_inputs(model.graph)
    sized = graph.sized(model, {picture.name: [1, *graph.shape_of(picture)[1:]]})
    one = sum(amount for _, amount, _ in graph._multiply_adds(sized.graph))
    assert summary.precision == "fp32"
    assert summary.macs == {"fp32": batch * one}
    assert summary.weight_bytes is not None and summary.activation_bytes is not None


@pytest.mark.parametrize("precision", ["bf16", "fp16", "int8-static"])
@pytest.mark.parametrize("name", ["digits_cnn", "digits_vit"])
def test_what_was_prepared_is_what_runs(
    trt: Any, tmp_path: Path, name: str, precision: str
) -> None:
    """The files that the adapter itself makes, through compiling and back."""
    source = artifact(tmp_path / "in", onnx.load(ZOO / f"{name}.onnx"))
    target = PrepareTarget(precision, complete_options(precision, {}), device="cuda")
    rng = np.random.default_rng(0)
    items = {
        n: rng.random((16, *spec.at(1)[1:]), np.float32) for n, spec in source.model.inputs.items()
    }
    folder = tmp_path / "prepared"
    folder.mkdir()
    calibration = Calibration(items) if precision == "int8-static" else None
    provenance = Backend().prepare(source.model, target, calibration, folder)
    prepared = replace(source, path=folder, target=target, provenance=provenance)
    out, provenance = compiled(tmp_path, prepared)
    engine = replace(prepared, path=out, provenance=provenance)
    with Backend().open(engine, RunConfig(device="cuda:0"), inspect=True) as opened:
        found = opened.effective()
    assert found.precision == precision.partition("-")[0]
    assert found.macs is not None
    assert found.macs[found.precision] > 0.8 * sum(found.macs.values())
    parameters = sum(prod(tensor.dims) for tensor in onnx.load(source.file).graph.initializer)
    size = {"bf16": 2, "fp16": 2, "int8": 1}[found.precision]
    assert found.weight_bytes is not None
    assert found.weight_bytes == pytest.approx(size * parameters, rel=0.25)  # biases, what stays


def test_unnamed_nodes_are_named_as_the_parser_does(tmp_path: Path) -> None:
    model = small()
    del model.graph.node[:]
    for read, made in (("x", "a"), ("a", "b")):
        model.graph.node.append(onnx.helper.make_node("Relu", [read], [made]))
    for made in ("c", "d"):
        model.graph.node.append(onnx.helper.make_node("MatMul", ["b", "w"], [made], name="same"))
    onnx.save(model, tmp_path / "model.onnx")
    write_nodes(tmp_path / "model.onnx", {"x": (1, 8)}, tmp_path)
    assert read_nodes(tmp_path) == {
        "node_of_a": Node("Relu"),
        "node_of_b": Node("Relu"),
        "same": Node("MatMul"),  # whose work is whose cannot be told
    }


def test_nodes_of_a_file(tmp_path: Path) -> None:
    onnx.save(small(), tmp_path / "model.onnx")
    write_nodes(tmp_path / "model.onnx", {"x": (3, 8)}, tmp_path)
    product = Node("MatMul", 3 * 8 * 4, weight_bytes=4 * 8 * 4)
    assert read_nodes(tmp_path) == {"product": product, "relu": Node("Relu")}


def test_work_behind_an_unknown_operator_is_not_known(tmp_path: Path) -> None:
    """Shape inference knows nothing of what it puts out, be it an output of the file: no scalar."""
    model = small()
    model.graph.node.insert(0, onnx.helper.make_node("Plugin", ["x"], ["p"], domain="own"))
    model.opset_import.append(onnx.helper.make_opsetid("own", 1))
    model.graph.node[1].input[0] = "p"
    model.graph.node[1].output[0] = model.graph.output[0].name
    del model.graph.node[2:]
    model.graph.output.append(onnx.helper.make_tensor_value_info("p", 1, None))
    onnx.save(model, tmp_path / "model.onnx")
    write_nodes(tmp_path / "model.onnx", {"x": (3, 8)}, tmp_path)
    assert read_nodes(tmp_path)["product"] == Node("MatMul", None, weight_bytes=4 * 8 * 4)


def program(tmp_path: Path, precision: str = "fp32", **config: Any) -> Any:
    """An opened engine of the small model."""
    source = artifact(tmp_path / "in", small(), precision)
    out, provenance = compiled(tmp_path, source, **config)
    settings = RunConfig(**{"device": "cuda:0", **config})
    engine = replace(source, path=out, provenance=provenance)
    return Backend().open(engine, settings, inspect=True)


@pytest.mark.parametrize("precision", ["fp32", "tf32"])
def test_effective_precision(trt: Any, tmp_path: Path, precision: str) -> None:
    with program(tmp_path, precision, batch=2) as opened:
        found = opened.effective()
    assert found.precision == precision
    assert found.macs == {precision: 2 * 8 * 4}
    assert found.fallback_ops == 0
    assert any("tf32" in note for note in found.notes) is (precision == "tf32")


@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp16", "bf16", "fp8"])
def test_what_nobody_tells_counts_as_asked_for(trt: Any, tmp_path: Path, precision: str) -> None:
    """With a note, so that no case is refused for what is not known."""
    with program(tmp_path, precision) as opened:
        file = opened._artifact.path / "layers.json"
        told = json.loads(file.read_text())
        for layer in told["Layers"]:
            layer["TacticName"] = ""
            for tensor in (*layer["Inputs"], *layer["Outputs"]):
                for key in ("Datatype", "Format/Datatype"):
                    tensor.pop(key, None)
        file.write_text(json.dumps(told))
        silent = opened.effective()
        file.write_text(json.dumps({**told, "Layers": []}))
        empty = opened.effective()
    assert "1 of 1 computing layers report no precision" in silent.notes
    for found in (silent, empty):
        assert found.precision == precision
        assert any(f"counts as {precision}, as requested" in note for note in found.notes)


def test_profile(trt: Any, tmp_path: Path) -> None:
    feed = {"x": np.ones((2, 8), np.float32)}
    with program(tmp_path, batch=2) as opened:
        profile = opened.profile(feed, runs=3)
    assert [(op.kind, op.ns) for op in profile.operators] == [("gemm", pytest.approx(250_000))]
    assert profile.operators[0].layers == ("product", "relu")
    assert any("CUDA graph" in note for note in profile.notes)


def test_a_profile_gives_its_memory_back(trt: Any, tmp_path: Path) -> None:
    with program(tmp_path, batch=2) as opened:
        opened.stream()
        before = opened.device_memory_bytes()
        opened.profile({"x": np.ones((2, 8), np.float32)}, runs=1)
        assert opened.device_memory_bytes() == before


def test_times_that_are_all_zero_were_not_measured(trt: Any, tmp_path: Path) -> None:
    trt._fake.layer_ms = 0.0
    with program(tmp_path, batch=2) as opened, pytest.raises(RuntimeError, match="all of them"):
        opened.profile({"x": np.ones((2, 8), np.float32)}, runs=3)
