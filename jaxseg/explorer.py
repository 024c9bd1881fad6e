"""What can be asked of a trained run by looking at an image: the demo page without its web server.

    explorer = Explorer(workdir, load(workdir), index)
    shown = explorer.segment(data)           # bytes of an image file -> pictures of its segments
    explorer.explain(shown["id"], "clusters", 0.5, 0.5)    # of the segment at the middle

Answers are what JSON can hold; pictures are data URIs. One thread at a time asks the model.
"""

import collections
import io
import pathlib
import secrets
import threading
from typing import Any

import matplotlib
import numpy as np
from PIL import Image

from jaxseg.cluster_names import check_names, keep_names
from jaxseg.core import UserError
from jaxseg.data.images import decode_image
from jaxseg.report.figures import paint, palette
from jaxseg.report.parts import encode, smaller
from jaxseg.report.segments import borders, outlined
from jaxseg.segment_index import CLUSTERS, SegmentIndex, feature_of, groupings
from jaxseg.segmentation import Segmentation
from jaxseg.segmenter import Segmenter

LARGEST = 2**24  # pixels of an image
_KEPT = 4  # images that can be asked about
_SIDE = 1024  # pixels of the longer side of a picture for the page
_SMALL = 256  # the same of an attention map
_QUERIES = 4  # attention maps of a level, at most
_COLOUR = np.array([255, 40, 40])


class Explorer:
    """Segments images, and tells of their segments.

    Args:
        workdir: where names that are given to clusters are kept.
        index: of the training images; None = there is none.
    """

    def __init__(self, workdir: pathlib.Path, segmenter: Segmenter, index: SegmentIndex | None):
        self._workdir, self._segmenter, self._index = workdir, segmenter, index
        self._names = list(segmenter.names)
        self._images: collections.OrderedDict[str, Segmentation] = collections.OrderedDict()
        self._lock = threading.Lock()

    @property
    def clusters(self) -> list[dict[str, Any]]:
        """Names and colours of the clusters."""
        colours = self._segmenter.colours.tolist()
        return [{"name": n, "colour": c} for n, c in zip(self._names, colours, strict=True)]

    def segment(self, data: bytes) -> dict[str, Any]:
        """Returns an image file's pictures: itself, its clusters and each level.

        Raises:
            UserError: it is no image, or a large one.
        """
        _check_size(data)
        with self._lock:
            pixels = decode_image(data, "The file", self._segmenter.trained.data.channels)
            found = self._segmenter(pixels)
            # Not a number that another page could guess.
            number = secrets.token_urlsafe(9)
            self._images[number] = found
            while len(self._images) > _KEPT:
                self._images.popitem(last=False)
            levels = {k: _painted(x) for k, x in groupings(found).items() if k != CLUSTERS}
        pictures = {CLUSTERS: found.colours[found.labels], **levels}
        return {
            "id": number,
            "image": _shown(found.image[..., :3]),
            "outputs": [{"name": k, "picture": _shown(x, True)} for k, x in pictures.items()],
            "shares": (found.pixels / found.labels.size).tolist(),
        }

    def explain(self, number: str, output: str, x: float, y: float) -> dict[str, Any]:
        """Returns what there is to say of the segment at a place.

        Args:
            number: the "id" that `segment` gave the image; output: the name of one of its outputs.
            x, y: of the place, in shares of width and height.

        Raises:
            UserError: the image is not kept any more, or there is no such output or place.
        """
        with self._lock:
            found = self._images.get(number)
            if found is None:
                raise UserError(f"Only the last {_KEPT} images can be asked about; drop it again.")
            inside = _segment_at(found, output, x, y)
            cluster = int(np.bincount(found.labels[inside]).argmax())
            answer = {
                "name": self._names[cluster],
                "cluster": cluster,
                "share": float(inside.mean()),
                "outline": _shown(outlined(found.image[..., :3], inside, _COLOUR)),
                "neighbours": [],
                "attention": [],
            }
            if found.is_tiled:
                return answer
            if self._index is not None:
                answer["neighbours"] = [
                    {"picture": _shown(outlined(one.image, one.inside, _COLOUR)),
                     "cosine": one.cosine}
                    for one in self._index.nearest(output, feature_of(found, inside))
                ]  # fmt: skip
            answer["attention"] = _attention(found, inside)
            return answer

    def rename(self, names: object) -> list[dict[str, Any]]:
        """Gives the clusters names, keeps them in the work directory, and returns the clusters.

        Raises:
            UserError: see `check_names`.
        """
        checked = check_names(names, len(self._names))
        trained = self._segmenter.trained
        with self._lock:
            keep_names(self._workdir, trained.meta["entry_name"], trained.clusters, checked)
            self._names = checked
        return self.clusters


def _check_size(data: bytes) -> None:
    """Raises UserError for what is no image, or one whose header says that it is large."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            width, height = image.size
    except Exception as error:  # whatever Pillow's readers raise at damaged files
        raise UserError("The file is no image that can be read (JPEG, PNG, WebP, TIFF).") from error
    if width * height > LARGEST:
        raise UserError(
            f"The image has {width} x {height} pixels, and this page takes at most {LARGEST:,}; "
            "segment it by python -m jaxseg.predict, which takes images of any size."
        )


def _segment_at(found: Segmentation, output: str, x: float, y: float) -> np.ndarray:
    """Returns bool[H W], the segment of an output that a place lies in."""
    groups = groupings(found)
    if output not in groups:
        raise UserError(f"There is no output {output!r}; there are {', '.join(groups)}.")
    if not (0 <= x <= 1 and 0 <= y <= 1):
        raise UserError(f"The place ({x}, {y}) is outside of the image.")
    row, column = (
        min(int(at * side), side - 1) for at, side in zip((y, x), found.size, strict=True)
    )
    # Groups of a level may be several parts, which are one segment; parts of a cluster are not.
    return groups[output] == groups[output][row, column]


def _attention(found: Segmentation, inside: np.ndarray) -> list[dict[str, str]]:
    """Returns the maps of the queries that attend most to a segment, of each level."""
    shown = []
    grey = Image.fromarray(found.image[..., :3]).convert("L").convert("RGB")
    grey.thumbnail((_SMALL, _SMALL))
    colours = matplotlib.colormaps["inferno"]
    for level, maps in found.attention.items():
        size = (maps.shape[1], maps.shape[0])
        within = Image.fromarray(inside.astype(np.float32))
        weight = np.asarray(within.resize(size, Image.Resampling.BOX))
        strength = (maps * weight[..., None]).sum((0, 1)) / max(weight.sum(), 1e-6)
        for query in np.argsort(-strength, kind="stable")[:_QUERIES]:
            one = maps[..., query] / max(float(maps.max()), 1e-6)
            heat = Image.fromarray((colours(one)[..., :3] * 255).astype(np.uint8))
            mixed = Image.blend(grey, heat.resize(grey.size, Image.Resampling.BILINEAR), 0.65)
            title = f"{level}, query {query}: {strength[query]:.2f}"
            shown.append({"title": title, "picture": encode(np.asarray(mixed))})
    return shown


def _painted(groups: np.ndarray) -> np.ndarray:
    """Returns u8[H W 3] of groups i32[H W] in colours, with white borders."""
    painted = paint(groups, palette(int(groups.max(initial=0)) + 1))
    painted[borders(groups)] = 255
    return painted


def _shown(pixels: np.ndarray, exact: bool = False) -> str:
    """Returns a picture u8[H W 3] as a data URI, made smaller where it is large."""
    return encode(smaller(pixels, _SIDE, exact), exact)
