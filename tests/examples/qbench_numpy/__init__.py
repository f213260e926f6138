"""Example adapter of CONTRIBUTING.md: multi-layer perceptrons, with NumPy as the runtime.

An ``.mlp`` file is an ``.npz`` archive of float32 arrays ``w0, b0, w1, b1, ...``, with ReLU between
the layers. An int8 artifact also has ``a0, ...``, the steps of the layers' inputs, and ``s0, ...``,
of their weights. Products run in einsum: BLAS has threads that NumPy cannot set.
"""

import numpy as np  # qbench has NumPy anyway; modules names any other runtime

from qbench.kit import adapter
from qbench.kit.adapter import Description, PrepareError, Unsupported
from qbench.kit.feeds import check_feed
from qbench.kit.hints import NoHints, read_hints
from qbench.kit.model import Provenance, TensorSpec
from qbench.kit.operators import EffectivePrecision, Operator


class Backend(adapter.Adapter):
    name, api_version = "numpy", 2
    formats = ("mlp",)
    precisions = {"cpu": ("fp32", "int8-static")}
    missing = {"cpu": {"fp16": "NumPy computes half precision in float32"}}
    options = {"per_channel": None, "calibration_items": None}
    modules = runtime_packages = prepare_packages = ("numpy",)

    def describe(self, path):
        sizes = {"x": (layers := read(path))[0]["w"].shape[0], "y": layers[-1]["w"].shape[1]}
        return Description(*({n: TensorSpec("float32", ("N", s))} for n, s in sizes.items()))

    def prepare(self, model, target, calibration, out):
        layers, quantized = read(model.path), target.precision == "int8-static"
        if quantized:
            axis = 0 if target.options["per_channel"] else None
            (x,) = model.to_source(calibration.feeds).values()
            for layer in layers:
                w, layer["a"] = layer["w"], np.float32(max(np.abs(x).max(), 1e-9) / 127)
                x = np.maximum(x @ w + layer["b"], 0)
                layer["s"] = np.float32(np.maximum(np.abs(w).max(axis), 1e-9) / 127)
                layer["w"] = np.rint(w / layer["s"]).astype(np.int8)
        np.savez(out / "model.npz", **{f"{k}{i}": y[k] for i, y in enumerate(layers) for k in y})
        tool, count = ("qbench_numpy.minmax", len(layers)) if quantized else (None, None)
        return Provenance("model.npz", tool, dict(target.options), count)

    def open(self, artifact, config, inspect=False):
        read_hints(NoHints, config.hints, self.name)
        if config.threads != 1:
            raise Unsupported(f"einsum uses one thread, not {config.threads}")
        return Program(artifact, config)


class Program(adapter.Program):
    def __init__(self, artifact, config):
        self.model, self.batch, self.layers = artifact.model, config.batch, read(artifact.file)
        self.inputs, self.outputs = self.model.inputs, self.model.outputs  # float32 in the file too

    def stream(self):
        return Stream(self.model, self.batch, self.layers)

    def effective(self):
        words = ["int8" if layer["w"].dtype == np.int8 else "fp32" for layer in self.layers]
        macs = [self.batch * layer["w"].size for layer in self.layers]
        return EffectivePrecision.of(
            Operator(f"product-{i}", "einsum", "compute", word, count)
            for i, (word, count) in enumerate(zip(words, macs, strict=True))
        )


class Stream(adapter.Stream):
    def __init__(self, model, batch, layers):
        self.model, self.batch, self.steps = model, batch, []
        self.x = self.y = np.zeros((batch, len(layers[0]["w"])), np.float32)
        for layer in layers:  # buffers: scaled input, int8 input, sums, output
            x, self.y = self.y, np.zeros((batch, len(layer["b"])), np.float32)
            room = np.zeros_like(x), np.zeros(x.shape, np.int8), np.zeros(self.y.shape, np.int32)
            step = layer["a"] * layer["s"] if "a" in layer else None
            self.steps.append((layer, step, x, *room, self.y))

    def bind(self, feed):
        check_feed(feed, self.model.inputs, self.batch)
        (array,) = self.model.to_source(feed).values()
        np.copyto(self.x, array)

    def infer(self):
        for layer, step, x, scaled, q, sums, y in self.steps:
            if step is None:
                np.einsum("bi,io->bo", x, layer["w"], out=y)
            else:
                np.rint(np.divide(x, layer["a"], out=scaled), out=scaled)
                np.copyto(q, np.clip(scaled, -127, 127, out=scaled), casting="unsafe")
                np.einsum("bi,io->bo", q, layer["w"], out=sums, dtype=np.int32)
                np.multiply(sums, step, out=y, dtype=np.float32)
            np.add(y, layer["b"], out=y)
            if y is not self.y:
                np.maximum(y, 0, out=y)

    def read(self):
        return self.model.from_source({"y": self.y})


def read(path):
    """A file's layers as dictionaries of arrays, if their shapes fit."""
    try:
        with np.load(path) as file:
            indices = sorted((name[1:] for name in file if name[0] == "w"), key=int)
            layers = [{k: file[k + i] for k in "wbas" if k + i in file} for i in indices]
        x = np.zeros((1, len(layers[0]["w"])), np.float32)
        for layer in layers:
            x = x @ layer["w"] + layer["b"]
        return layers
    except Exception as error:  # NumPy has half a dozen for a damaged file
        raise PrepareError(f"not an .mlp file: {error}") from error
