"""The boundary network that comes with the package: learned, small, and fast on a CPU.

It has seen the boundaries that people drew in the 300 images of BSDS500's train and val splits, as
structured forests have: its edges are not label-free. PMI is the choice that needs no labels. Those
images are for research only; see NOTICE beside the weights. `python -m jaxseg.train_boundaries`
makes the weights again.
"""

import functools
import os
import pathlib
from collections.abc import Callable

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from flax import traverse_util

from jaxseg.boundaries.edges import Edges, with_angles
from jaxseg.core import PyTree, UserError
from jaxseg.models.boundary_net import BoundaryNet
from jaxseg.models.weights import differences, shapes

NET = BoundaryNet()
WEIGHTS = pathlib.Path(__file__).with_name("network.safetensors")

# Images are padded to a multiple of this many pixels, so that few sizes are compiled. Programs of
# this many sizes are kept: each takes a second to compile and about 6 MiB.
_MULTIPLE = 32
_SIZES = 64


def network_edges(image: np.ndarray, weights: str | os.PathLike[str] = WEIGHTS) -> Edges:
    """Returns the edges of an image u8[H W 3] in RGB.

    Strength is the share of annotators that the network expects to draw a boundary there. Cells are
    2 x 2 pixels; between them it is interpolated. `weights` is a file of `write_network`.

    Raises:
        UserError: the weights are missing, damaged or of another network.
    """
    height, width = image.shape[:2]
    below, right = -height % _MULTIPLE, -width % _MULTIPLE
    # BORDER_REFLECT repeats an image that is smaller than its padding as often as needed.
    padded = cv2.copyMakeBorder(np.ascontiguousarray(image), 0, below, 0, right, cv2.BORDER_REFLECT)
    cells = np.asarray(_compiled(padded.shape)(load_network(os.fspath(weights)), padded[None]))[0]
    cells = cells[: -(-height // 2), : -(-width // 2)]
    return with_angles(to_pixels(cells, height, width))


def to_pixels(cells: np.ndarray, height: int, width: int) -> np.ndarray:
    """Interpolates cells f32[h w] to pixels f32[H W], whatever the scale of either."""
    return cv2.resize(np.ascontiguousarray(cells), (width, height), interpolation=cv2.INTER_LINEAR)


def cell_strength(variables: PyTree, image: jax.Array) -> jax.Array:
    """Maps u8[B H W 3], of sides that NET.multiple divides, to probabilities f32[B H/2 W/2]."""
    return jax.nn.sigmoid(NET.apply(variables, image.astype(jnp.float32) / 127.5 - 1, False)[0])


@functools.lru_cache(maxsize=_SIZES)
def _compiled(shape: tuple[int, ...]) -> Callable[[PyTree, np.ndarray], jax.Array]:
    """Returns the program that maps u8[1 H W 3] to probabilities f32[1 H/2 W/2].

    `shape` is (H, W, 3). Programs of sizes that were not asked for lately are dropped, so that a
    folder of images of many sizes does not fill the memory.
    """

    # A function of its own, whose program JAX drops when this one is dropped.
    def apply(variables: PyTree, image: jax.Array) -> jax.Array:
        return cell_strength(variables, image)

    image = jax.ShapeDtypeStruct((1, *shape), jnp.uint8)
    return jax.jit(apply).lower(_expected(), image).compile()


def _expected() -> PyTree:
    """Returns the shapes and types of the network's {"params", "batch_stats"}; computes nothing."""

    def init() -> PyTree:
        return NET.init(jax.random.key(0), jnp.zeros((1, _MULTIPLE, _MULTIPLE, 3)), False)

    return jax.eval_shape(init)


def write_network(path: pathlib.Path, variables: PyTree) -> None:
    """Writes the network's {"params", "batch_stats"}, matrices in half precision, atomically."""
    flat = traverse_util.flatten_dict(jax.device_get(variables), sep="/")
    stored = {
        name: np.asarray(leaf, np.float16 if np.ndim(leaf) > 1 else np.float32)
        for name, leaf in flat.items()
    }
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(safetensors.numpy.save(stored))
    temporary.replace(path)


@functools.lru_cache(maxsize=4)
def load_network(path: str) -> PyTree:
    """Reads what `write_network` wrote, as NumPy's float32; UserError as of `network_edges`."""
    try:
        stored = safetensors.numpy.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise UserError(
            f"cannot read the boundary network {path}: {error}. Take the file that comes with "
            "jaxseg, or make one: python -m jaxseg.train_boundaries"
        ) from error
    tree = traverse_util.unflatten_dict(stored, sep="/")
    if lines := differences(shapes(_expected()), shapes(tree)):
        raise UserError(
            f"{path} holds another network than jaxseg's boundary network. {' '.join(lines)} Make "
            "the weights again: python -m jaxseg.train_boundaries"
        )
    return jax.tree.map(lambda leaf: leaf.astype(np.float32), tree)
