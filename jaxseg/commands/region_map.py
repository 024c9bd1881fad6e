"""One image's coherent regions as a file: what both ways to go through a folder have in common.

A map is a greyscale PNG of 16 bits whose values number the regions, as `add_regions` reads it. How
many there are is also in its header, so that a folder of maps is surveyed without decoding any.
"""

import contextlib
import dataclasses
import hashlib
import io
import os
import pathlib
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from jaxseg.boundaries.coherent import Cut, coherent_regions
from jaxseg.boundaries.detectors import DETECTORS, SHIPPED, Detect
from jaxseg.core import UserError
from jaxseg.data.disk import new_file
from jaxseg.data.images import read_image, read_label
from jaxseg.sections import pick

_COUNT = "regions"  # key of the text in a map's header


@dataclasses.dataclass(frozen=True)
class Settings:
    """What decides how the region maps of a folder come out, and where they go.

    Attributes:
        images: the folder of images; out: that of the maps, which mirrors it.
        edges: a key of DETECTORS; model: the detector's file, or "".
        cut: where the hierarchies are cut; side: the largest longer side, as in `coherent_regions`.
    """

    images: str
    out: str
    edges: str
    model: str
    cut: Cut
    side: int

    def detector(self) -> Detect:
        """Opens the detector. Raises UserError for its name or its file."""
        return pick("--edges", self.edges, DETECTORS)(self.model)

    def identity(self) -> dict[str, Any]:
        """Returns what all maps of one folder have in common, as JSON gives it back.

        Of the model it is the sha256, also of one that comes with the package.
        """
        model = ""
        if path := self.model or SHIPPED.get(self.edges):
            with open(path, "rb") as file:
                model = hashlib.file_digest(file, "sha256").hexdigest()
        cut = dataclasses.asdict(self.cut)
        return {"edges": self.edges, "model": model, **cut, "side": self.side}

    def image(self, name: str) -> str:
        """Returns the path of an image."""
        return os.path.join(self.images, name)

    def map(self, name: str) -> pathlib.Path:
        """Returns the path of an image's map."""
        return pathlib.Path(self.out, os.path.splitext(name)[0] + ".png")

    def read(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Reads an image u8[H W 3] and its map i32[H W]. Raises UserError if they do not fit."""
        image, regions = read_image(self.image(name)), read_label(self.map(name))
        if image.shape[:2] != regions.shape:
            raise UserError(
                f"the map {self.map(name)} is {regions.shape[0]} x {regions.shape[1]}, its image "
                f"{image.shape[0]} x {image.shape[1]}, so that the image is another one since. "
                "Remove the map and give the same command again"
            )
        return image, regions


class Outcome(NamedTuple):
    """What became of an image: its name, and why it has no map, or ""."""

    name: str
    failure: str


def make_map(settings: Settings, detect: Detect, name: str) -> Outcome:
    """Writes the map of one image.

    Whatever is wrong with the image ends in a failure. Raises UserError, or OSError, where the map
    cannot be written: so it would go with all others.
    """
    try:
        image = read_image(settings.image(name))
        content = _encode(coherent_regions(image, detect, settings.cut, settings.side))
    except UserError as error:
        return Outcome(name, str(error))
    except MemoryError:
        return Outcome(name, "the memory was not enough; give a smaller --side")
    except Exception as error:  # one strange image must not end the work on all others
        return Outcome(name, f"{type(error).__name__}: {error}")
    path = settings.map(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with new_file(path, len(content), "--out") as file:
        file.write(content)
    return Outcome(name, "")


def count_regions(path: pathlib.Path) -> int | None:
    """Returns how many regions a map has; None where there is no file that `make_map` wrote."""
    with contextlib.suppress(OSError, ValueError, SyntaxError), Image.open(path) as image:
        return int(image.info.get(_COUNT, "")) or None
    return None


def _encode(regions: np.ndarray) -> bytes:
    """Returns the PNG of regions i32[H W]."""
    header, stream = PngInfo(), io.BytesIO()
    header.add_text(_COUNT, str(int(regions.max()) + 1))
    Image.fromarray(regions.astype(np.uint16)).save(stream, "PNG", pnginfo=header)
    return stream.getvalue()
