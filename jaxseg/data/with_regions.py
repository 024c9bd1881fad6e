"""Coherent regions, carried along with the images of a source: from files or from elsewhere."""

import dataclasses
import os
import unicodedata

from jaxseg.core import UserError
from jaxseg.data.fingerprint import of_source
from jaxseg.data.graph_regions import GraphRegions
from jaxseg.data.images import find_files, read_label
from jaxseg.data.source import Example, Source, Wrapper


@dataclasses.dataclass(frozen=True)
class WithRegions(Wrapper):
    """Adds to each example of `source` its region map; made by `add_regions`.

    Raises:
      UserError: a region map has another size than its image, or cannot be read.
    """

    files: dict[str, str]  # region file by the name of an example, without suffix

    @property
    def fingerprint(self) -> str:
        """That of the source: regions change no image."""
        return of_source(self.source)

    @property
    def names(self) -> tuple[str, ...]:
        """Those of the source, if it names its images; else ()."""
        return getattr(self.source, "names", ())

    def stored(self, index: int) -> bytes | None:
        """The image file, where the source keeps one."""
        stored = getattr(self.source, "stored", None)
        return stored(index) if stored else None

    def __getitem__(self, index: int) -> Example:
        example = self.source[index]
        path = self.files.get(_key(example.name))
        if path is None:
            raise UserError(
                f"there is no region map for {example.name}. Make the regions of the whole split"
            )
        regions = read_label(path)
        if regions.shape != example.image.shape[:2]:
            height, width = example.image.shape[:2]
            raise UserError(
                f"region map {path} is {regions.shape[0]} x {regions.shape[1]} and its image "
                f"{height} x {width}; expected one size. Make the regions from these images"
            )
        return dataclasses.replace(example, regions=regions)


def open_regions(source: Source, regions: str, limit: int) -> tuple[Source, str]:
    """Returns the source with the regions that `regions` names, and a line that says which.

    "graph" segments each image, see `GraphRegions`, into at most `limit` regions; "stored" are
    those that the source has itself, as a packed one may; anything else is a folder as in
    `add_regions`.

    Raises:
      UserError: the source stores no regions; or as `add_regions`.
    """
    if regions == "graph":
        return GraphRegions(source, limit), (
            f"Regions: graph-based over-segmentation of each image, at most {limit} of one"
        )
    if regions == "stored":
        if source[0].regions is None:
            raise UserError(
                "data.regions is 'stored', but the training images have no regions with them. Pack "
                "the data set with --regions=DIR, or name 'graph' or a folder of region maps"
            )
        return source, "Regions: those that are stored with the images"
    field = f"data.regions is {regions!r}, which is neither 'graph' nor 'stored'"
    found = add_regions(source, regions, field)
    return found, f"Regions: files in {os.path.abspath(os.path.expanduser(regions))}"


def add_regions(source: Source, folder: str, field: str = "--regions") -> WithRegions:
    """Returns the source with regions from `folder`, whose PNGs mirror the names of the images.

    The regions of `street/a.jpg` are in `street/a.png`, a greyscale PNG of 8 or 16 bits whose
    values number the regions of that image. Messages begin with `field`.

    Raises:
      UserError: there is no such folder or no PNG in it, or names of the source have none.
    """
    top = os.path.abspath(os.path.expanduser(folder))
    if not os.path.isdir(top):
        raise UserError(f"{field}: there is no folder {top}. Check the path")
    files = {_key(name): os.path.join(top, name) for name in find_files(top, (".png",))}
    names = getattr(source, "names", ())
    missing = [name for name in names if _key(name) not in files]
    if missing or not files:
        shown = f": {', '.join(missing[:5])}" if missing else ""
        raise UserError(
            f"{field}: {len(missing) or len(source)} of {len(source)} images have no region map "
            f"under {top}{shown}. Make the regions of the whole split (python -m jaxseg.prepare "
            "regions), and give the folder below which they have these names"
        )
    return WithRegions(source, files)


def _key(name: str) -> str:
    # One accented letter has two spellings in Unicode; file systems mix them.
    return unicodedata.normalize("NFC", os.path.splitext(name)[0])
