"""The edge detectors by name."""

import functools
import os
from collections.abc import Callable

import numpy as np

from jaxseg.boundaries.edges import Edges
from jaxseg.boundaries.gradient import gradient_edges
from jaxseg.boundaries.network import WEIGHTS, load_network, network_edges
from jaxseg.boundaries.pmi import PmiSettings, pmi_edges
from jaxseg.boundaries.structured_forest import StructuredForest
from jaxseg.core import UserError

# Image u8[H W 3] in RGB -> edges, of its size or smaller.
Detect = Callable[[np.ndarray], Edges]


def _network(model: str) -> Detect:
    weights = os.fspath(model or SHIPPED["network"])
    load_network(weights)  # what is wrong with it is said before there is an image
    return functools.partial(network_edges, weights=weights)


def _pmi(model: str) -> Detect:
    """Returns PMI's edges at the working resolution, where METHODS 3.7 makes the regions."""
    _require_no_model("pmi", model)
    return functools.partial(pmi_edges, settings=PmiSettings(full_size=False))


def _gradient(model: str) -> Detect:
    _require_no_model("gradient", model)
    return gradient_edges


def _require_no_model(name: str, model: str) -> None:
    """Raises UserError where a detector that reads no file is given one."""
    if model:
        raise UserError(f"the model {model!r} is given, but {name} edges read none; leave it out")


# Model files that come with the package, for detectors that are given none.
SHIPPED = {"network": WEIGHTS}
# Each opens a detector; its argument is the path of the detector's model file, or "".
DETECTORS: dict[str, Callable[[str], Detect]] = {
    "network": _network,
    "structured_forest": StructuredForest,
    "pmi": _pmi,
    "gradient": _gradient,
}
DEFAULT = "network"
