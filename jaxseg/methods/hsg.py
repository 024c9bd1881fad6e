"""HSG (Ke et al. 2022, "Unsupervised Hierarchical Semantic Segmentation with Multiview
Cosegmentation and Clustering Transformers").

Each view of an image becomes pixel features of length 1, and these become segments: k-means from a
grid, split by the coherent regions of the image (`clustering/segments.py`). Small transformers
group the segments of all views of an image, and then the groups, level by level. A pixel is drawn
to the segments that share its region, and to those that share its group at each level, in either
view, and pushed from all others of the batch (`losses/contrastive.py`); and the groups are to be
good ones (`losses/modularity.py`).

Where paper and released code differ, a field says what it does. What has no field is the code's:
location enters the k-means, statistics are the decoder's content and learned queries its position,
centroid separation is over the batch with the contrast's temperature, pixels without positives take
their own segment, losses are means over pixels and images. There is no memory bank, as in both.
"""

import dataclasses
import functools
from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxseg.clustering import segments as seg
from jaxseg.clustering.grouping import GROUPERS
from jaxseg.core import Array, Batch, Output, PyTree, State, UserError
from jaxseg.losses import modularity
from jaxseg.losses.contrastive import hierarchical_contrast, separation
from jaxseg.methods.segment_method import SegmentMethod, counts
from jaxseg.models.clustering_transformer import DEVIATIONS, NORMS, ClusteringTransformer
from jaxseg.models.hierarchy import Hierarchy, Level

GRAPHS = ("views", "image")
TRANSFORMER = "transformer"


@dataclasses.dataclass(frozen=True)
class HSG(SegmentMethod):
    """Hierarchical segment grouping and the ablations of the paper's tables 3 and 4.

    Attributes (others in `SegmentMethod`):
        sizes: groups of each level, fine to coarse.
        heads, hidden, layers, dropout: of the transformers, see `ClusteringTransformer`.
        positions: side of the position tables, in cells. trained_cells: side of the map of a
            training view, `data.crop` / `train_stride`, or / `cell`; other maps' positions lie in
            between.
        grouper: "transformer"; or "kmeans", "ncut", "finch" of `clustering.grouping`, which learn
            nothing, so that there is no goodness of grouping (the paper's table 4).
        region_weight, level_weight, grouping_weight: λE of the contrast by regions, λF of that by
            the groups of each level, λG of the goodness of grouping.
        neighbours: k of the graph that modularity is of; graph: "views" (k in each view; COCO and
            VOC) or "image" (k over all views; Cityscapes and KITTI).
        norm: "batch" as published, or "layer". masked_norm: statistics are of real segments alone;
            False counts empty slots too, as released.
        masked_std: the deviation that the decoder starts from, "valid", or "code" with the released
            code's slip. collapse_count: n0, "valid", or "padded" as released.
    """

    sizes: tuple[int, ...] = (8, 4)
    heads: int = 4
    hidden: int = 256
    layers: tuple[int, int] = (2, 2)
    dropout: float = 0.1
    positions: int = 50
    trained_cells: int = 28
    grouper: str = TRANSFORMER
    region_weight: float = 1.0
    level_weight: float = 0.1
    grouping_weight: float = 1.0
    neighbours: int = 2
    graph: str = "views"
    norm: str = "batch"
    masked_norm: bool = True
    masked_std: str = "valid"
    collapse_count: str = "valid"

    choices: ClassVar[dict[str, tuple[str, ...]]] = SegmentMethod.choices | {
        "grouper": (TRANSFORMER, *GROUPERS),
        "graph": GRAPHS,
        "norm": NORMS,
        "masked_std": DEVIATIONS,
        "collapse_count": modularity.COUNTS,
    }

    def __post_init__(self):
        super().__post_init__()
        falling = all(a > b > 0 for a, b in zip(self.sizes, self.sizes[1:], strict=False))
        if not self.sizes or not falling or self.sizes[0] < 1:
            raise UserError(f"method.sizes is {self.sizes}; it falls from each level to the next.")

    @property
    def _hierarchy(self) -> Hierarchy:
        transformer = functools.partial(
            ClusteringTransformer, heads=self.heads, hidden=self.hidden, dropout=self.dropout,
            norm=self.norm, masked_norm=self.masked_norm, layers=self.layers,
            masked_std=self.masked_std,
        )  # fmt: skip
        return Hierarchy(self.sizes, self.positions, self.trained_cells, transformer)

    def init(self, key: Array, spec: Batch) -> State:
        """Returns fresh groups "backbone", "head" and, with transformers, "grouping".

        Raises:
            UserError: `trained_cells` is not the side of the map of a view like those of `spec`.
        """
        key_net, key_grouping = jax.random.split(key)
        state = super().init(key_net, spec)
        if self.grouper != TRANSFORMER:
            return state
        if spec.image is not None:
            crop = spec.image.shape[2]
            finer = self.train_stride // self._net.cell_side(train=True)
            cells = -(-crop // self.train_stride) * finer
            if cells != self.trained_cells:
                raise UserError(
                    f"method.trained_cells is {self.trained_cells}, but views of {crop} pixels "
                    f"have features on {cells} x {cells} cells; set it to {cells}."
                )
        params, stats = self._hierarchy.draw(key_grouping, self.dim)
        return state.replace(
            params=state.params | {"grouping": params}, extra=state.extra | {"grouping": stats}
        )

    def _grouped(
        self, state: State, segments: Array, mask: Array, slot: Array, key: Array | None
    ) -> tuple[list[Array], tuple[Level, ...], PyTree]:
        """Returns groups i32[B S] by level, the transformers' levels if there are any, their rest.

        `slot` i32[B V h w] says where segments f32[B S D] are. Training has a key.
        """
        if self.grouper != TRANSFORMER:
            return list(GROUPERS[self.grouper](segments, mask, self.sizes)), (), {}
        own = state.params["grouping"], state.extra["grouping"]
        levels, stats = self._hierarchy.group(*own, segments, mask, slot, key is not None, key)
        return [level.group for level in levels], levels, {"grouping": stats}

    def loss(
        self, state: State, batch: Batch, key: Array
    ) -> tuple[Array, tuple[PyTree, dict[str, Array]]]:
        """Returns the loss, and its terms without weights, by level (1 = fine; E = regions).

        Other metrics: "segments" (of an image) and "merged" (of the batch).

        Raises:
            ValueError: the batch has no images or no regions.
        """
        key_view, key_drop = jax.random.split(key)
        features, extra = self._features(state, batch, key_view)
        total, rest, metrics = self.loss_of(state, features, batch.regions, key_drop)
        return total, (extra | rest, metrics)

    def loss_of(
        self, state: State, features: Array, regions: Array | None, key: Array
    ) -> tuple[Array, PyTree, dict[str, Array]]:
        """Returns the loss, what it moves of `extra`, and the metrics, from the features on.

        Args:
            features: f32[B V h w D], of length 1.
            regions: i32[B V H W].
            key: of the dropout.
        """
        compared, found = self._compared(features, regions)
        segments, mask = compared.segments, compared.mask
        groupings, weights = {"E": found.region}, {"E": self.region_weight}
        rest: PyTree = {}
        terms: dict[str, Array] = {}
        total = jnp.zeros(())
        if self.level_weight or self.grouping_weight:
            groups, levels, rest = self._grouped(state, segments, mask, found.slot, key)
            for i, group in enumerate(groups, 1):
                groupings[str(i)], weights[str(i)] = group, self.level_weight
            terms = self._goodness(segments, found, levels)
            total += self.grouping_weight * sum(terms.values(), jnp.zeros(()))
        contrasts = hierarchical_contrast(
            compared, list(groupings.values()), self.kappa, self.dtype
        )
        for name, contrast in zip(groupings, contrasts, strict=True):
            terms[f"L_f_{name}"] = contrast
            total += weights[name] * contrast
        return total, rest, terms | counts(found)

    def _goodness(
        self, segments: Array, found: seg.Segments, levels: tuple[Level, ...]
    ) -> dict[str, Array]:
        """Returns modularity, collapse and separation of each level."""
        view = found.view if self.graph == "views" else None
        views = found.slot.shape[1] if self.graph == "views" else 1
        graph = modularity.nearest_graph(segments, found.mask, self.neighbours, view, views)
        terms = {}
        for i, level in enumerate(levels, 1):
            share = level.assignment
            terms[f"L_mod_{i}"] = modularity.modularity_loss(graph, share)
            terms[f"L_col_{i}"] = modularity.collapse_loss(share, found.mask, self.collapse_count)
            terms[f"L_sep_{i}"] = separation(level.centroids, self.kappa)
        return terms

    def predict(self, state: State, image: Array) -> Output:
        """Returns features of length 1 and the levels: segments from `test_grid`, then the groups.

        aux, with transformers: "attention/level1" and so on, f32[B h' w' n], how much each group's
        query looks at the segment (or the group of the level before) of each cell of the levels'
        map, the mean over heads.
        """
        features, (labels, segments, mask) = self._base(state, image)
        groups, levels, _ = self._grouped(state, segments, mask, labels[:, None], None)
        maps = [labels, *(seg.paint(group, labels) for group in groups)]
        looked = [jnp.swapaxes(level.attention.mean(1), 1, 2) for level in levels]
        aux = {
            f"attention/level{i}": seg.paint(look, below)
            for i, (look, below) in enumerate(zip(looked, maps, strict=False), 1)
        }
        return Output(features=features, levels=tuple(maps), aux=aux)
