"""Load Keras files, SavedModels and Keras applications without running code that they contain.

Functions import TensorFlow and Keras themselves. For workers only.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qbench.kit.adapter import PrepareError, Range, Unsupported
from qbench.kit.reasons import sentence

Tensors = dict[str, Any]
"""TensorFlow tensors by the source's own names."""

SAFE_STATEFUL = frozenset(
    (
        *("StatefulPartitionedCall", "If", "While", "Case", "Assert"),
        *("VarHandleOp", "VarIsInitializedOp", "ReadVariableOp", "DisableCopyOnRead"),
        *("VariableShape", "AssignVariableOp", "AssignAddVariableOp", "AssignSubVariableOp"),
        *("DestroyResourceOp", "ResourceGather", "ResourceGatherNd"),
        *("HashTableV2", "MutableHashTableV2", "AnonymousHashTable", "AnonymousMutableHashTable"),
        *("InitializeTableV2", "LookupTableImportV2", "LookupTableExportV2"),
        *("LookupTableFindV2", "LookupTableSizeV2"),
        *("RandomUniform", "RandomUniformInt", "RandomStandardNormal", "TruncatedNormal"),
        *("Multinomial", "StatefulUniform", "StatefulStandardNormalV2"),
        *("StatefulTruncatedNormal", "RngReadAndSkip"),
    )
)
"""Stateful operators that a SavedModel may contain: calls and control flow, its own variables and
tables (except tables filled from a file), random numbers."""
UNSAFE_STATELESS = re.compile(
    r".*(Dataset|Debug|Reader).*|Copy|CopyHost|DecodeProtoV2|EncodeProto|GenerateVocabRemapping"
    r"|ImmutableConst|InitializeTableFromTextFile|MatchingFiles|MlirPassthroughOp|PyFuncStateless"
    r"|ReadFile"
)
"""Operators that TensorFlow declares stateless, but that read a file or run code."""


@dataclass(frozen=True)
class Loaded:
    """A model that can be called and traced.

    Attributes:
        inputs, outputs: ``tf.TensorSpec`` by the source's own names, in its order.
        call: maps input tensors to output tensors, both by name.
        owner: holds the variables; must live as long as ``call``.
        ranges: see ``Description``.
    """

    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]
    call: Callable[[Tensors], Tensors]
    owner: Any
    ranges: Mapping[str, Range] = field(default_factory=dict)


def failure(form: str, error: Exception) -> PrepareError:
    """A conversion tool's error in one sentence, with the operators that it names."""
    text = str(error)
    if lacking := re.findall(r"(?:TF Select|Custom|Flex) ops: (.+)", text):
        return PrepareError(f"{form} has no operators for {', '.join(lacking)}")
    if found := re.search(r"error: '\w+\.(\w+)' op (.+)", text):
        return PrepareError(f"converting to {form} failed: {found[2]}", operator=found[1])
    return PrepareError(f"converting to {form} failed: {sentence(error)}")


# --------------------------------------------------------------------------- Keras


def load_keras(path: Path) -> Any:
    """The ``keras.Model`` of a ``.keras`` or an old ``.h5`` file, not compiled. Layers that contain
    Python code (Lambda) are refused.

    Raises:
        PrepareError: not such a file, contains code, or has a layer that Keras does not know.
    """
    import keras

    try:
        legacy, config = _config(path)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise PrepareError(f"not a readable Keras model: {sentence(error)}") from error
    if "Lambda" in _class_names(config):
        raise PrepareError(
            "the Keras model has a Lambda layer, which holds Python code that would run here: "
            "rebuild it from other layers, or export it as a SavedModel"
        )
    try:
        return keras.models.load_model(
            path,
            compile=False,
            safe_mode=True,
            custom_objects={"DepthwiseConv2D": _depthwise(keras)} if legacy else None,
        )
    except Exception as error:  # Keras raises unrelated types
        raise PrepareError(f"Keras cannot load the model: {sentence(error)}") from error


def _config(path: Path) -> tuple[bool, Any]:
    """Whether it is an old ``.h5`` file, and the JSON that describes its layers.

    Decides by the name's ending, as Keras does: a file can be a zip and HDF5 at once, and the part
    that is checked here must be the part that Keras loads.

    Raises:
        ValueError: another ending.
    """
    if path.name.endswith(".keras"):
        with zipfile.ZipFile(path) as archive:
            return False, json.loads(archive.read("config.json"))
    if not path.name.endswith((".h5", ".hdf5")):
        raise ValueError("its name ends neither in .keras nor in .h5 or .hdf5")
    import h5py

    with h5py.File(path, "r") as file:
        text: Any = file.attrs["model_config"]  # KeyError: weights alone
    return True, json.loads(text)


def _class_names(config: Any) -> set[str]:
    """All ``class_name`` values in a model's description, including nested models."""
    return {str(value) for key, value in _pairs(config) if key == "class_name"}


def _pairs(node: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield key, value
            yield from _pairs(value)
    elif isinstance(node, list):
        for value in node:
            yield from _pairs(value)


def _depthwise(keras: Any) -> type:
    """A layer that accepts ``groups``, which Keras 2 wrote (always 1) and Keras 3 refuses."""

    class DepthwiseConv2D(keras.layers.DepthwiseConv2D):
        def __init__(self, *args: Any, groups: int = 1, **kwargs: Any) -> None:
            if groups != 1:
                raise ValueError(f"a depthwise convolution with {groups} groups")
            super().__init__(*args, **kwargs)

    return DepthwiseConv2D


def keras_model(model: Any) -> Loaded:
    """A Keras model with fixed inputs: a Functional or a Sequential one."""
    import keras
    import tensorflow as tf

    if not getattr(model, "inputs", None) or not getattr(model, "outputs", None):
        raise PrepareError(
            "the Keras model has no defined inputs: it is subclassed, or a Sequential that was "
            "never built; save it as a Functional model, or give it an Input layer"
        )

    def specs(tensors: list[Any], names: list[str]) -> dict[str, Any]:
        return {
            name: tf.TensorSpec(tensor.shape, tensor.dtype, name=name)
            for name, tensor in zip(names, tensors, strict=True)
        }

    inputs = specs(model.inputs, _input_names(model))
    outputs = specs(model.outputs, _output_names(model))
    structure = _structure(model)

    def call(feed: Tensors) -> Tensors:
        tensors = [feed[name] for name in inputs]
        given = keras.tree.pack_sequence_as(structure, tensors)
        results = model(given, training=False)
        return dict(zip(outputs, keras.tree.flatten(results), strict=True))

    owner: Any = tf.Module()  # TFLiteConverter does not find the variables of a Keras model
    owner.variables_of_model = [variable.value for variable in model.variables]
    return Loaded(inputs, outputs, call, owner, _ranges(model, list(inputs)))


def _ranges(model: Any, names: list[str]) -> dict[str, Range]:
    """The rows of the tables that inputs select from."""
    import keras

    found: dict[str, Range] = {}
    for layer in model.layers:
        if isinstance(layer, keras.layers.Embedding):
            used = [id(tensor) for node in layer._inbound_nodes for tensor in node.input_tensors]
            for name, tensor in zip(names, model.inputs, strict=True):
                if id(tensor) in used:
                    last = float(layer.input_dim - 1)
                    found[name] = (0.0, min(last, found.get(name, (0.0, last))[1]))
    return found


def _input_names(model: Any) -> list[str]:
    """Keys if the model takes a dictionary (Keras flattens it in their order), else the names of
    the input layers."""
    structure = _structure(model)
    if isinstance(structure, dict):
        return sorted(structure)
    return [tensor.name for tensor in model.inputs]


def _structure(model: Any) -> Any:
    """The model's inputs as it takes them: one tensor, or a list, tuple or dictionary of them."""
    import keras

    return model.inputs[0] if isinstance(model, keras.Sequential) else model.input


def _output_names(model: Any) -> list[str]:
    """Keys if the model returns a dictionary (Keras flattens it in their order), else the names of
    the last layers."""
    if isinstance(getattr(model, "output", None), dict):
        return sorted(model.output)
    return list(getattr(model, "output_names", None) or [model.layers[-1].name])


def application(source_options: Mapping[str, Any], cache: Path | None) -> Any:
    """A model of ``keras.applications``. Keras downloads and verifies its weights.

    Args:
        source_options: ``model``, the name, and ``options``, keyword arguments.

    Raises:
        PrepareError: no such model, or it does not accept these options.
        Unsupported: the weights cannot be downloaded.
    """
    import inspect

    import keras

    name, options = source_options["model"], dict(source_options.get("options") or {})
    known = [
        n for n in dir(keras.applications) if inspect.isfunction(getattr(keras.applications, n))
    ]
    if name not in known:
        raise PrepareError(f"keras.applications has no {name}; it has {', '.join(known)}")
    if options.setdefault("weights", "imagenet") not in ("imagenet", None):
        raise PrepareError(f"weights are imagenet or null, not {options['weights']!r}")
    keras.utils.set_random_seed(0)  # with weights: null
    try:
        return getattr(keras.applications, name)(**options)
    except Exception as error:
        if "URL fetch failure" not in str(error):
            raise PrepareError(
                f"keras.applications.{name} with {options}: {sentence(error)}"
            ) from error
        file = re.search(r"https?://[^\s:]*/([^\s:/]+)", str(error))
        place = "downloads/tensorflow/models in qbench's cache" if cache else "~/.keras/models"
        raise Unsupported(
            f"the weights of {name} cannot be downloaded: put {file[1] if file else 'them'} into "
            f"{place}"
        ) from error


# --------------------------------------------------------------------------- SavedModel


def load_savedmodel(path: Path, signature: str | None = None) -> Loaded:
    """A signature of a SavedModel.

    Args:
        path: the folder with ``saved_model.pb``, or its parent.
        signature: its key; None: ``serving_default``, or the only one.

    Raises:
        PrepareError: not a SavedModel, no such signature, or an operator that may act outside it.
    """
    import tensorflow as tf

    folder = savedmodel_folder(path)
    _refuse_unsafe(folder)
    try:
        owner: Any = tf.saved_model.load(str(folder))
    except Exception as error:
        raise PrepareError(f"TensorFlow cannot load the SavedModel: {sentence(error)}") from error
    signatures = dict(getattr(owner, "signatures", {}))
    key = signature or ("serving_default" if len(signatures) != 1 else next(iter(signatures)))
    if key not in signatures:
        raise PrepareError(
            f"the SavedModel has no signature {key}; it has {', '.join(sorted(signatures))}: name "
            "one as sources.savedmodel.signature in a model card"
        )
    function = signatures[key]

    def call(feed: Tensors) -> Tensors:
        return function(**feed)

    inputs = function.structured_input_signature[1]
    return Loaded(inputs, function.structured_outputs, call, owner)


def savedmodel_folder(path: Path) -> Path:
    """The folder with ``saved_model.pb``: ``path``, or its only subfolder with that file.

    Raises:
        PrepareError: there is none, or more than one.
    """
    found = [
        p.parent for p in (path / "saved_model.pb", *path.glob("*/saved_model.pb")) if p.is_file()
    ]
    if len(found) != 1:
        raise PrepareError(
            f"not a SavedModel: {len(found)} saved_model.pb in the folder, should be 1"
        )
    return found[0]


def _refuse_unsafe(folder: Path) -> None:
    """Refuse unsafe operators in all functions that loading and calling the model can reach: those
    of its objects (signatures, initializers of tables), and their callees.

    Not reached are functions for saving the model again, and the graph of TensorFlow 1. The loader
    would run other functions for that graph, so a model without objects is refused.
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    content = saved_model_pb2.SavedModel()
    try:
        content.ParseFromString((folder / "saved_model.pb").read_bytes())
    except DecodeError as error:
        raise PrepareError(f"saved_model.pb is damaged: {sentence(error)}") from error
    if len(content.meta_graphs) != 1 or not content.meta_graphs[0].HasField("object_graph_def"):
        raise PrepareError(
            "the SavedModel is from TensorFlow 1, whose functions cannot be checked: load it and "
            "save it again with TensorFlow 2"
        )
    (graph,) = content.meta_graphs
    functions = {f.signature.name: f.node_def for f in graph.graph_def.library.function}
    left = [*graph.object_graph_def.concrete_functions]
    seen: set[str] = set()
    while left:
        name = left.pop()
        if name in seen or name not in functions:
            continue
        seen.add(name)
        for node in functions[name]:
            if node.op not in functions and not _is_safe(node.op):
                raise PrepareError(
                    "the SavedModel contains an operator that may act outside the model, so it is "
                    "not run",
                    operator=node.op,
                )
            left.append(node.op)
            for value in node.attr.values():
                left += [value.func.name, *(function.name for function in value.list.func)]


def _is_safe(operator: str) -> bool:
    from tensorflow.python.framework import op_def_registry

    known: Any = op_def_registry.get(operator)
    if known is None:
        return False
    if known.is_stateful:
        return operator in SAFE_STATEFUL
    return not UNSAFE_STATELESS.fullmatch(operator)
