"""Fingerprints: what a cache compares, to say that it was computed from these very inputs.

A fingerprint is the hexadecimal sha256 of what the result depends on. Sources whose features can be
cached have a property `fingerprint`; a source that wraps a source takes in that of the one inside.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable

import jax
import numpy as np

from jaxseg.core import PyTree, UserError
from jaxseg.data.source import Source
from jaxseg.views.geometry import TrainView

FEATURES_FORMAT = 1  # raised when what a cache of features holds changes; older ones are left alone


def digest(*parts: object) -> str:
    """Returns the fingerprint of values that JSON can hold; a tuple counts as a list."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def of_files(root: str, names: Iterable[str]) -> str:
    """Returns the fingerprint of files: their names below `root`, sizes and times of change (ns).

    Contents are not read: a look at each file, which takes about 1 s for 100,000 files on a local
    disk. A folder that is moved whole keeps its fingerprint if the times are kept. A file that
    cannot be looked at is taken in as missing; reading it says why.
    """
    hasher = hashlib.sha256()
    for name in names:
        try:
            status = os.stat(os.path.join(root, name))
            found = (name, status.st_size, status.st_mtime_ns)
        except OSError:
            found = (name, -1, -1)
        hasher.update(json.dumps(found).encode())
    return hasher.hexdigest()


def of_arrays(tree: PyTree) -> str:
    """Returns the fingerprint of a tree of arrays: their paths, types, shapes and values.

    So it holds for weights, wherever they come from, with all that is kept beside them.
    """
    hasher = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(jax.device_get(tree)):
        array = np.asarray(leaf)
        name = jax.tree_util.keystr(path)
        hasher.update(json.dumps((name, array.dtype.name, array.shape)).encode())
        hasher.update(array.tobytes())
    return hasher.hexdigest()


def of_source(source: Source) -> str:
    """Returns the fingerprint of a source's images.

    Raises UserError for a source that has none, for changed images would not be noticed.
    """
    found = getattr(source, "fingerprint", None)
    if not isinstance(found, str):
        raise UserError(
            f"the images of a {type(source).__name__} source have no fingerprint, so that cached "
            "features of them could go stale unnoticed; leave data.tokens empty, or give the "
            "source a property `fingerprint`"
        )
    return found


def of_features(weights: str, architecture: str, source: Source, view: TrainView) -> str:
    """Returns the fingerprint of the frozen features of a source's training views.

    Args:
        weights: fingerprint of the frozen weights, as `of_arrays` gives it.
        architecture: whatever else the features depend on, such as the network's name, the block
            and the kind of feature that is taken.
        source: the split; `view`: the geometry in which it is seen.

    Raises:
        UserError: the source has no fingerprint.
    """
    geometry = {"name": type(view).__name__, **dataclasses.asdict(view)}
    images = of_source(source), len(source)
    return digest("features", FEATURES_FORMAT, weights, architecture, *images, geometry)
