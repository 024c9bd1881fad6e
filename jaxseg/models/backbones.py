"""Backbones by name, and the frozen backbone that methods build on."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxseg.core import Array, PyTree, UserError
from jaxseg.models.resnet import ResNet
from jaxseg.models.vit import VisionTransformer


def _vit(**fields: Any) -> Callable[..., nn.Module]:
    return partial(VisionTransformer, **fields)


_SMALL = {"width": 384, "blocks": 12, "heads": 6}
_BASE = {"width": 768, "blocks": 12, "heads": 12}
_LARGE = {"width": 1024, "blocks": 24, "heads": 16}
# DINOv2 was trained, at last, on 518 pixels: 37 patches of 14.
_V2 = {"patch": 14, "trained": 37, "layer_scale": True}
_V2_REG = {**_V2, "registers": 4, "positions": "antialias"}
_V2_GIANT = {"width": 1536, "blocks": 40, "heads": 24, "swiglu": True, "hidden": 4096}
_V3 = {
    "patch": 16, "positions": "rotary", "registers": 4, "layer_scale": True, "epsilon": 1e-5
}  # fmt: skip
_V3_HUGE = {"width": 1280, "blocks": 32, "heads": 20, "swiglu": True}

# Each makes a module from a `dtype`. Plain ViTs serve DINO's weights and timm's alike; timm, unlike
# DINO and us, antialiases positions that it resamples. No two have the same arrays, so that shapes
# tell a file of another architecture.
ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {
    "vit_tiny_16": _vit(patch=16, width=192, blocks=12, heads=3),
    "vit_small_16": _vit(patch=16, **_SMALL),
    "vit_small_8": _vit(patch=8, trained=28, **_SMALL),
    "vit_base_16": _vit(patch=16, **_BASE),
    "vit_base_8": _vit(patch=8, trained=28, **_BASE),
    "dinov2_vit_small_14": _vit(**_V2, **_SMALL),
    "dinov2_vit_base_14": _vit(**_V2, **_BASE),
    "dinov2_vit_large_14": _vit(**_V2, **_LARGE),
    "dinov2_vit_giant_14": _vit(**_V2, **_V2_GIANT),
    "dinov2_vit_small_14_reg": _vit(**_V2_REG, **_SMALL),
    "dinov2_vit_base_14_reg": _vit(**_V2_REG, **_BASE),
    "dinov2_vit_large_14_reg": _vit(**_V2_REG, **_LARGE),
    "dinov2_vit_giant_14_reg": _vit(**_V2_REG, **_V2_GIANT),
    "dinov3_vit_small_16": _vit(**_V3, **_SMALL),
    "dinov3_vit_small_plus_16": _vit(**_V3, **_SMALL, swiglu=True),
    "dinov3_vit_base_16": _vit(**_V3, **_BASE),
    "dinov3_vit_large_16": _vit(**_V3, **_LARGE),
    "dinov3_vit_large_plus_16": _vit(**_V3, **_LARGE, swiglu=True),
    "dinov3_vit_huge_plus_16": _vit(**_V3, **_V3_HUGE),
    "vit_test": _vit(patch=8, width=48, blocks=3, heads=6, trained=8),
    "resnet18": partial(ResNet, blocks=(2, 2, 2, 2), bottleneck=False),
    "resnet34": partial(ResNet, blocks=(3, 4, 6, 3), bottleneck=False),
    "resnet50": partial(ResNet, blocks=(3, 4, 6, 3)),
    # A quarter of the channels, for two CPU cores.
    "resnet18_slim": partial(ResNet, blocks=(2, 2, 2, 2), bottleneck=False, stem=16),
    "resnet_test": partial(ResNet, blocks=(1, 1, 1, 3), stem=4),
    "resnet_tiny": partial(ResNet, blocks=(1, 1, 1, 1), bottleneck=False, stem=4),
}
RESNETS = tuple(name for name in ARCHITECTURES if name.startswith("resnet"))

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclasses.dataclass(frozen=True)
class Backbone:
    """A network in evaluation mode that turns images into a grid of features.

    Its tree is {"params": ..., "stats": BatchNorm statistics, "mean": f32[3], "std": f32[3]}, which
    `weights.read_weights` reads from a file and `weights.load_into` fills.

    Attributes:
        arch: a key of ARCHITECTURES.
        dtype: "float32" or "bfloat16", of the computation; features are float32.
    """

    arch: str
    dtype: str = "float32"

    def __post_init__(self):
        if self.arch not in ARCHITECTURES:
            raise UserError(
                f"The backbone {self.arch!r} is none of {', '.join(sorted(ARCHITECTURES))}."
            )
        if self.dtype not in ("float32", "bfloat16"):
            raise UserError(f"A backbone's dtype is {self.dtype!r}; it is float32 or bfloat16.")

    @property
    def module(self) -> Any:
        """The Linen module, which gives more than `features`: keys and attention, or all stages."""
        return ARCHITECTURES[self.arch](dtype=jnp.dtype(self.dtype))

    @property
    def patch(self) -> int:
        """Pixels along the side of a cell."""
        return self.module.patch

    @property
    def width(self) -> int:
        """D, features of a cell."""
        return self.module.width

    def init(self, key: Array) -> PyTree:
        """Returns a tree of random weights, with ImageNet's mean and deviation."""
        image = jnp.zeros((1, 2 * self.patch, 2 * self.patch, 3), jnp.float32)
        # Under jit nothing of the forward pass is computed, for only the weights are asked for.
        variables = jax.jit(partial(self.module.init, **self._mode))(key, image)
        return {
            "params": variables["params"],
            "stats": variables.get("batch_stats", {}),
            "mean": jnp.asarray(IMAGENET_MEAN, jnp.float32),
            "std": jnp.asarray(IMAGENET_STD, jnp.float32),
        }

    def features(self, tree: PyTree, image: Array) -> Array:
        """Returns f32[B h w D] for images u8[B H W Ch], of which the first three channels count.

        ViTs give the patch tokens after the last norm, ResNets the map of res5.

        Raises:
            ValueError: H or W is no multiple of a ViT's patch.
        """
        unit = image[..., :3].astype(jnp.float32) / 255.0
        x = (unit - tree["mean"].reshape(1, 1, 1, 3)) / tree["std"].reshape(1, 1, 1, 3)
        variables = {"params": tree["params"], "batch_stats": tree["stats"]}
        found = self.module.apply(variables, x, **self._mode)
        return found[-1] if self._convolutional else found.patches

    @property
    def _convolutional(self) -> bool:
        return isinstance(self.module, ResNet)

    @property
    def _mode(self) -> dict[str, bool]:
        return {"train": False} if self._convolutional else {}
