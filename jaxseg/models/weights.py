"""Our weights file: one safetensors file of a network's tree, with where it came from.

The network is a backbone, or what HSG groups with. Arrays are named by their path in the tree,
"params/block0/attention/qkv/kernel", and are float32. The metadata holds "format", "architecture"
(a key of backbones.ARCHITECTURES, or published_hsg.ARCHITECTURE), of a backbone "mean" and "std"
(JSON lists: what an image in [0, 1] is normalised by), "name" (the source) and "sha256", which is
taken over all else in the file, so that it stands for what the network computes.
"""

import json
import pathlib
from collections.abc import Mapping

import jax
import numpy as np
from flax import traverse_util

from jaxseg.core import PyTree, UserError
from jaxseg.models.array_file import read_arrays, write_arrays

FORMAT = "jaxseg-weights-1"
_NUMBERS = ("mean", "std")
_SHOWN = 5  # names of each kind that an error lists


def write_weights(path: pathlib.Path | str, tree: PyTree, meta: Mapping[str, str]) -> str:
    """Writes a network's tree, atomically, and returns the file's sha256 (see the module).

    Args:
        path: of the file, .safetensors.
        tree: {"params", "stats"} and, of a backbone, "mean" and "std", as `backbones.Backbone` has
            them.
        meta: "architecture" and "name", and whatever else is to be kept.
    """
    path = pathlib.Path(path)
    flat = _flatten(tree)
    kept = {str(key): str(value) for key, value in meta.items() if key != "sha256"}
    kept |= {key: json.dumps(flat.pop(key).tolist()) for key in _NUMBERS if key in flat}
    return write_arrays(path, flat, kept, FORMAT)


def read_weights(path: pathlib.Path | str) -> tuple[PyTree, dict[str, str]]:
    """Returns (tree, metadata) of a weights file, its hash checked; arrays are NumPy's.

    Raises:
        UserError: there is no such file, it is no weights file of ours, or it was altered or cut.
    """
    path = pathlib.Path(path)
    remedy = f"python -m jaxseg.convert makes one: python -m jaxseg.convert {path} --out=FILE"
    flat, meta = read_arrays(path, FORMAT, "weights file", remedy)
    try:
        flat |= {
            key: np.asarray(json.loads(meta[key]), np.float32) for key in _NUMBERS if key in meta
        }
    except ValueError as error:
        raise UserError(
            f"The weights file {path} is damaged: {error}. Convert or copy it again."
        ) from error
    tree = traverse_util.unflatten_dict(flat, sep="/")
    return {"params": {}, "stats": {}} | tree, meta


def load_into(
    tree: PyTree, path: pathlib.Path | str, prefix: str = "", part: str = "backbone"
) -> tuple[PyTree, dict[str, str]]:
    """Fills a network's tree from a weights file.

    Args:
        tree: holds the network's tree, filled with anything, abstract arrays too.
        path: of the weights file.
        prefix: where in `tree` the network's stands: keys joined by "/"; "" = `tree` itself.
        part: what the network is, for messages.

    Returns:
        (the tree, with the file's arrays as NumPy's in the place of the network's; the file's
        metadata).

    Raises:
        UserError: as `read_weights`, or the file is of another architecture: it names the first
            missing, unexpected and mis-shaped arrays.
    """
    found, meta = read_weights(path)
    keys = prefix.split("/") if prefix else []
    place = tree
    for key in keys:
        place = place[key]
    expected = shapes(place)
    if lines := differences(expected, shapes(found)):
        raise UserError(
            f"The weights file {path} ({meta['architecture']}) does not fit this {part}. "
            + " ".join(lines)
            + f" Use weights of this {part}'s architecture, or name theirs."
        )
    return _put(tree, keys, found), meta


def describe(path: pathlib.Path | str, tree: PyTree, meta: Mapping[str, str]) -> str:
    """Returns a line on a weights file, from its tree and metadata."""
    count = sum(int(np.prod(shape)) for shape in shapes(tree).values())
    numbers = "".join(f"{key} {meta[key]}, " for key in _NUMBERS if key in meta)
    return (
        f"{path}: {meta['name']} ({meta['architecture']}, {count:,} values, {numbers}"
        f"sha256 {meta['sha256'][:12]})"
    )


def shapes(tree: PyTree) -> dict[str, tuple[int, ...]]:
    """Returns the shape of each array of a tree of dictionaries, by its path."""
    flat = traverse_util.flatten_dict(tree, sep="/")
    return {name: tuple(leaf.shape) for name, leaf in flat.items()}


def differences(
    expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]
) -> list[str]:
    """Returns sentences on the first missing, unexpected and mis-shaped arrays; [] if none are."""
    missing = [name for name in expected if name not in found]
    unexpected = [name for name in found if name not in expected]
    misshaped = [
        f"{name} is {list(found[name])} and should be {list(shape)}"
        for name, shape in expected.items()
        if name in found and found[name] != shape
    ]
    kinds = {"Missing": missing, "Unexpected": unexpected, "Mis-shaped": misshaped}
    return [
        f"{kind} ({len(names)}): {', '.join(names[:_SHOWN])}{', ...' * (len(names) > _SHOWN)}."
        for kind, names in kinds.items()
        if names
    ]


def _flatten(tree: PyTree) -> dict[str, np.ndarray]:
    flat = traverse_util.flatten_dict(jax.device_get(tree), sep="/")
    return {name: np.ascontiguousarray(leaf, np.float32) for name, leaf in flat.items()}


def _put(tree: PyTree, keys: list[str], value: PyTree) -> PyTree:
    """Returns `tree` with `value` at the path `keys`, the rest as it is."""
    if not keys:
        return value
    return {**tree, keys[0]: _put(tree[keys[0]], keys[1:], value)}
