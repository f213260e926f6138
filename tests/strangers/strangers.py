"""Small models of the structures that strangers bring, as ONNX files: made here, none committed.

Each function ``NAME(folder)`` writes one model into ``folder`` and returns its file. Weights are
drawn from a fixed seed. The models of other formats are in ``other_formats.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, parser

Build = Callable[[Path], Path]


@dataclass(frozen=True)
class Stranger:
    """A model, and what a stranger types to run it.

    Attributes:
        structure: what is special about it, in a few words.
        options: options of ``qbench run`` that give its free sizes a value.
    """

    name: str
    structure: str
    build: Build
    options: tuple[str, ...] = ()


STRANGERS: dict[str, Stranger] = {}


def stranger(structure: str, *options: str) -> Callable[[Build], Build]:
    def add(build: Build) -> Build:
        STRANGERS[build.__name__] = Stranger(build.__name__, structure, build, options)
        return build

    return add


def drawn(*shape: int, seed: int = 0, scale: float = 0.3) -> np.ndarray:
    """Weights of a layer, float32."""
    return (np.random.RandomState(seed).standard_normal(shape) * scale).astype(np.float32)


HEAD = '<ir_version: 9, opset_import: ["" : %d, "com.microsoft" : 1, "ai.onnx.ml" : 3]>'


def made(graph: str, opset: int = 17, **weights: np.ndarray) -> onnx.ModelProto:
    """The model of a graph in ONNX's text form; ``weights`` become its initializers."""
    model = parser.parse_model(f"{HEAD % opset} net {graph}")
    model.graph.initializer.extend(numpy_helper.from_array(w, n) for n, w in weights.items())
    return model


def saved(folder: Path, name: str, model: onnx.ModelProto) -> Path:
    path = folder / f"{name}.onnx"
    path.write_bytes(model.SerializeToString(deterministic=True))
    return path


def net(folder: Path, name: str, graph: str, opset: int = 17, **weights: np.ndarray) -> Path:
    return saved(folder, name, made(graph, opset, **weights))


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


# Pictures

CONV = """{
    c = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (images, w, b)
    r = Relu (c)
    p = GlobalAveragePool (r)
    f = Flatten (p)
    scores = Gemm (f, v, u)
}"""


def conv_weights() -> dict[str, np.ndarray]:
    return {
        "w": drawn(8, 3, 3, 3, seed=1),
        "b": drawn(8, seed=2),
        "v": drawn(8, 4, seed=3, scale=1),
        "u": drawn(4, seed=4),
    }


@stranger("convolutions, free height and width", "--size", "H=16,W=12")
def conv_free(folder: Path) -> Path:
    graph = f"(float[N,3,H,W] images) => (float[N,4] scores) {CONV}"
    return net(folder, "conv_free", graph, **conv_weights())


@stranger("convolutions, dense output, free height and width", "--shape", "images=1x3x16x12")
def conv_dense(folder: Path) -> Path:
    graph = """(float[N,3,H,W] images) => (float[N,2,H,W] mask) {
        c = Conv <pads = [1, 1, 1, 1]> (images, w, b)
        r = Relu (c)
        mask = Conv (r, v, u)
    }"""
    weights = {**conv_weights(), "v": drawn(2, 8, 1, 1, seed=3), "u": drawn(2, seed=4)}
    return net(folder, "conv_dense", graph, **weights)


def with_sizes(model: onnx.ModelProto, name: str, *sizes: int) -> onnx.ModelProto:
    """Write these sizes into the file, also those that stand for no size: -1 and 0."""
    (value,) = (i for i in model.graph.input if i.name == name)
    for dim, size in zip(value.type.tensor_type.shape.dim, sizes, strict=True):
        dim.dim_value = size
    return model


@stranger("sizes of -1 in the file", "--shape", "images=1x3x16x12")
def conv_minus_one(folder: Path) -> Path:
    model = made(f"(float[N,3,H,W] images) => (float[N,4] scores) {CONV}", **conv_weights())
    return saved(folder, "conv_minus_one", with_sizes(model, "images", -1, 3, -1, -1))


@stranger("sizes of 0 in the file", "--shape", "images=1x3x16x12")
def conv_zero(folder: Path) -> Path:
    model = made(f"(float[N,3,H,W] images) => (float[N,4] scores) {CONV}", **conv_weights())
    return saved(folder, "conv_zero", with_sizes(model, "images", 0, 3, 0, 0))


@stranger("sizes called ?, as Paddle does, and an input called x", "--shape", "x=1x3x16x12")
def conv_nameless(folder: Path) -> Path:
    model = made(f"(float[?,3,?,?] images) => (float[?,4] scores) {CONV}", **conv_weights())
    model.graph.input[0].name = model.graph.node[0].input[0] = "x"
    for value in (*model.graph.input, *model.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if not dim.dim_value:
                dim.dim_param = "?"
    return saved(folder, "conv_nameless", model)


@stranger("an input of unknown rank", "--shape", "images=1x3x16x12")
def unknown_rank(folder: Path) -> Path:
    model = made(f"(float[N,3,H,W] images) => (float[N,4] scores) {CONV}", **conv_weights())
    model.graph.input[0].type.tensor_type.ClearField("shape")
    model.graph.output[0].type.tensor_type.ClearField("shape")
    return saved(folder, "unknown_rank", model)


@stranger("fixed at batch 1")
def fixed_1(folder: Path) -> Path:
    graph = f"(float[1,3,16,16] images) => (float[1,4] scores) {CONV}"
    return net(folder, "fixed_1", graph, **conv_weights())


@stranger("fixed at batch 2")
def fixed_2(folder: Path) -> Path:
    graph = f"(float[2,3,16,16] images) => (float[2,4] scores) {CONV}"
    return net(folder, "fixed_2", graph, **conv_weights())


@stranger("fixed at batch 1 by a Reshape, though the file says N")
def reshape_to_1(folder: Path) -> Path:
    graph = """(float[N,8] x) => (float[M,4] y) {
        r = Reshape (x, shape)
        y = MatMul (r, w)
    }"""
    return net(folder, "reshape_to_1", graph, shape=ints(1, 8), w=drawn(8, 4))


@stranger("picture sizes in the metadata (a YOLO's imgsz)")
def imgsz(folder: Path) -> Path:
    graph = """(float[batch,3,height,width] images) => (float[batch,6,anchors] output0) {
        c = Conv <pads = [1, 1, 1, 1], strides = [8, 8]> (images, w, b)
        output0 = Reshape (c, shape)
    }"""
    model = made(graph, w=drawn(6, 3, 3, 3), b=drawn(6), shape=ints(0, 6, -1))
    facts = {"task": "detect", "stride": "8", "imgsz": "[32, 24]", "names": "{0: 'a', 1: 'b'}"}
    helper.set_model_props(model, facts)
    return saved(folder, "imgsz", model)


@stranger("uint8 pictures, channels last")
def uint8_pixels(folder: Path) -> Path:
    graph = f"""(uint8[N,16,16,3] pixels) => (float[N,4] scores) {{
        f32 = Cast <to = 1> (pixels)
        scaled = Mul (f32, scale)
        images = Transpose <perm = [0, 3, 1, 2]> (scaled)
        {CONV.strip("{}")}
    }}"""
    return net(folder, "uint8_pixels", graph, scale=floats(1 / 255), **conv_weights())


@stranger("float16 throughout")
def half(folder: Path) -> Path:
    graph = f"(float16[N,3,16,16] images) => (float16[N,4] scores) {CONV}"
    weights = {name: array.astype(np.float16) for name, array in conv_weights().items()}
    return net(folder, "half", graph, **weights)


NMS = "NonMaxSuppression (boxes, scores, most, overlap, least)"


def nms_limits() -> dict[str, np.ndarray]:
    return {"most": ints(5), "overlap": floats(0.5), "least": floats(0.1)}


@stranger("NonMaxSuppression: rows depend on the data")
def nms_rows(folder: Path) -> Path:
    graph = f"(float[1,10,4] boxes, float[1,2,10] scores) => (int64[n,3] kept) {{ kept = {NMS} }}"
    return net(folder, "nms_rows", graph, **nms_limits())


@stranger("NonMaxSuppression with a free batch", "--size", "N=1")
def nms_free_batch(folder: Path) -> Path:
    graph = f"(float[N,10,4] boxes, float[N,2,10] scores) => (int64[n,3] kept) {{ kept = {NMS} }}"
    return net(folder, "nms_free_batch", graph, **nms_limits())


@stranger("constant anchors as an output")
def anchors(folder: Path) -> Path:
    graph = """(float[N,8] x) => (float[N,10] scores, float[10,4] anchors) {
        scores = MatMul (x, w)
        anchors = Identity (table)
    }"""
    return net(folder, "anchors", graph, w=drawn(8, 10), table=drawn(10, 4, scale=1))


@stranger("class indices as the only output")
def argmax(folder: Path) -> Path:
    graph = """(float[N,3,16,16] images) => (int64[N] label) {
        c = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (images, w, b)
        r = Relu (c)
        p = GlobalAveragePool (r)
        f = Flatten (p)
        scores = Gemm (f, v, u)
        label = ArgMax <axis = 1, keepdims = 0> (scores)
    }"""
    return net(folder, "argmax", graph, **conv_weights())


# Text

ATTENTION = """
    e = Gather (words, input_ids)
    q = MatMul (e, wq)
    k = MatMul (e, wk)
    kt = Transpose <perm = [0, 2, 1]> (k)
    s = MatMul (q, kt)
    masked = Add (s, penalty)
    a = Softmax <axis = -1> (masked)
    x = MatMul (a, e)
"""


def attention_weights() -> dict[str, np.ndarray]:
    return {
        "words": drawn(30, 8, seed=1, scale=1),
        "wq": drawn(8, 8, seed=2),
        "wk": drawn(8, 8, seed=3),
    }


@stranger("encoder with a mask as (1 - mask) * -3.4e38", "--size", "L=12")
def encoder_mask(folder: Path) -> Path:
    graph = f"""(int64[N,L] input_ids, int64[N,L] attention_mask) => (float[N,L,8] hidden) {{
        m = Cast <to = 1> (attention_mask)
        inverse = Sub (one, m)
        wide = Unsqueeze (inverse, axis)
        penalty = Mul (wide, least)
        {ATTENTION}
        hidden = LayerNormalization (x, gain, bias)
    }}"""
    extra = {"one": floats(1), "axis": ints(1), "least": floats(np.finfo(np.float32).min)}
    norm = {"gain": np.ones(8, np.float32), "bias": np.zeros(8, np.float32)}
    return net(folder, "encoder_mask", graph, **attention_weights(), **extra, **norm)


@stranger("encoder with position and token type ids", "--size", "L=12")
def encoder_positions(folder: Path) -> Path:
    graph = f"""(int64[N,L] input_ids, int64[N,L] token_type_ids, int64[N,L] position_ids,
                 int64[N,L] attention_mask) => (float[N,8] pooled) {{
        m = Cast <to = 1> (attention_mask)
        inverse = Sub (one, m)
        wide = Unsqueeze (inverse, axis)
        penalty = Mul (wide, least)
        {ATTENTION}
        t = Gather (types, token_type_ids)
        p = Gather (positions, position_ids)
        xt = Add (x, t)
        xp = Add (xt, p)
        pooled = ReduceMean <axes = [1], keepdims = 0> (xp)
    }}"""
    tables = {"types": drawn(2, 8, seed=5), "positions": drawn(16, 8, seed=6)}
    extra = {"one": floats(1), "axis": ints(1), "least": floats(-10000)}
    return net(folder, "encoder_positions", graph, **attention_weights(), **tables, **extra)


@stranger("a mask of bool", "--size", "L=12")
def bool_mask(folder: Path) -> Path:
    graph = f"""(int64[N,L] input_ids, bool[N,L] mask) => (float[N,L,8] x) {{
        wide = Unsqueeze (mask, axis)
        penalty = Where (wide, zero, least)
        {ATTENTION}
    }}"""
    extra = {"axis": ints(1), "zero": floats(0), "least": floats(-10000)}
    return net(folder, "bool_mask", graph, **attention_weights(), **extra)


@stranger("an embedding of 5 rows")
def gather_5(folder: Path) -> Path:
    graph = """(int64[N,4] ids) => (float[N,3] y) {
        e = Gather (table, ids)
        m = ReduceMean <axes = [1], keepdims = 0> (e)
        y = MatMul (m, w)
    }"""
    return net(folder, "gather_5", graph, table=drawn(5, 6, scale=1), w=drawn(6, 3))


@stranger("a decoder's step: GroupQueryAttention, 4 heads and 2 kv heads")
def group_query(folder: Path) -> Path:
    graph = """(float[1,1,32] x, float[1,2,8,8] past_keys, float[1,2,8,8] past_values) =>
               (float[1,1,32] y) {
        q = MatMul (x, wq)
        k = MatMul (x, wk)
        v = MatMul (x, wv)
        y, keys, values = com.microsoft.GroupQueryAttention <num_heads = 4, kv_num_heads = 2>
            (q, k, v, past_keys, past_values, before, total)
    }"""
    weights = {"wq": drawn(32, 32), "wk": drawn(32, 16, seed=1), "wv": drawn(32, 16, seed=2)}
    counts = {"before": np.array([5], np.int32), "total": np.array(6, np.int32)}
    return net(folder, "group_query", graph, **counts, **weights)


@stranger("strings as input")
def strings(folder: Path) -> Path:
    graph = """(string[N] words) => (int64[N] ids) {
        ids = ai.onnx.ml.LabelEncoder
            <keys_strings = ["a", "b"], values_int64s = [1, 2], default_int64 = 0> (words)
    }"""
    return net(folder, "strings", graph)


# Tables


@stranger("tabular perceptron")
def mlp(folder: Path) -> Path:
    graph = """(float[N,13] features) => (float[N,2] scores) {
        h = Gemm (features, w, b)
        r = Relu (h)
        o = Gemm (r, v, u)
        scores = Softmax <axis = 1> (o)
    }"""
    weights = {"w": drawn(13, 32), "b": drawn(32), "v": drawn(32, 2, scale=1), "u": drawn(2)}
    return net(folder, "mlp", graph, **weights)


def trees(outputs: str, tail: str = "") -> onnx.ModelProto:
    """A forest of two stumps over 4 features, three classes."""
    return made(f"""(float[N,4] features) => ({outputs}) {{
        label, probabilities = ai.onnx.ml.TreeEnsembleClassifier <
            class_ids = [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2],
            class_nodeids = [1, 1, 1, 2, 2, 2, 1, 1, 1, 2, 2, 2],
            class_treeids = [0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1],
            class_weights = [0.3, 0.1, 0.1, 0.1, 0.35, 0.05, 0.2, 0.2, 0.1, 0.05, 0.1, 0.35],
            classlabels_int64s = [0, 1, 2], nodes_falsenodeids = [2, 0, 0, 2, 0, 0],
            nodes_featureids = [0, 0, 0, 2, 0, 0], nodes_hitrates = [1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
            nodes_missing_value_tracks_true = [0, 0, 0, 0, 0, 0],
            nodes_modes = ["BRANCH_LEQ", "LEAF", "LEAF", "BRANCH_LEQ", "LEAF", "LEAF"],
            nodes_nodeids = [0, 1, 2, 0, 1, 2], nodes_treeids = [0, 0, 0, 1, 1, 1],
            nodes_truenodeids = [1, 0, 0, 1, 0, 0], nodes_values = [0.2, 0.0, 0.0, -0.3, 0.0, 0.0],
            post_transform = "NONE"> (features)
        {tail}
    }}""")


@stranger("tree ensemble (ai.onnx.ml)")
def tree_ensemble(folder: Path) -> Path:
    return saved(folder, "tree_ensemble", trees("int64[N] label, float[N,3] probabilities"))


@stranger("tree ensemble as scikit-learn exports it: a sequence of maps")
def zipmap(folder: Path) -> Path:
    told = "told = ai.onnx.ml.ZipMap <classlabels_int64s = [0, 1, 2]> (probabilities)"
    return saved(folder, "zipmap", trees("int64[N] label, seq(map(int64, float)) told", told))


@stranger("dense [N,13] with offsets [4,N]", "--batch-axis", "offsets=1")
def dlrm(folder: Path) -> Path:
    graph = """(float[N,13] dense, int64[4,N] offsets) => (float[N,1] click) {
        d = MatMul (dense, w)
        e = Gather (table, offsets)
        s = ReduceSum <keepdims = 0> (e, axis)
        sum = Add (d, s)
        r = Relu (sum)
        o = MatMul (r, v)
        click = Sigmoid (o)
    }"""
    weights = {"w": drawn(13, 8), "table": drawn(20, 8, seed=1), "v": drawn(8, 1, seed=2, scale=1)}
    return net(folder, "dlrm", graph, axis=ints(0), **weights)


@stranger("weights and inputs of float64")
def double(folder: Path) -> Path:
    graph = """(double[N,6] x) => (double[N,3] y) {
        h = MatMul (x, w)
        y = Add (h, b)
    }"""
    return net(
        folder, "double", graph, w=drawn(6, 3).astype(np.float64), b=drawn(3).astype(np.float64)
    )


@stranger("Log of the input")
def log(folder: Path) -> Path:
    graph = """(float[N,8] x) => (float[N,4] y) {
        l = Log (x)
        y = MatMul (l, w)
    }"""
    return net(folder, "log", graph, w=drawn(8, 4))


@stranger("NaN in one weight")
def nan_weight(folder: Path) -> Path:
    weight = drawn(8, 4)
    weight[3, 2] = np.nan
    return net(
        folder, "nan_weight", "(float[N,8] x) => (float[N,4] y) { y = MatMul (x, w) }", w=weight
    )


@stranger("no inputs at all")
def no_inputs(folder: Path) -> Path:
    graph = "() => (float[2,3] y) { y = Add (a, b) }"
    return net(folder, "no_inputs", graph, a=drawn(2, 3), b=drawn(2, 3, seed=1))


@stranger("a scalar input of int64")
def scalar_input(folder: Path) -> Path:
    graph = """(float[N,8] x, int64 rate) => (float[N,4] y) {
        h = MatMul (x, w)
        r = Cast <to = 1> (rate)
        y = Mul (h, r)
    }"""
    return net(folder, "scalar_input", graph, w=drawn(8, 4))


@stranger("If on a scalar rate: all that computes is in its branches, and one takes other sizes")
def if_rate(folder: Path) -> Path:
    graph = """(float[N,8] x, int64 rate) => (float[N,4] y) {
        wide = Equal (rate, wide_rate)
        y = If (wide) <
            then_branch = wide_branch () => (float[N,4] t) { t = MatMul (x, v) },
            else_branch = narrow_branch () => (float[N,4] e) {
                half = Reshape (x, of_4)
                e = MatMul (half, u)
            }
        >
    }"""
    branches = {"v": drawn(8, 4, seed=1), "u": drawn(4, 4, seed=2), "of_4": ints(1, 4)}
    return net(folder, "if_rate", graph, wide_rate=np.array(16000), **branches)


@stranger("a scalar as an output")
def scalar_output(folder: Path) -> Path:
    graph = """(float[N,8] x) => (float[N,4] y, float loss) {
        y = MatMul (x, w)
        loss = ReduceMean <keepdims = 0> (y)
    }"""
    return net(folder, "scalar_output", graph, w=drawn(8, 4))


@stranger("a sequence of tensors as an output")
def sequence(folder: Path) -> Path:
    graph = """(float[N,8] x) => (float[N,8] y, seq(float[N,4]) parts) {
        y = Relu (x)
        parts = SplitToSequence <axis = 1> (y, four)
    }"""
    return net(folder, "sequence", graph, four=np.array(4, np.int64))


@stranger("random numbers in the graph")
def noise(folder: Path) -> Path:
    graph = """(float[N,8] x) => (float[N,8] y) {
        n = RandomNormalLike (x)
        y = Add (x, n)
    }"""
    return net(folder, "noise", graph)


# Sequences and states


def lstm_weights(size: int, hidden: int) -> dict[str, np.ndarray]:
    return {
        "W": drawn(1, 4 * hidden, size, seed=1),
        "R": drawn(1, 4 * hidden, hidden, seed=2),
        "B": drawn(1, 8 * hidden, seed=3),
    }


@stranger("LSTM, time first: [T,N,C]", "--size", "T=7", "--batch-axis", "x=1")
def lstm_tnc(folder: Path) -> Path:
    graph = """(float[T,N,6] x) => (float[T,N,5] y) {
        all = LSTM <hidden_size = 5> (x, W, R, B)
        y = Squeeze (all, axis)
    }"""
    return net(folder, "lstm_tnc", graph, axis=ints(1), **lstm_weights(6, 5))


@stranger("a recurrent state [2,N,64]", "--batch-axis", "state=1")
def state(folder: Path) -> Path:
    graph = """(float[N,16] x, float[2,N,64] state) => (float[N,1] y, float[2,N,64] state_out) {
        i = MatMul (x, w)
        wide = Unsqueeze (i, axis)
        sum = Add (state, wide)
        state_out = Tanh (sum)
        last = ReduceMean <axes = [0], keepdims = 0> (state_out)
        y = MatMul (last, v)
    }"""
    weights = {"w": drawn(16, 64), "v": drawn(64, 1, seed=1)}
    return net(folder, "state", graph, axis=ints(0), **weights)


@stranger(
    "speech activity: audio, state [2,N,16] and a scalar rate",
    "--size",
    "L=32",
    "--batch-axis",
    "state=1",
)
def vad(folder: Path) -> Path:
    graph = """(float[N,L] input, float[2,N,16] state, int64 sr) =>
               (float[N,1] output, float[2,N,16] stateN) {
        wide = Unsqueeze (input, axis1)
        c = Conv <strides = [8]> (wide, k)
        r = Relu (c)
        p = ReduceMean <axes = [2], keepdims = 0> (r)
        x = Unsqueeze (p, axis0)
        h, c0 = Split <axis = 0> (state)
        all, hn, cn = LSTM <hidden_size = 16> (x, W, R, B, , h, c0)
        stateN = Concat <axis = 0> (hn, cn)
        last = Squeeze (hn, axis0)
        o = MatMul (last, v)
        rate = Cast <to = 1> (sr)
        share = Div (rate, full)
        scaled = Mul (o, share)
        output = Sigmoid (scaled)
    }"""
    weights = {"k": drawn(8, 1, 8), "v": drawn(16, 1, scale=1), **lstm_weights(8, 16)}
    return net(folder, "vad", graph, axis0=ints(0), axis1=ints(1), full=floats(16000), **weights)


@stranger("streaming LSTM cell, states h and c, fixed at batch 1")
def lstm_cell(folder: Path) -> Path:
    graph = """(float[1,1,8] x, float[1,1,16] h, float[1,1,16] c) =>
               (float[1,1,4] y, float[1,1,16] hn, float[1,1,16] cn) {
        all, hn, cn = LSTM <hidden_size = 16> (x, W, R, B, , h, c)
        y = MatMul (hn, v)
    }"""
    return net(folder, "lstm_cell", graph, v=drawn(16, 4), **lstm_weights(8, 16))


@stranger("one-dimensional convolutions over free time", "--size", "T=50")
def conv_time(folder: Path) -> Path:
    graph = """(float[N,1,T] audio) => (float[N,4,F] features) {
        c = Conv <strides = [4], pads = [2, 2]> (audio, w)
        r = Relu (c)
        features = Conv (r, v)
    }"""
    return net(folder, "conv_time", graph, w=drawn(8, 1, 5), v=drawn(4, 8, 3))


# Files of more than one part, and files that are none


def external(folder: Path, name: str, locations: Mapping[str, str]) -> Path:
    """``mlp`` with its weights in further files: location by weight."""
    model = onnx.load(mlp(folder))
    offsets = dict.fromkeys(locations.values(), 0)
    for tensor in model.graph.initializer:
        data, location = tensor.raw_data, locations[tensor.name]
        file = folder / location
        file.parent.mkdir(exist_ok=True)
        with file.open("ab") as out:
            out.write(data)
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        place = {"location": location, "offset": offsets[location], "length": len(data)}
        for key, value in place.items():
            tensor.external_data.add(key=key, value=str(value))
        offsets[location] += len(data)
    (folder / "mlp.onnx").unlink()
    return saved(folder, name, model)


@stranger("weights in weights.pb")
def weights_pb(folder: Path) -> Path:
    return external(folder, "weights_pb", dict.fromkeys("wbvu", "weights.pb"))


@stranger("weights in one file a tensor")
def weights_each(folder: Path) -> Path:
    return external(folder, "weights_each", {name: f"net.{name}" for name in "wbvu"})


@stranger("weights in a folder below")
def weights_below(folder: Path) -> Path:
    return external(folder, "weights_below", dict.fromkeys("wbvu", "weights/all.bin"))


@stranger("weights that are missing")
def weights_missing(folder: Path) -> Path:
    path = external(folder, "weights_missing", dict.fromkeys("wbvu", "gone.bin"))
    (folder / "gone.bin").unlink()
    return path


@stranger("not a model at all")
def not_a_model(folder: Path) -> Path:
    path = folder / "not_a_model.onnx"
    path.write_text("<html>404: Not Found</html>\n" * 20)
    return path


# Files that are quantized, and operators that quantizers meet


@stranger("a file of MatMulInteger: dynamic int8")
def matmul_integer(folder: Path) -> Path:
    graph = """(float[N,16] x) => (float[N,8] y) {
        q, s, z = DynamicQuantizeLinear (x)
        i = MatMulInteger (q, w, z, wz)
        f = Cast <to = 1> (i)
        both = Mul (s, ws)
        y = Mul (f, both)
    }"""
    weights = np.random.RandomState(0).randint(-127, 128, (16, 8)).astype(np.int8)
    zero = np.array(0, np.int8)
    return net(folder, "matmul_integer", graph, w=weights, wz=zero, ws=np.float32([0.01]))


@stranger("one Q/DQ pair on the input of a float network")
def one_pair(folder: Path) -> Path:
    graph = f"""(float[N,3,16,16] x) => (float[N,4] scores) {{
        q = QuantizeLinear (x, s, z)
        images = DequantizeLinear (q, s, z)
        {CONV.strip("{}")}
    }}"""
    scale = {"s": np.array(0.03, np.float32), "z": np.array(128, np.uint8)}
    return net(folder, "one_pair", graph, opset=19, **scale, **conv_weights())


def rounded(array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """int8 values and one scale for ``array``."""
    scale = np.abs(array).max() / 127
    return np.round(array / scale).astype(np.int8), np.array(scale, np.float32)


@stranger("a file of Q/DQ throughout: static int8")
def qdq(folder: Path) -> Path:
    graph = """(float[N,3,16,16] images) => (float[N,4] scores) {
        qi = QuantizeLinear (images, si, z)
        di = DequantizeLinear (qi, si, z)
        dw = DequantizeLinear (w, sw, zw)
        c = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (di, dw, b)
        r = Relu (c)
        qr = QuantizeLinear (r, sr, zr)
        dr = DequantizeLinear (qr, sr, zr)
        p = GlobalAveragePool (dr)
        qp = QuantizeLinear (p, sr, zr)
        dp = DequantizeLinear (qp, sr, zr)
        f = Flatten (dp)
        dv = DequantizeLinear (v, sv, zw)
        g = Gemm (f, dv, u)
        qg = QuantizeLinear (g, si, z)
        scores = DequantizeLinear (qg, si, z)
    }"""
    weights = conv_weights()
    (w, sw), (v, sv) = rounded(weights["w"]), rounded(weights["v"])
    scales = {
        "si": np.array(0.03, np.float32),
        "z": np.array(128, np.uint8),
        "sr": np.array(0.03, np.float32),
        "zr": np.array(0, np.uint8),
        "zw": np.array(0, np.int8),
    }
    rest = {"b": weights["b"], "u": weights["u"]}
    return net(folder, "qdq", graph, opset=19, w=w, sw=sw, v=v, sv=sv, **scales, **rest)


@stranger("a file of QLinearConv: static int8, operator form")
def qlinear(folder: Path) -> Path:
    graph = """(float[N,3,16,16] images) => (float[N,8,8,8] y) {
        q = QuantizeLinear (images, si, z)
        c = QLinearConv <pads = [1, 1, 1, 1], strides = [2, 2]>
            (q, si, z, w, sw, zw, sy, z, b)
        y = DequantizeLinear (c, sy, z)
    }"""
    w, sw = rounded(conv_weights()["w"])
    weights = {
        "w": w,
        "sw": sw,
        "zw": np.array(0, np.int8),
        "si": np.array(0.03, np.float32),
        "sy": np.array(0.05, np.float32),
        "z": np.array(128, np.uint8),
        "b": np.arange(8, dtype=np.int32) * 100,
    }
    return net(folder, "qlinear", graph, opset=19, **weights)


@stranger("a file of MatMulNBits: 4-bit weights")
def nbits(folder: Path) -> Path:
    graph = """(float[N,32] x) => (float[N,8] y) {
        y = com.microsoft.MatMulNBits <K = 32, N = 8, bits = 4, block_size = 32> (x, w, s)
    }"""
    packed = np.random.RandomState(0).randint(0, 256, (8, 1, 16)).astype(np.uint8)
    return net(folder, "nbits", graph, w=packed, s=np.full(8, 0.05, np.float32))


@stranger("MatMul with weights of rank 3: [4,6,16] x [4,16,32]")
def matmul_rank_3(folder: Path) -> Path:
    graph = """(float[4,6,16] x) => (float[4,6,4] y) {
        h = MatMul (x, w)
        r = Relu (h)
        y = MatMul (r, v)
    }"""
    return net(folder, "matmul_rank_3", graph, w=drawn(4, 16, 32), v=drawn(4, 32, 4, seed=1))


@stranger("If whose branches read a Relu's output")
def if_relu(folder: Path) -> Path:
    graph = """(float[N,8] x) => (float[N,4] y) {
        h = MatMul (x, w)
        r = Relu (h)
        mean = ReduceMean <keepdims = 0> (h)
        up = Greater (mean, zero)
        y = If (up) <
            then_branch = up_branch () => (float[N,4] t) { t = MatMul (r, v) },
            else_branch = down_branch () => (float[N,4] e) { e = MatMul (r, u) }
        >
    }"""
    branches = {"v": drawn(16, 4, seed=1), "u": drawn(16, 4, seed=2)}
    return net(folder, "if_relu", graph, w=drawn(8, 16), zero=np.array(0, np.float32), **branches)
