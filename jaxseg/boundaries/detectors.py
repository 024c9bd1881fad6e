"""The edge detectors by name."""

from collections.abc import Callable

import numpy as np

from jaxseg.boundaries.edges import Edges
from jaxseg.boundaries.gradient import gradient_edges
from jaxseg.boundaries.structured_forest import StructuredForest
from jaxseg.core import UserError

Detect = Callable[[np.ndarray], Edges]  # image u8[H W 3] in RGB -> edges


def _gradient(model: str) -> Detect:
    _require_no_model("gradient", model)
    return gradient_edges


def _require_no_model(name: str, model: str) -> None:
    """Raises UserError where a detector that reads no file is given one."""
    if model:
        raise UserError(f"the model {model!r} is given, but {name} edges read none; leave it out")


# Each opens a detector; its argument is the path of the detector's model file, or "".
DETECTORS: dict[str, Callable[[str], Detect]] = {
    "gradient": _gradient,
    "structured_forest": StructuredForest,
}
DEFAULT = "gradient"
