"""A ResNet and a head that learn features of cells, of length 1; the test stride is a finer one."""

import dataclasses
from typing import Any, cast

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxseg.clustering.kmeans import normalise
from jaxseg.core import UserError
from jaxseg.models.backbones import ARCHITECTURES, RESNETS, Backbone
from jaxseg.models.fcn import FCNHead
from jaxseg.models.pspnet import PSPHead
from jaxseg.models.resnet import ResNet

Array = jax.Array
PyTree = Any

HEADS = ("fcn", "psp")
STRIDES = (32, 16, 8)


@dataclasses.dataclass(frozen=True)
class PixelNet:
    """A trainable ResNet with a head, and their places in a method's state.

    Parameters are {"backbone", "head"}, so that a weights file finds the backbone; what training
    moves beside them is {"backbone": {"stats", "mean", "std"}, "head": {"stats"}}: BatchNorm
    statistics, and what images in [0, 1] are normalised by. All strides share one tree.

    Attributes:
        arch: one of `backbones.RESNETS`.
        dim: D, features of a cell.
        head: "fcn" (`FCNHead`) or "psp" (`PSPHead`).
        width: channels inside a "psp" head; "fcn" has as many as come in.
        train_stride, test_stride: of the last stage, each of STRIDES.
        multi_grid: factors of the dilation in the last stage's blocks, see `ResNet`; of stages with
            fewer blocks the first so many count.
        cell: pixels along a side of a cell of the features, where the head's map is to be upsampled
            bilinearly to that; 0 = the strides. HSG's predecessor trains at stride 16 on maps of
            twice the size, a `cell` of 8.
        remat: whether the backward pass computes each residual block again in the place of keeping
            what is inside, which takes less memory and more time.
        dtype: "float32" or "bfloat16", of the computation; parameters and features are float32.

    Raises:
        UserError: `arch` is no ResNet; a head, stride or cell that there is not; fewer factors in
            `multi_grid` than the last stage has blocks.

    Source: Ke et al. 2022 (HSG), section 4 and released code.
    """

    arch: str
    dim: int
    head: str = "fcn"
    width: int = 512
    train_stride: int = 16
    test_stride: int = 8
    multi_grid: tuple[int, ...] = (1, 2, 4)
    cell: int = 0
    remat: bool = False
    dtype: str = "float32"

    def __post_init__(self):
        for field, value, allowed in (
            ("backbone", self.arch, RESNETS),
            ("head", self.head, HEADS),
            ("train_stride", self.train_stride, STRIDES),
            ("test_stride", self.test_stride, STRIDES),
        ):
            if value not in allowed:
                options = ", ".join(map(str, allowed))
                raise UserError(f"method.{field} is {value!r}; it is one of {options}.")
        if self.cell and (self.train_stride % self.cell or self.test_stride % self.cell):
            raise UserError(
                f"method.cell is {self.cell}; it is 0 or divides both strides, "
                f"{self.train_stride} and {self.test_stride}."
            )
        blocks = self._blocks
        if self.multi_grid and len(self.multi_grid) < blocks:
            raise UserError(
                f"method.multi_grid is {self.multi_grid}; the last stage of {self.arch} has "
                f"{blocks} blocks: give one factor for each, or none at all."
            )

    def cell_side(self, train: bool) -> int:
        """Returns the pixels along a side of a cell of the features."""
        return self.cell or self._stride(train)

    def init(self, key: Array) -> tuple[PyTree, PyTree]:
        """Returns random parameters, and the rest."""
        key_backbone, key_head = jax.random.split(key)
        backbone = Backbone(self.arch, self.dtype)
        tree = backbone.init(key_backbone)
        cells = jnp.zeros((1, 2, 2, backbone.width))
        head = jax.jit(lambda key: self._head.init(key, cells, train=False))(key_head)
        params = {"backbone": tree.pop("params"), "head": head["params"]}
        return params, {"backbone": tree, "head": {"stats": head["batch_stats"]}}

    def features(
        self, params: PyTree, extra: PyTree, unit: Array, train: bool
    ) -> tuple[Array, PyTree]:
        """Returns features f32[B h w D] of images f32[B H W Ch] in [0, 1], and the new rest.

        Features have length 1. The first three channels count. h and w are H and W divided by the
        stride and rounded up, or with `cell` more by that factor. In training mode BatchNorm takes
        the statistics of the batch and moves the running ones.
        """
        own = extra["backbone"]
        mean, std = (own[name].reshape(1, 1, 1, 3) for name in ("mean", "std"))
        variables = {"params": params["backbone"], "batch_stats": own["stats"]}
        maps, changed = self._backbone(train).apply(
            variables, (unit[..., :3] - mean) / std, train, mutable=["batch_stats"]
        )
        variables = {"params": params["head"], "batch_stats": extra["head"]["stats"]}
        found, moved = self._head.apply(variables, maps[-1], train, mutable=["batch_stats"])
        rest = {
            "backbone": own | {"stats": changed["batch_stats"]},
            "head": {"stats": moved["batch_stats"]},
        }
        return normalise(self._upsample(cast(Array, found), train)), extra | rest

    def _upsample(self, x: Array, train: bool) -> Array:
        factor = self._stride(train) // self.cell_side(train)
        shape = (x.shape[0], x.shape[1] * factor, x.shape[2] * factor, x.shape[3])
        return x if factor == 1 else jax.image.resize(x, shape, "bilinear", antialias=False)

    def _stride(self, train: bool) -> int:
        return self.train_stride if train else self.test_stride

    @property
    def _blocks(self) -> int:
        """Blocks of the last stage."""
        return cast(ResNet, ARCHITECTURES[self.arch]()).blocks[-1]

    def _backbone(self, train: bool) -> ResNet:
        module = ARCHITECTURES[self.arch](
            dtype=jnp.dtype(self.dtype),
            stride=self._stride(train),
            multi_grid=self.multi_grid[: self._blocks],
            remat=self.remat,
        )
        return cast(ResNet, module)

    @property
    def _head(self) -> nn.Module:
        dtype = jnp.dtype(self.dtype)
        if self.head == "psp":
            return PSPHead(self.dim, self.width, dtype=dtype)
        return FCNHead(self.dim, dtype)
