"""Reads the arrays of files that others published, and executes nothing in them."""

import argparse
import pathlib
import pickle
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors

from jaxseg.core import UserError

TORCH_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt", ".tar")


def read_arrays(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Returns the arrays of a file by name; names of nested dictionaries are joined by dots.

    Args:
        path: .safetensors, .npz, or what torch saves (.pth, .pt, .bin, .ckpt, .pth.tar), which
            needs torch.

    Raises:
        UserError: there is no such file, it is of another kind, damaged, or holds anything that is
            not an array and could only be read by executing it.
    """
    if not path.is_file():
        raise UserError(f"There is no file {path}; give the published file itself.")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.suffix == ".npz":
        return _read_npz(path)
    if path.suffix in TORCH_SUFFIXES:
        return _read_torch(path)
    raise UserError(
        f"{path} is none of .safetensors, .npz, {', '.join(TORCH_SUFFIXES)}; its name must end in "
        "what it is."
    )


def _read_safetensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError, TypeError) as error:
        raise UserError(
            f"{path} is damaged or no safetensors file: {error}. Get it again."
        ) from error


def _read_npz(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        for name, array in arrays.items():
            if array.dtype.kind not in "fiub":
                raise ValueError(f"{name} is of type {array.dtype}")
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, AttributeError) as error:
        raise UserError(
            f"{path} is not read: {error}. An .npz file must hold plain arrays of numbers, for "
            "Python objects in it would be executed."
        ) from error
    return arrays


def _read_torch(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        import torch
    except ImportError as error:
        raise UserError(
            f"{path} is a PyTorch file, and torch is not installed: pip install 'jaxseg[torch]', "
            "or save it as .safetensors elsewhere."
        ) from error
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 6):
        raise UserError(
            f"torch {torch.__version__} can execute code from a weights-only file; install 2.6 or "
            "newer: pip install 'jaxseg[torch]'"
        )
    try:
        # DINO's training checkpoints hold their options so: a record, whose making runs nothing.
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} holds more than arrays, which could only be read by executing it, so that it "
            "is not read. Where you trust it, save its arrays alone in PyTorch: "
            f"torch.save(model.state_dict(), 'FILE.pth'). ({str(error).splitlines()[0]})"
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is damaged or no PyTorch file: {error}. Get it again.") from error
    return _flatten(content, torch)


def _flatten(content: Any, torch: Any, prefix: str = "") -> dict[str, np.ndarray]:
    """Returns the tensors of nested dictionaries; what else they hold (epochs, options) is left."""
    found: dict[str, np.ndarray] = {}
    for key, value in content.items() if isinstance(content, Mapping) else ():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            found |= _flatten(value, torch, name + ".")
        elif isinstance(value, torch.Tensor):
            # NumPy has no bfloat16.
            tensor = value.detach()
            found[name] = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
    return found
