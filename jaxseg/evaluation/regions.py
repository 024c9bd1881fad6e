"""How well groups of pixels match labelled regions, image by image; nothing is matched one to one.

A comparison is a table i64[R G+1] of one image: pixels by region and group; the last column holds
pixels in no group. Regions are the values of a label map, and need not be connected.
"""

import dataclasses

import numpy as np

MEASURES = ("covering", "nfcovering", "fscore")


def compare(regions: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Returns the table i64[R+1 G+1] of maps i[H W], R and G being one more than their largest.

    Negative regions are in the last row and negative groups in the last column.
    """
    rows, columns = int(regions.max(initial=-1)) + 2, int(groups.max(initial=-1)) + 2
    row = np.where(regions < 0, rows - 1, regions).astype(np.int64)
    place = row * columns + np.where(groups < 0, columns - 1, groups)
    return np.bincount(place.reshape(-1), minlength=rows * columns).reshape(rows, columns)


@dataclasses.dataclass(frozen=True, eq=False)
class RegionScores:
    """A mergeable record of how well one level matches one kind of region.

    Attributes:
        sums: f64[3], in the order of `MEASURES`; counts: i64[3], what they are means over: images
            with regions, images with foreground, and foreground regions.
    """

    sums: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(3))
    counts: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(3, np.int64))

    def update(self, table: np.ndarray, foreground: np.ndarray) -> "RegionScores":
        """Returns the record with an image's table [R+1 G+1] of `compare` added.

        `foreground` bool[R] says which regions NFCovering and the F-score are of. Pixels without a
        region count in the size of the groups that they are in: a group that reaches beyond what is
        labelled fits it less well. Set the last row to 0 to leave them out.
        """
        inside = table[:-1, :-1].astype(np.float64)
        region, group = table[:-1].sum(axis=1), table[:, :-1].sum(axis=0)
        there = region > 0
        if not there.any():
            return self
        inside, region, foreground = inside[there], region[there], foreground[there]
        total = region[:, None] + group[None]  # never 0
        overlap = (inside / (total - inside)).max(axis=1, initial=0)
        fscore = (2 * inside / total).max(axis=1, initial=0)[foreground]
        covering = (region * overlap).sum() / region.sum()
        found = foreground.any()
        normalised = overlap[foreground].mean() if found else 0.0
        sums = np.array([covering, normalised, fscore.sum()])
        counts = np.array([1, int(found), len(fscore)])
        return self.merge(RegionScores(sums, counts))

    def merge(self, other: "RegionScores") -> "RegionScores":
        """Returns the record of the images of both."""
        return RegionScores(self.sums + other.sums, self.counts + other.counts)

    def result(self) -> dict[str, float]:
        """Returns the means by name, in [0, 1]; nan over nothing.

        "covering": over images, of the segmentation covering (Arbelaez et al. 2011, section 2.3.3):
        the intersection over union of each region with the group that it overlaps best, weighted
        with its size. "nfcovering": the same over foreground regions of equal weight (Ke et al.
        2022). "fscore": over all foreground regions of all images, the largest 2|R and G| / (|R| +
        |G|) over groups G. The papers do not say how images are averaged.
        """
        means = np.divide(self.sums, self.counts, out=np.full(3, np.nan), where=self.counts > 0)
        return dict(zip(MEASURES, means.tolist(), strict=True))
