"""Hierarchies of groups: where their levels come from, and how well they match labelled regions."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxseg.clustering.grouping import GROUPERS
from jaxseg.clustering.segments import base_segments, paint
from jaxseg.core import Output, UserError
from jaxseg.evaluation.regions import RegionScores, compare

LEVELS = "levels"


@dataclasses.dataclass(frozen=True)
class Hierarchy:
    """Levels of groups within each image, finest first; nothing is fitted.

    Attributes:
        labels: label maps whose regions the levels are compared with. The first gives classes; the
            others may be parts, or numbers of instances.
        background: classes of the first label map that NFCovering and the F-score leave out, with
            all regions of the others that mostly lie in them.
        ignored: pixels that a label map says nothing of belong to no region. "outside": they count
            in the size of the groups that they are in, as they must where they are everything else
            (instances, parts of people); "dropped": they count nowhere.
        source: "levels" for those of the method, or the part of the output that holds features, as
            in `Output.part`. Then the base segments, level 0, are those of k-means with location
            features, at the features' resolution, from a `grid` (rows, columns) in `rounds` rounds,
            and `grouper`, a key of GROUPERS, merges them to levels of `sizes` groups.

    Raises:
        UserError: a value out of range.
    """

    labels: tuple[str, ...] = ("class",)
    background: tuple[str, ...] = ()
    ignored: str = "outside"
    source: str = LEVELS
    grid: tuple[int, int] = (6, 6)
    rounds: int = 15
    grouper: str = "kmeans"
    sizes: tuple[int, ...] = (8, 4)

    choices: ClassVar[dict[str, tuple[str, ...]]] = {
        "ignored": ("outside", "dropped"),
        "grouper": tuple(GROUPERS),
    }

    def __post_init__(self) -> None:
        for field, allowed in self.choices.items():
            if (value := getattr(self, field)) not in allowed:
                raise UserError(
                    f'probe "hierarchy": {field} is {value!r}; it is one of {", ".join(allowed)}'
                )
        sizes = (self.grid[0] * self.grid[-1], *self.sizes)
        if len(self.grid) != 2 or min(*self.grid, *sizes, self.rounds) < 1:
            raise UserError(
                f'probe "hierarchy": grid is {self.grid}, rounds {self.rounds} and sizes '
                f"{self.sizes}; set all to 1 or more, grid to (rows, columns)"
            )
        if list(sizes) != sorted(sizes, reverse=True) or not self.sizes:
            raise UserError(
                f'probe "hierarchy": sizes are {self.sizes} of {sizes[0]} base segments; a level '
                "has no more groups than the one before, and there is at least one"
            )
        if not self.labels:
            raise UserError('probe "hierarchy": labels is empty; name a label map, such as "class"')

    def check(self, output: Output) -> None:
        """Raises UserError for an output, abstract perhaps, that gives no levels."""
        if self.source != LEVELS:
            output.part(self.source)
        elif not output.levels:
            raise UserError(
                "The method has no levels of its own (its output has none); set "
                "evals.NAME.source to 'features', so that they are made from its features."
            )

    def levels(self, output: Output, valid: Array) -> tuple[Array, ...]:
        """Returns the levels i32[B h w]; raises as `check`.

        `valid` bool[B H W]: the real pixels. Of levels made here, cells that are not real hold -1.
        """
        self.check(output)
        if self.source == LEVELS:
            return output.levels
        features = output.part(self.source)
        real = jax.image.resize(valid.astype(jnp.float32), features.shape[:3], "nearest") > 0
        grid = (self.grid[0], self.grid[1])
        return _grouped(features, real, grid, self.rounds, self.grouper, tuple(self.sizes))


@functools.partial(jax.jit, static_argnames=("grid", "rounds", "grouper", "sizes"))
def _grouped(
    features: Array,
    real: Array,
    grid: tuple[int, int],
    rounds: int,
    grouper: str,
    sizes: tuple[int, ...],
) -> tuple[Array, ...]:
    """Returns base segments and their groups, i32[B h w] each; -1 where not `real`."""
    base, segments, mask = base_segments(features, features.shape[1:3], grid, rounds, real)
    groups = GROUPERS[grouper](segments, mask, sizes)
    numbers = jnp.broadcast_to(jnp.arange(mask.shape[1])[None], mask.shape)
    return tuple(paint(x, base) for x in (numbers, *groups))


@dataclasses.dataclass(frozen=True, eq=False)
class HierarchyScores:
    """A mergeable record of how well the levels of hierarchies match labelled regions.

    Attributes:
        regions: by level and label map.
        groups: i64[levels], the sum over images of the groups in each level; images: how many.
    """

    regions: Mapping[tuple[int, str], RegionScores] = dataclasses.field(default_factory=dict)
    groups: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.int64))
    images: int = 0

    def update(
        self,
        levels: Sequence[np.ndarray],
        labels: Mapping[str, np.ndarray],
        background: np.ndarray,
        ignored: str = "outside",
    ) -> "HierarchyScores":
        """Returns the record with an image added.

        Args:
            levels: i[H W] each, the same number for every image; negative = in no group.
            labels: i[H W] by name, the same names for every image; negative = no region. The first
                gives classes, or there are none.
            background: bool[C], of those classes; see `Hierarchy`.
            ignored: see `Hierarchy`.
        """
        found = dict(self.regions)
        classes = next(iter(labels.values()), None)
        for name, label in labels.items():
            assert classes is not None
            foreground = ~_lies_in(label, classes, background)
            for number, level in enumerate(levels):
                table = compare(label, level)
                if ignored == "dropped":
                    table[-1] = 0
                old = found.get((number, name), RegionScores())
                found[number, name] = old.update(table, foreground)
        counts = np.array([np.count_nonzero(np.bincount(x[x >= 0])) for x in levels], np.int64)
        groups = self.groups + counts if self.images else counts
        return HierarchyScores(found, groups, self.images + 1)

    def merge(self, other: "HierarchyScores") -> "HierarchyScores":
        """Returns the record of the images of both; ValueError for other levels or labels."""
        if not (self.images and other.images):
            return self if self.images else other
        if self.regions.keys() != other.regions.keys() or len(self.groups) != len(other.groups):
            raise ValueError("only records of the same levels and label maps can be merged")
        found = {key: value.merge(other.regions[key]) for key, value in self.regions.items()}
        return HierarchyScores(found, self.groups + other.groups, self.images + other.images)

    def result(self) -> dict[str, float]:
        """Returns the scores by name, such as "covering_level1_part"; see `RegionScores.result`.

        "groups_level1" is the mean number of groups of an image.
        """
        scores = {f"groups_level{i}": float(n) / self.images for i, n in enumerate(self.groups)}
        for (level, label), record in self.regions.items():
            scores |= {f"{k}_level{level}_{label}": v for k, v in record.result().items()}
        return scores


def _lies_in(regions: np.ndarray, classes: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Returns bool[R], whether most of a region's labelled pixels have one of the `chosen` classes.

    `regions` and `classes` i[H W], `chosen` bool[C]. Ties go to the smaller class.
    """
    table = compare(regions, classes)[:-1, :-1]
    if not table.size:
        return np.zeros(len(table), bool)
    return np.isin(table.argmax(axis=1), np.flatnonzero(chosen)) & table.any(axis=1)
