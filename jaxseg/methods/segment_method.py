"""What HSG and SegSort share: pixel features, and the segments of training and of inference."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp

from jaxseg.clustering import segments as seg
from jaxseg.core import Array, Batch, Method, Output, PyTree, State
from jaxseg.losses.contrastive import Compared
from jaxseg.models.backbones import RESNETS
from jaxseg.models.pixel_net import HEADS, PixelNet
from jaxseg.views import colour


@dataclasses.dataclass(frozen=True)
class SegmentMethod(Method):
    """A method that draws pixels to segments.

    Attributes:
        backbone: one of `models.backbones.RESNETS`; head: "fcn", or "psp" (VOC from ImageNet
            weights). train_stride, test_stride: pixels along a cell of their map, 32, 16 or 8.
        cell: pixels along a cell of the features, to which the head's map is brought bilinearly; 0
            = those of the strides. 8 is that of HSG's predecessor, which trains at stride 16.
        dim: D, features of a pixel.
        grid: (rows, columns) of the start of the k-means in training; (1, 1) makes the regions the
            segments. test_grid: in inference; rounds: of both.
        slots: S, segments of an image with all its views; beyond it the smallest are merged.
        kappa: the inverse temperature of the contrast.
        segment_stride: pixels along a cell of the map that inference finds segments on; features
            are brought to it bilinearly. 1 is that of the released retrieval.
        jitter: brightness, contrast, saturation and hue; jitter_share, grey_share, blur_share:
            probabilities. The paper lists a blur (of 0.5), the release has it off.
        dtype: "float32" or "bfloat16", of network and similarities; losses are float32.
        remat: compute the network's inner features again in the backward pass, for less memory.
    """

    backbone: str = "resnet50"
    head: str = "fcn"
    train_stride: int = 16
    test_stride: int = 8
    cell: int = 0
    dim: int = 128
    grid: tuple[int, int] = (4, 4)
    test_grid: tuple[int, int] = (6, 6)
    rounds: int = 15
    slots: int = 256
    kappa: float = 16.0
    segment_stride: int = 8
    jitter: tuple[float, float, float, float] = (0.4, 0.4, 0.4, 0.1)
    jitter_share: float = 0.8
    grey_share: float = 0.2
    blur_share: float = 0.0
    dtype: str = "float32"
    remat: bool = False

    choices: ClassVar[dict[str, tuple[str, ...]]] = {
        "backbone": RESNETS,
        "head": HEADS,
        "dtype": ("float32", "bfloat16"),
    }

    lowest: ClassVar[dict[str, int]] = {
        "cell": 0, "dim": 1, "rounds": 0, "slots": 1, "segment_stride": 1
    }  # fmt: skip
    numbers: ClassVar[dict[str, tuple[str, ...]]] = {
        "grid": ("rows", "columns"),
        "test_grid": ("rows", "columns"),
        "jitter": ("brightness", "contrast", "saturation", "hue"),
    }

    @property
    def _net(self) -> PixelNet:
        return PixelNet(
            self.backbone, self.dim, self.head, train_stride=self.train_stride,
            test_stride=self.test_stride, cell=self.cell, remat=self.remat, dtype=self.dtype,
        )  # fmt: skip

    def init(self, key: Array, spec: Batch) -> State:
        """Returns fresh groups "backbone" and "head"."""
        del spec
        params, extra = self._net.init(key)
        return State(step=jnp.zeros((), jnp.int32), params=params, extra=extra, frozen={})

    def _features(self, state: State, batch: Batch, key: Array) -> tuple[Array, PyTree]:
        """Returns features f32[B V h w D] of the changed views, of length 1, and the new extra."""
        if batch.image is None:
            raise ValueError("this batch holds no images; the method needs some")
        count, views = batch.image.shape[:2]
        unit = colour.to_unit(batch.image.reshape(count * views, *batch.image.shape[2:]))
        unit = colour.augment(
            key, unit, self.jitter, self.jitter_share, self.grey_share, self.blur_share
        )
        features, extra = self._net.features(state.params, state.extra, unit, train=True)
        return features.reshape(count, views, *features.shape[1:]), extra

    def _compared(self, features: Array, regions: Array | None) -> tuple[Compared, seg.Segments]:
        """Returns what the contrast compares, and the segments, of features f32[B V h w D].

        `regions` is i32[B V H W]; all views of an image are compared as one.
        """
        found = seg.segments_of_views(features, regions, self.grid, self.rounds, self.slots)
        count = len(features)
        cells, slot = features.reshape(count, -1, self.dim), found.slot.reshape(count, -1)
        segments = seg.segment_directions(cells, slot, self.slots)
        return Compared(cells, slot, segments, found.mask), found

    def predict_cells(self, state: State, image: Array) -> Output:
        """Returns features of length 1 alone."""
        features, _ = self._net.features(state.params, state.extra, colour.to_unit(image), False)
        return Output(features=features)

    def _base(self, state: State, image: Array) -> tuple[Array, tuple[Array, Array, Array]]:
        """Returns features f32[B h w D] of images, and what `segments.base_segments` does."""
        features = self.predict_cells(state, image).features
        height, width = (-(-side // self.segment_stride) for side in image.shape[1:3])
        return features, seg.base_segments(features, (height, width), self.test_grid, self.rounds)


def counts(found: seg.Segments) -> dict[str, Array]:
    """Returns metrics: segments of an image, and those of the batch that found no slot."""
    each = jnp.sum(found.mask, axis=-1).astype(jnp.float32)
    return {"segments": jnp.mean(each), "merged": jnp.sum(found.merged).astype(jnp.float32)}
