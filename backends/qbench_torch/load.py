"""Load a torch module from the user's code and a file of weights. For workers only."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from qbench.kit.adapter import PrepareError
from qbench.kit.reasons import sentence


def load_module(path: Path, name: str, options: Mapping[str, Any], weights: Path | None) -> Any:
    """Call ``name`` of the Python file ``path`` with ``options``; returns its ``torch.nn.Module``
    in evaluation mode, with ``weights`` if given.

    Raises:
        PrepareError: the code fails or returns something else, or the weights do not fit.
    """
    torch.manual_seed(0)
    try:
        spec = importlib.util.spec_from_file_location("qbench_user_model", path)
        assert spec is not None and spec.loader is not None
        code = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(code)
        module = getattr(code, name)(**options)
    except (Exception, SystemExit) as error:  # the user's code may raise anything
        raise PrepareError(f"{name} of the card's Python file failed: {sentence(error)}") from error
    if not isinstance(module, torch.nn.Module):
        raise PrepareError(f"{name} returned a {type(module).__name__}, not a torch.nn.Module")
    if weights is not None:
        state = load_weights(weights)
        try:
            module.load_state_dict(state)
        except RuntimeError as error:
            raise PrepareError(f"the weights do not fit the module: {sentence(error)}") from error
    return module.eval()


def load_weights(path: Path) -> dict[str, Any]:
    """The state dictionary in a file of safetensors or ``torch.save``; unpickles tensors only.

    Raises:
        PrepareError: no state dictionary, or more than tensors.
    """
    import pickle

    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise PrepareError(
            "the weights file contains Python objects other than tensors, which could run code, so "
            "it is not read: save only model.state_dict(), or use .safetensors"
        ) from None
    except ModuleNotFoundError as error:
        raise PrepareError(
            f"{error.name} is not installed: pip install torch safetensors"
        ) from None
    except Exception as error:  # safetensors, zipfile and torch each raise their own types
        raise PrepareError(f"the weights cannot be read: {sentence(error)}") from error
    if isinstance(state, dict) and set(state) == {"state_dict"}:
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(t, torch.Tensor) for t in state.values()):
        raise PrepareError("the weights file holds no state dictionary: save model.state_dict()")
    return state
