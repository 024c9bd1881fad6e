"""Segments of training images with their features, to look up what is most like a segment.

The index is made once and kept in the work directory, in `neighbours.npz` (plain arrays, no
pickle). It is bounded: at most `LIMIT` images, evenly over the training split, each as a small
picture; and of each image the segments that are not tiny.
"""

import dataclasses
import json
import os
import pathlib
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from skimage.measure import label as connected

from jaxseg import build
from jaxseg.commands.bar import Bar
from jaxseg.data.source import Source
from jaxseg.evaluate_hierarchy import group_features
from jaxseg.report.parts import smaller
from jaxseg.segmentation import Segmentation
from jaxseg.segmenter import Segmenter
from jaxseg.trained import as_tuples

FILE, LIMIT = "neighbours.npz", 200
# What reading a file that is not there, or is damaged, raises.
_DAMAGED = (OSError, ValueError, KeyError, zipfile.BadZipFile, zlib.error)
CLUSTERS = "clusters"  # the parts of an image that hang together in one cluster
_SIDE = 128  # pixels of the longer side of a picture that is kept
_SMALLEST = 0.002  # share of its image, of the smallest segment that is kept


class Neighbour(NamedTuple):
    """A segment of a training image.

    Attributes:
        image: u8[H W 3], small; inside: bool[H W], the segment.
        cosine: of its mean feature and that of what was asked for.
    """

    image: np.ndarray
    inside: np.ndarray
    cosine: float


def groupings(found: Segmentation) -> dict[str, np.ndarray]:
    """Returns segments i32[H W] of an image by name: of clusters, and of each level."""
    levels = ["base segments", *(f"level {i}" for i in range(1, len(found.levels)))]
    parts = connected(found.labels + 1, connectivity=1).astype(np.int32) - 1
    return {CLUSTERS: parts, **dict(zip(levels, found.levels, strict=False))}


@dataclasses.dataclass(frozen=True)
class SegmentIndex:
    """What is kept of N images.

    Attributes:
        images: u8[h w 3] each; maps: i32[h w] each, by the name of a grouping.
        features: f16[S D] of length 1 by the name of a grouping; places: i32[S 2], each one's image
            and its number in the map.
        identity: what it was made of.
    """

    images: list[np.ndarray]
    maps: dict[str, list[np.ndarray]]
    features: dict[str, np.ndarray]
    places: dict[str, np.ndarray]
    identity: dict[str, str | int]

    def nearest(self, grouping: str, feature: np.ndarray, count: int = 8) -> list[Neighbour]:
        """Returns the segments nearest to a feature f32[D] of length 1, at most one of an image."""
        if grouping not in self.features:
            return []
        cosines = self.features[grouping].astype(np.float32) @ feature
        found: dict[int, Neighbour] = {}
        for place in np.argsort(-cosines, kind="stable"):
            image, number = self.places[grouping][place]
            if image not in found:
                inside = self.maps[grouping][image] == number
                found[image] = Neighbour(self.images[image], inside, float(cosines[place]))
            if len(found) == count:
                break
        return list(found.values())

    def save(self, path: pathlib.Path) -> None:
        """Writes the file, atomically."""
        arrays: dict[str, Any] = {
            "identity": np.frombuffer(json.dumps(self.identity).encode(), np.uint8)
        }
        arrays |= {f"image/{i:05d}": image for i, image in enumerate(self.images)}
        for name, maps in self.maps.items():
            arrays |= {f"map/{name}/{i:05d}": one for i, one in enumerate(maps)}
            arrays[f"features/{name}"] = self.features[name]
            arrays[f"places/{name}"] = self.places[name]
        temporary = path.with_name(f"{path.stem}.{os.getpid()}.tmp.npz")
        np.savez_compressed(temporary, **arrays)
        temporary.replace(path)

    @classmethod
    def read(cls, path: pathlib.Path) -> "SegmentIndex":
        """Reads what `save` wrote; raises one of _DAMAGED for another file."""
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)

        def several(prefix: str) -> list[np.ndarray]:
            return [arrays[name] for name in sorted(arrays) if name.rpartition("/")[0] == prefix]

        names = [name.partition("/")[2] for name in arrays if name.startswith("features/")]
        return cls(
            several("image"),
            {name: several(f"map/{name}") for name in names},
            {name: arrays[f"features/{name}"] for name in names},
            {name: arrays[f"places/{name}"] for name in names},
            json.loads(arrays["identity"].tobytes()),
        )


def open_index(workdir: pathlib.Path, segmenter: Segmenter, limit: int = LIMIT) -> SegmentIndex:
    """Returns the index of a run's training images, which is made where there is none of it yet.

    Raises:
        UserError: the training images are not there, or the run keeps no config.
    """
    path = workdir / FILE
    identity: dict[str, str | int] = {"clusters": segmenter.trained.clusters, "limit": limit}
    try:
        kept = SegmentIndex.read(path)
        if kept.identity == identity:
            return kept
    except _DAMAGED:
        pass  # there is none, or it is damaged; it is made anew
    config = json.loads((workdir / "config.json").read_text())
    source = build.open_training(as_tuples(config["data"]))
    made = make_index(segmenter, source, limit, identity)
    made.save(path)
    return made


def make_index(
    segmenter: Segmenter, source: Source, limit: int, identity: dict[str, str | int]
) -> SegmentIndex:
    """Returns the index of at most `limit` images, evenly over a split."""
    shown = min(limit, len(source))
    numbers = [i * len(source) // max(shown, 1) for i in range(shown)]
    index = SegmentIndex([], {}, {}, {}, identity)
    features: dict[str, list[np.ndarray]] = {}
    places: dict[str, list[np.ndarray]] = {}
    with Bar("training images to look segments up in", shown) as bar:
        for found in segmenter.stream(source[i].image for i in numbers):
            bar.add()
            if found.is_tiled:
                continue  # of which no features are kept
            for name, small, numbered, means in _segments(found):
                index.maps.setdefault(name, []).append(small)
                features.setdefault(name, []).append(means)
                image = np.full_like(numbered, len(index.images))
                places.setdefault(name, []).append(np.stack([image, numbered], axis=1))
            index.images.append(smaller(found.image[..., :3], _SIDE, exact=False))
    index.features.update({name: np.concatenate(some) for name, some in features.items()})
    index.places.update({name: np.concatenate(some) for name, some in places.items()})
    return index


def _segments(
    found: Segmentation,
) -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
    """Yields of each grouping its name, small map, kept numbers i32[S] and features f16[S D]."""
    for name, groups in groupings(found).items():
        sizes = np.bincount(groups.reshape(-1)[groups.reshape(-1) >= 0])
        kept = np.flatnonzero(sizes >= _SMALLEST * groups.size).astype(np.int32)
        renumbered = np.full(len(sizes) + 1, -1, np.int32)
        renumbered[kept] = np.arange(len(kept))
        few = renumbered[np.where(groups < 0, len(sizes), groups)]
        means = group_features(found.features, few)[: len(kept)]
        numbers = np.arange(len(kept), dtype=np.int32)
        yield name, smaller(few, _SIDE, exact=True), numbers, means.astype(np.float16)


def feature_of(found: Segmentation, inside: np.ndarray) -> np.ndarray:
    """Returns the mean feature f32[D], of length 1, of the pixels `inside` bool[H W]."""
    return group_features(found.features, np.where(inside, 0, -1))[0]
