"""What a page is made of: sections, which are values, and the parts that they hold.

A `jaxseg.record.Table` is a part too. The template page.html has a macro for each kind of part.
"""

import base64
import dataclasses
import io
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from jaxseg.record import Table

_DPI = 110
_QUALITY = 85  # of WebP with losses
_SMALL, _FEW = 2**18, 4096  # pixels; colours
_LONGEST = 512  # pixels of a layer's longer side
_WIDEST = 4096  # the same of a drawing, on the page; WebP has no more than 16,383


@dataclasses.dataclass(frozen=True)
class Picture:
    """A drawing: of the page, and a file beside it.

    Attributes:
        name: of the file, without suffix; png: its bytes.
        title: what it shows, also for those who cannot see it.
        on_page: else there is the file alone, because the page shows the same in another way.
    """

    name: str
    png: bytes = dataclasses.field(repr=False)
    title: str
    on_page: bool = True

    @classmethod
    def drawn(cls, name: str, figure: Figure, title: str, on_page: bool = True) -> "Picture":
        """Returns the picture of a figure."""
        stream = io.BytesIO()
        figure.savefig(stream, dpi=_DPI, format="png")
        return cls(name, stream.getvalue(), title, on_page)

    @property
    def uri(self) -> str:
        """The picture as a data URI: WebP, which takes a fraction of the PNG's bytes."""
        picture = Image.open(io.BytesIO(self.png)).convert("RGB")
        picture.thumbnail((_WIDEST, _WIDEST))
        return encode(np.asarray(picture))


@dataclasses.dataclass(frozen=True)
class Layer:
    """One picture u8[H W 3] of a test image, to be laid over others of it.

    Of an `exact` one every colour means something, and those between them nothing.
    """

    title: str
    pixels: np.ndarray = dataclasses.field(repr=False)
    exact: bool = False

    @property
    def uri(self) -> str:
        """The picture as a data URI, made smaller where it is large."""
        return encode(smaller(self.pixels, _LONGEST, self.exact), self.exact)


@dataclasses.dataclass(frozen=True)
class Viewer:
    """Test images under their layers, which a slider fades from one to the next.

    Attributes:
        images: the layers of each, of the same titles in the same order.
        legend: what colours of labels stand for, (name, u8[3]).
    """

    images: Sequence[Sequence[Layer]]
    legend: Sequence[tuple[str, np.ndarray]] = ()


@dataclasses.dataclass(frozen=True)
class Shares:
    """A table of fractions, shown as bars; nan = there is none."""

    title: str
    heads: Sequence[str]
    rows: Sequence[tuple[str, Sequence[float]]]


@dataclasses.dataclass(frozen=True)
class Facts:
    """Names and values as text."""

    rows: Sequence[tuple[str, str]]
    title: str = ""


@dataclasses.dataclass(frozen=True)
class Commands:
    """What can be done next: (what it does, the command)."""

    rows: Sequence[tuple[str, str]]


@dataclasses.dataclass(frozen=True)
class Folded:
    """Parts below a line that opens them when it is asked to."""

    title: str
    parts: Sequence["Part"]


Part = Picture | Viewer | Shares | Facts | Commands | Folded | Table


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of the page under a title of its own; `note` says how to read it."""

    title: str
    parts: Sequence[Part]
    note: str = ""

    @property
    def anchor(self) -> str:
        """What a link to it is called."""
        return self.title.lower().replace(" ", "-")


def pictures(parts: Sequence[Part]) -> Iterator[Picture]:
    """Yields the drawings among parts, also those that are folded."""
    for part in parts:
        if isinstance(part, Picture):
            yield part
        elif isinstance(part, Folded):
            yield from pictures(part.parts)


def smaller(pixels: np.ndarray, longest: int, exact: bool) -> np.ndarray:
    """Returns an image u8[H W 3], or a map i32[H W], whose longer side has at most so many pixels.

    An `exact` one has no values but those that it had.
    """
    share = min(1.0, longest / max(pixels.shape[:2]))
    height, width = (max(1, round(side * share)) for side in pixels.shape[:2])
    if (height, width) == pixels.shape[:2]:
        return pixels
    rule = Image.Resampling.NEAREST if exact else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(pixels).resize((width, height), rule))


def encode(pixels: np.ndarray, exact: bool = False) -> str:
    """Returns a picture u8[H W 3] as a data URI, by the smaller of WebP's two ways.

    What has few colours is smaller without losses, a photograph with. An `exact` one is kept as it
    is.
    """
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    ways: list[dict[str, Any]] = [{"lossless": True}, {"quality": _QUALITY}]
    if exact:
        ways = ways[:1]
    elif picture.width * picture.height > _SMALL and not picture.getcolors(_FEW):
        ways = ways[1:]  # trying the other would take a second
    found = []
    for options in ways:
        stream = io.BytesIO()
        picture.save(stream, "WEBP", **options)
        found.append(stream.getvalue())
    return "data:image/webp;base64," + base64.b64encode(min(found, key=len)).decode()
