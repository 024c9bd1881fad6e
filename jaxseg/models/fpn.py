"""A ResNet with PiCIE's feature pyramid: four pointwise convolutions at a quarter of the size."""

import dataclasses
from typing import Any, cast

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxseg.clustering.kmeans import normalise
from jaxseg.core import UserError
from jaxseg.models.backbones import RESNETS, Backbone
from jaxseg.models.heads import torch_bias, torch_kernel

Array = jax.Array
PyTree = Any

FORMS = ("code", "paper")


class PanopticFPN(nn.Module):
    """Maps of a backbone's stages -> one map of the first one's size, without smoothing.

    Attributes:
        dim: D, features of a cell.
        form: "code" takes the maps to `dim` and then, from the last on, upsamples the sum and adds
            the next; "paper" upsamples each to the first one's size and adds them all.
        dtype: of the computation; parameters and features are float32.

    Source: Kirillov et al. 2019; Cho et al. 2021 (PiCIE), section 3 and released code.
    """

    dim: int
    form: str = "code"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, maps: tuple[Array, ...]) -> Array:
        """Maps f32[B h w C] of each stage to f32[B h w D]."""
        lateral = [
            nn.Dense(
                self.dim,
                dtype=self.dtype,
                kernel_init=torch_kernel,
                bias_init=torch_bias(x.shape[-1]),
                name=f"res{i + 2}",
            )(x)
            for i, x in enumerate(maps)
        ]
        if self.form == "paper":
            total = lateral[0]
            for x in lateral[1:]:
                total = total + _upsample(x, total)
            return total.astype(jnp.float32)
        total = lateral[-1]
        for x in lateral[-2::-1]:
            total = x + _upsample(total, x)
        return total.astype(jnp.float32)


def _upsample(x: Array, like: Array) -> Array:
    return jax.image.resize(x, (*like.shape[:3], x.shape[-1]), "bilinear", antialias=False)


@dataclasses.dataclass(frozen=True)
class BackboneFPN:
    """A trainable ResNet and its pyramid, with their places in a method's state.

    Parameters are {"backbone", "fpn"}, so that a weights file finds the backbone; what training
    moves beside them is {"backbone": {"stats", "mean", "std"}}: BatchNorm statistics, and what
    images in [0, 1] are normalised by.

    Attributes:
        arch: one of RESNETS; dim, form, dtype: as for `PanopticFPN`.

    Raises:
        UserError: `arch` is no ResNet.
    """

    arch: str
    dim: int
    form: str = "code"
    dtype: str = "float32"

    def __post_init__(self):
        if self.arch not in RESNETS:
            raise UserError(f"method.backbone is {self.arch!r}; it is one of {', '.join(RESNETS)}.")

    @property
    def _backbone(self) -> Backbone:
        return Backbone(self.arch, self.dtype)

    @property
    def _fpn(self) -> PanopticFPN:
        return PanopticFPN(self.dim, self.form, jnp.dtype(self.dtype))

    def init(self, key: Array) -> tuple[PyTree, PyTree]:
        """Returns random parameters, and the rest."""
        key_backbone, key_fpn = jax.random.split(key)
        tree = self._backbone.init(key_backbone)
        side = 64
        variables = {"params": tree["params"], "batch_stats": tree["stats"]}
        maps = jax.eval_shape(
            lambda v: self._backbone.module.apply(v, jnp.zeros((1, side, side, 3)), train=False),
            variables,
        )
        like = tuple(jnp.zeros(x.shape, x.dtype) for x in maps)
        params = {"backbone": tree.pop("params"), "fpn": self._fpn.init(key_fpn, like)["params"]}
        return params, {"backbone": tree}

    def features(
        self, params: PyTree, extra: PyTree, unit: Array, train: bool
    ) -> tuple[Array, PyTree]:
        """Returns features f32[B h w D] of images f32[B H W Ch] in [0, 1], and the new rest.

        The first three channels count. h and w are a quarter of H and W, rounded up. In training
        mode BatchNorm takes the statistics of the batch and moves the running ones.
        """
        own = extra["backbone"]
        mean, std = (own[name].reshape(1, 1, 1, 3) for name in ("mean", "std"))
        variables = {"params": params["backbone"], "batch_stats": own["stats"]}
        x = (unit[..., :3] - mean) / std
        maps, changed = self._backbone.module.apply(variables, x, train, mutable=["batch_stats"])
        found = self._fpn.apply({"params": params["fpn"]}, maps)
        return cast(Array, found), extra | {"backbone": own | {"stats": changed["batch_stats"]}}

    def directions(
        self, params: PyTree, extra: PyTree, unit: Array, train: bool
    ) -> tuple[Array, PyTree]:
        """Returns `features` of length 1, and the new rest."""
        found, extra = self.features(params, extra, unit, train)
        return normalise(found), extra
