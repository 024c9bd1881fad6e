"""Edges by structured forests (Dollar & Zitnick 2015), through OpenCV's ximgproc.

The forest is in a file that is not part of jaxseg: it was trained on the human boundaries of
BSDS500's training images.
"""

import dataclasses
import functools
import pathlib

import cv2
import numpy as np

from jaxseg.boundaries.edges import Edges, with_angles
from jaxseg.core import UserError

_REMEDY = (
    "Get the official forest, testdata/cv/ximgproc/model.yml.gz of "
    "https://github.com/opencv/opencv_extra, and give its path"
)
# OpenCV reads a missing number as 0 and a missing list as empty, and crashes when it is used.
_OPTIONS = (
    "stride",
    "shrinkNumber",
    "patchSize",
    "patchInnerSize",
    "numberOfGradientOrientations",
    "gradientSmoothingRadius",
    "regFeatureSmoothingRadius",
    "ssFeatureSmoothingRadius",
    "gradientNormalizationRadius",
    "selfsimilarityGridSize",
    "numberOfTrees",
    "numberOfTreesToEvaluate",
)
_LISTS = ("childs", "featureIds", "thresholds", "edgeBoundaries", "edgeBins")


@dataclasses.dataclass(frozen=True)
class StructuredForest:
    """A structured forest; called with an image u8[H W 3] in RGB, it returns its `Edges`.

    The angles are those of `with_angles`, as of every detector here, not OpenCV's.
    Tested with small forests made by hand; with the official one it was not run.

    Attributes:
        path: the forest, in OpenCV's format (.yml or .yml.gz).

    Raises:
        UserError: there is no such file, it is damaged, or it holds something else.
    """

    path: str

    def __post_init__(self):
        _check(self.path)

    @functools.cached_property
    def _detector(self) -> "cv2.ximgproc.StructuredEdgeDetection":
        try:
            return cv2.ximgproc.createStructuredEdgeDetection(self.path)
        except cv2.error as error:
            raise _wrong(self.path, str(error).strip().splitlines()[-1]) from error

    def __call__(self, image: np.ndarray) -> Edges:
        """Returns the edges of an image u8[H W 3] in RGB, of at least 2 x 2 pixels."""
        rgb = np.ascontiguousarray(image[..., :3]).astype(np.float32) / 255
        return with_angles(np.clip(self._detector.detectEdges(rgb), 0, 1))


def _check(path: str) -> None:
    """Raises UserError unless the file holds all parts of a forest, in numbers that fit."""
    if not path:
        raise UserError(f"structured_forest edges need a model, the file of a forest. {_REMEDY}.")
    if not pathlib.Path(path).is_file():
        raise UserError(f"There is no structured forest {path!r}. {_REMEDY}.")
    try:
        file = cv2.FileStorage(path, cv2.FILE_STORAGE_READ)
    except (cv2.error, SystemError) as error:
        reason = str(error.__cause__ or error).strip().splitlines()[-1]
        raise _wrong(path, reason) from error
    try:
        _check_content(path, file)
    finally:
        file.release()


def _check_content(path: str, file: cv2.FileStorage) -> None:
    if not file.isOpened():
        raise _wrong(path, "it cannot be opened as such a file")
    options = file.getNode("options")
    missing = [name for name in _OPTIONS if options.empty() or options.getNode(name).empty()]
    missing += [name for name in _LISTS if file.getNode(name).empty()]
    if missing:
        raise _wrong(path, f"it has no {', '.join(missing)}")
    trees = int(options.getNode("numberOfTrees").real())
    for name in _LISTS[:3]:
        if file.getNode(name).size() != trees:
            raise _wrong(path, f"{name} is of {file.getNode(name).size()} trees, not of {trees}")


def _wrong(path: str, reason: str) -> UserError:
    return UserError(f"{path} is damaged or no structured forest of OpenCV: {reason}. {_REMEDY}.")
