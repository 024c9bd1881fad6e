"""Contours alone as a method: levels of regions that nothing but the boundary network made."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jaxseg.boundaries.edges import with_angles
from jaxseg.boundaries.network import NET, WEIGHTS, cell_strength, load_network, to_pixels
from jaxseg.core import Array, Batch, Method, Output, PyTree, State


@dataclasses.dataclass(frozen=True)
class Contours(Method):
    """The hierarchy of an image's contours, cut at a few numbers of regions: OWT-UCM, a baseline.

    It learns nothing from the images of a run, but its network has seen the boundaries that people
    drew in BSDS500. A hierarchy may have fewer regions than asked for, and never has more. What
    fills up a padded image is a region, too.

    Source: Ke et al. 2022, table 4, who cut at 12, 6 and 3 regions hierarchies made from structured
    forests.

    Attributes:
        sizes: the most regions of each level, falling.
    """

    sizes: tuple[int, ...] = (12, 6, 3)

    def init(self, key: Array, spec: Batch) -> State:
        """Returns a state whose frozen part is the boundary network that comes with jaxseg."""
        del key, spec
        frozen = {"network": load_network(str(WEIGHTS))}
        return State(step=jnp.zeros((), jnp.int32), params={}, extra={}, frozen=frozen)

    def loss(
        self, state: State, batch: Batch, key: Array
    ) -> tuple[Array, tuple[PyTree, dict[str, Array]]]:
        """Returns 0: there is nothing to learn."""
        del batch, key
        return jnp.zeros(()), (state.extra, {})

    def predict(self, state: State, image: Array) -> Output:
        """Returns the colours in [0, 1] as features f32[B H W 3], and levels of i32[B H W].

        The hierarchies are made on the host, one image after the other.
        """
        rgb = image[..., :3]
        height, width = rgb.shape[1:3]
        below, right = -height % NET.multiple, -width % NET.multiple
        padded = jnp.pad(rgb, ((0, 0), (0, below), (0, right), (0, 0)), "symmetric")
        cells = cell_strength(state.frozen["network"], padded)
        cells = cells[:, : -(-height // 2), : -(-width // 2)]

        def on_host(cells: Array) -> np.ndarray:
            return np.stack([self._cut(np.asarray(x), height, width) for x in cells], axis=1)

        shape = jax.ShapeDtypeStruct((len(self.sizes), *rgb.shape[:3]), jnp.int32)
        levels = jax.pure_callback(on_host, shape, cells)
        return Output(features=rgb.astype(jnp.float32) / 255, levels=tuple(levels))

    def _cut(self, cells: np.ndarray, height: int, width: int) -> np.ndarray:
        """Returns the levels i32[L height width] of an image's edge strengths f32[h w]."""
        # Here, for Higra brings matplotlib's pyplot along, a second of every start.
        from jaxseg.boundaries.ucm import make_hierarchy

        hierarchy = make_hierarchy(with_angles(to_pixels(cells, height, width)))
        return np.stack([hierarchy.regions(hierarchy.threshold(n)) for n in self.sizes])
