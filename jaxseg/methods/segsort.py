"""SegSort without labels (Hwang et al. 2019, "SegSort: Segmentation by Discriminative Sorting of
Segments"), in the form that HSG compares with (Ke et al. 2022).

The segments of a view are its coherent regions. A pixel is drawn to its own segment and pushed from
all others of the batch. HSG's paper does not say how its baseline was trained; here it has HSG's
network, temperature and schedule, and a single view (`data.views`), where the original has a
PSPNet-ResNet101 from ImageNet weights, 32 features and kappa 10.
"""

import dataclasses

from jaxseg.core import Array, Batch, Output, PyTree, State
from jaxseg.losses.contrastive import segment_contrast
from jaxseg.methods.segment_method import SegmentMethod, counts


@dataclasses.dataclass(frozen=True)
class SegSort(SegmentMethod):
    """SegSort; fields as in `SegmentMethod`, with regions as the segments."""

    grid: tuple[int, int] = (1, 1)

    def loss(
        self, state: State, batch: Batch, key: Array
    ) -> tuple[Array, tuple[PyTree, dict[str, Array]]]:
        """Returns the contrast, and metrics "segments" (of an image) and "merged" (of the batch).

        Raises:
            ValueError: the batch has no images or no regions.
        """
        features, extra = self._features(state, batch, key)
        compared, found = self._compared(features, batch.regions)
        return segment_contrast(compared, self.kappa, self.dtype), (extra, counts(found))

    def predict(self, state: State, image: Array) -> Output:
        """Returns features of length 1, and one level: the segments of k-means from `test_grid`."""
        features, (labels, _, _) = self._base(state, image)
        return Output(features=features, levels=(labels,))
