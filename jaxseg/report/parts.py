"""What a page is made of: sections, which are values, and the parts that they hold.

A `jaxseg.record.Table` is a part too. The template page.html has a macro for each kind of part.
"""

import base64
import dataclasses
import io
from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from jaxseg.record import Table

_DPI = 110
_QUALITY = 85  # of WebP with losses
_LONGEST = 512  # pixels of a layer's longer side


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
        return encode(np.asarray(Image.open(io.BytesIO(self.png)).convert("RGB")))


@dataclasses.dataclass(frozen=True)
class Layer:
    """One picture u8[H W 3] of a test image, to be laid over others of it."""

    title: str
    pixels: np.ndarray = dataclasses.field(repr=False)

    @property
    def uri(self) -> str:
        """The picture as a data URI, made smaller where it is large."""
        picture = Image.fromarray(self.pixels)
        if max(picture.size) > _LONGEST:
            share = _LONGEST / max(picture.size)
            size = [max(1, round(side * share)) for side in picture.size]
            # The colours of labels mean something, and those between them nothing.
            picture = picture.resize((size[0], size[1]), Image.Resampling.NEAREST)
        return encode(np.asarray(picture))


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


def encode(pixels: np.ndarray) -> str:
    """Returns a picture u8[H W 3] as a data URI, by the smaller of WebP's two ways.

    Drawings and label maps are smaller without losses, photographs with.
    """
    picture, found = Image.fromarray(pixels), []
    for options in ({"lossless": True}, {"quality": _QUALITY}):
        stream = io.BytesIO()
        picture.save(stream, "WEBP", method=4, **options)
        found.append(stream.getvalue())
    return "data:image/webp;base64," + base64.b64encode(min(found, key=len)).decode()
