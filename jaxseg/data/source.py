"""Sources: random access to the examples of one split. Sources wrap sources."""

import dataclasses
from typing import Protocol

import numpy as np


@dataclasses.dataclass(frozen=True)
class Example:
    """One image and what is known of it."""

    image: np.ndarray  # u8[H W Ch]
    label: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)  # i32[H W]; -1 = ignored
    regions: np.ndarray | None = None  # i32[H W] coherent regions
    name: str = ""  # file name or the like, for messages and pictures


class Source(Protocol):
    """Random access to one split; `source[i]` is a pure function of i and may run in any thread.

    A source may also have, for what packs and checks it:

    - `stored(i) -> bytes | None`: the image file that `source[i].image` is read from by
      `images.read_image`, or None where the image is no file of its own (drawn, cut, resized);
    - `names`: the names of all examples in order, where they are known without reading any;
    - `skipped`: names of examples that are known to be unreadable and have others in their place,
      which give their own names; such a source has `names`;
    - `rule`: a sentence on how its list of images came about.

    And, for features that are kept, `fingerprint`: what says that the images are the same.
    """

    @property
    def classes(self) -> dict[str, tuple[str, ...]]:
        """Names of the classes by label kind, in the order of label values; {} without labels."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Example: ...


@dataclasses.dataclass(frozen=True)
class Wrapper:
    """What sources that wrap a source have in common: they say of themselves what it says."""

    source: Source

    @property
    def classes(self) -> dict[str, tuple[str, ...]]:
        """Those of the source."""
        return self.source.classes

    @property
    def skipped(self) -> tuple[str, ...]:
        """Names of images that the source skips, if it counts them."""
        return getattr(self.source, "skipped", ())

    @property
    def rule(self) -> str:
        """How the source's list of images came about, if it says so."""
        return getattr(self.source, "rule", "")

    def __len__(self) -> int:
        return len(self.source)
