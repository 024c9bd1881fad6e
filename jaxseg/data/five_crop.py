"""Five-crop: the corners and the centre of each image, as a source that wraps a source."""

import dataclasses
import threading

from jaxseg.core import UserError
from jaxseg.data.fingerprint import digest, of_source
from jaxseg.data.source import Example, Wrapper

CROPS = ("top-left", "top-right", "bottom-left", "bottom-right", "centre")


@dataclasses.dataclass(frozen=True)
class FiveCrop(Wrapper):
    """Five crops of each image of `source`: index 5 i + c is crop c of image i, in order `CROPS`.

    A crop is floor(H / 2) x floor(W / 2) pixels; the centre's corner lies at round((side - crop) /
    2), halves to even, as in torchvision. Labels and regions are cropped alike. Each thread keeps
    the last image that it read, since the crops of one follow one another where a split is read in
    order; in a random order, put `Cached` inside to decode each image once.

    Source: Hamilton et al. 2022 (STEGO) and Lan et al. 2023 (SmooSeg), released code. That code
    writes the crops to disk as JPEG of default quality and so compresses them twice; these are the
    decoded pixels.

    Raises:
        UserError: an image with a side of 1 pixel.
    """

    _last: threading.local = dataclasses.field(
        default_factory=threading.local, compare=False, repr=False
    )

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the crops, if the source names its images; else ()."""
        names = getattr(self.source, "names", ())
        return tuple(_crop_name(name, crop) for name in names for crop in CROPS)

    @property
    def fingerprint(self) -> str:
        """That of the source's images, and that these are crops of them."""
        return digest("five-crop", of_source(self.source))

    def __len__(self) -> int:
        return len(CROPS) * len(self.source)

    def __getitem__(self, index: int) -> Example:
        number, crop = divmod(range(len(self))[index], len(CROPS))
        whole = self._read(number)
        shape = whole.image.shape[0], whole.image.shape[1]
        if min(shape) < 2:
            raise UserError(
                f"image {whole.name or number} is {shape[0]}x{shape[1]} (height x width), which "
                "has no half; remove it, or switch data.five_crop off"
            )
        window = _window(shape, crop)
        # Copies, for a slice that somebody keeps would keep the whole image in memory.
        return Example(
            image=whole.image[window].copy(),
            label={name: label[window].copy() for name, label in whole.label.items()},
            regions=None if whole.regions is None else whole.regions[window].copy(),
            name=_crop_name(whole.name, CROPS[crop]),
        )

    def _read(self, number: int) -> Example:
        """Returns an image of the source, read once for the crops that follow one another."""
        last: tuple[int, Example] | None = getattr(self._last, "read", None)
        if last is None or last[0] != number:
            last = self._last.read = number, self.source[number]
        return last[1]

    def __reduce__(self):
        # What a thread keeps does not travel to another process.
        return FiveCrop, (self.source,)


def _crop_name(name: str, crop: str) -> str:
    return f"{name} ({crop})"


def _window(shape: tuple[int, int], crop: int) -> tuple[slice, slice]:
    """Returns the rows and columns of a crop, by its place in `CROPS`."""
    halves = [side // 2 for side in shape]
    if crop == 4:
        corner = [round((side - half) / 2) for side, half in zip(shape, halves, strict=True)]
    else:
        at_end = divmod(crop, 2)
        corner = [
            end * (side - half) for end, side, half in zip(at_end, shape, halves, strict=True)
        ]
    y, x = corner
    return slice(y, y + halves[0]), slice(x, x + halves[1])
