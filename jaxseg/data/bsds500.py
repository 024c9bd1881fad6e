"""BSDS500: photographs with the region boundaries that several people drew (Arbelaez et al. 2011).

Layout, as data/ of the release BSR/BSDS500:

    root/images/<split>/<id>.jpg           481 x 321 or 321 x 481
    root/groundTruth/<split>/<id>.mat      4 to 9 segmentations of the image

<split> is train, val or test. Regions have no class and each annotator drew others, so examples
carry no label map: `Bsds500.segmentations(index)` gives all of them, for measures of boundaries and
regions. They are not `Example.regions` either, which a method may learn from.
"""

import dataclasses
import os

import numpy as np
import scipy.io

from jaxseg.core import UserError
from jaxseg.data.folder import Folder
from jaxseg.data.images import Unreadable
from jaxseg.data.layout import Part, find_labels, open_parts, split_parts
from jaxseg.data.source import Example

# Arbelaez et al. 2011, section 3.
EXPECTED: dict[str, dict[str, int]] = {"bsds500": {"train": 200, "val": 100, "test": 200}}

_LAYOUT = (
    "images/<split>/*.jpg and groundTruth/<split>/*.mat, where <split> is train, val or test: "
    "the folder data of BSR/BSDS500"
)


@dataclasses.dataclass(frozen=True)
class Bsds500:
    """Images of a split, and the files of their segmentations; made by `open_bsds500`."""

    images: Folder
    truths: tuple[str, ...]  # the .mat file of each image

    @property
    def classes(self) -> dict[str, tuple[str, ...]]:
        """None: regions have no class."""
        return {}

    @property
    def skipped(self) -> tuple[str, ...]:
        """As `Folder.skipped`."""
        return self.images.skipped

    @property
    def fingerprint(self) -> str:
        """As `Folder.fingerprint`."""
        return self.images.fingerprint

    @property
    def names(self) -> tuple[str, ...]:
        """As `Folder.names`."""
        return self.images.names

    def stored(self, index: int) -> bytes | None:
        """As `Folder.stored`."""
        return self.images.stored(index)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Example:
        return self.images[index]

    def segmentations(self, index: int) -> list[np.ndarray]:
        """Returns the segmentations of an image; see `read_segmentations`."""
        return read_segmentations(self.truths[index])


def open_bsds500(root: str, split: str, on_corrupt: str = "error") -> Bsds500:
    """Opens a split of BSDS500 ("train", "val", "test", or "train+val"), without labels.

    `on_corrupt` is as in `open_folder`, for the images.

    Raises:
      UserError: another split; folders, images or ground truths are missing; or what `open_folder`
        and `Folder` raise.
    """
    names = split_parts(split, EXPECTED["bsds500"], "BSDS500")
    parts = [Part(f"images/{name}", endings=(".jpg",)) for name in names]
    images = open_parts("BSDS500", root, parts, (), None, _LAYOUT, on_corrupt)
    truths: list[str] = []
    for name in names:
        part = Part(f"images/{name}", f"groundTruth/{name}", (".jpg",), ".mat")
        start = f"{part.images}/"
        of_part = [n.removeprefix(start) for n in images.names if n.startswith(start)]
        truths += find_labels("BSDS500", images.root, part, of_part)
    return Bsds500(images, tuple(truths))


def read_segmentations(path: str | os.PathLike[str]) -> list[np.ndarray]:
    """Reads the segmentations of one image, one i32[H W] an annotator; region ids from 1, no void.

    Raises:
      Unreadable: the file is missing or no MATLAB file of version 5.
      UserError: it is, but holds no segmentations as BSDS500 stores them.
    """
    try:
        stored = scipy.io.loadmat(os.fspath(path))
    except Exception as error:  # scipy raises many kinds for a damaged file
        raise Unreadable(
            f"cannot read ground truth {os.fspath(path)}: {type(error).__name__}: {error}"
        ) from error
    try:
        cells = stored["groundTruth"].ravel()
        maps = [np.asarray(cell["Segmentation"][0, 0]).astype(np.int32) for cell in cells]
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        raise UserError(
            f"{os.fspath(path)} holds {', '.join(k for k in stored if k[:2] != '__')}; expected "
            "the variable groundTruth, a cell of structures with a field Segmentation, as in "
            "BSDS500/data/groundTruth"
        ) from error
    if not maps or any(one.ndim != 2 or one.shape != maps[0].shape for one in maps):
        raise UserError(
            f"{os.fspath(path)} holds segmentations of shapes {[one.shape for one in maps]}; "
            "expected at least one, all of the image's size. Take the file as published"
        )
    return maps
