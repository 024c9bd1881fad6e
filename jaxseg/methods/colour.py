"""Colour and position as features, for k-means on raw pixels: a baseline that learns nothing."""

import dataclasses

import jax
import jax.numpy as jnp

from jaxseg.core import Array, Batch, Method, Output, PyTree, State


@dataclasses.dataclass(frozen=True)
class Colour(Method):
    """Pixels as vectors (channels in [0, 1], y and x in [0, 1] times `position`).

    Attributes:
        stride: averages blocks of this many pixels; 1 = every pixel.
        position: weight of the coordinates beside the colours.
    """

    stride: int = 1
    position: float = 1.0

    def init(self, key: Array, spec: Batch) -> State:
        """Returns a state without parameters."""
        del key, spec
        return State(step=jnp.zeros((), jnp.int32), params={}, extra={}, frozen={})

    def loss(
        self, state: State, batch: Batch, key: Array
    ) -> tuple[Array, tuple[PyTree, dict[str, Array]]]:
        """Returns 0: there is nothing to learn."""
        del batch, key
        return jnp.zeros(()), (state.extra, {})

    def predict(self, state: State, image: Array) -> Output:
        """Returns features f32[B h w Ch + 2]."""
        del state
        batch, height, width, channels = image.shape
        h, w = height // self.stride, width // self.stride
        cells = image[:, : h * self.stride, : w * self.stride].astype(jnp.float32) / 255.0
        cells = cells.reshape(batch, h, self.stride, w, self.stride, channels).mean((2, 4))
        y, x = jnp.meshgrid(jnp.linspace(0, 1, h), jnp.linspace(0, 1, w), indexing="ij")
        place = jnp.broadcast_to(self.position * jnp.stack([y, x], -1)[None], (batch, h, w, 2))
        return Output(features=jnp.concatenate([cells, jax.lax.stop_gradient(place)], -1))
