"""Dense CRF: smooths a segmentation along the image's colours by mean field, on the device."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxseg.refine import permutohedral
from jaxseg.refine.permutohedral import Lattice, Simplices

_SMALLEST = 1e-5  # probabilities below this count as this
_TINY = 1e-20
_TRUNCATE = 4  # standard deviations; what lies beyond is 6e-5 of a Gaussian
# The work grows with the rows of the vertex table, so there are several sizes of it, in vertices a
# pixel, of which each image takes the smallest that holds it. Photographs have 0.2 to 1.7 with the
# default sigmas; more than 6 cannot be. Below so many rows it does not pay to distinguish.
_ROWS_PER_PIXEL = (0.6, 1.2, 2, 6)
_FEWEST_ROWS = 2**14


@functools.partial(
    jax.jit,
    static_argnames=(
        "steps",
        "gaussian_sigma",
        "gaussian_weight",
        "bilateral_sigma_xy",
        "bilateral_sigma_rgb",
        "bilateral_weight",
    ),
)
def dense_crf(
    probabilities: Array,
    image: Array,
    valid: Array | None = None,
    *,
    steps: int = 10,
    gaussian_sigma: float = 1.0,
    gaussian_weight: float = 3.0,
    bilateral_sigma_xy: float = 67.0,
    bilateral_sigma_rgb: float = 3.0,
    bilateral_weight: float = 4.0,
) -> Array:
    """Returns the distributions f32[B H W K] after `steps` mean-field steps of a dense CRF.

    `probabilities` f[B H W K] sum to 1 over K; `image` u8[B H W Ch], of which the first three
    channels are compared; `valid` bool[B H W]: a pixel that is not valid influences no other and
    gets no message. Where an image lies at the top left of its padding, its pixels get what they
    get without the padding. Sigmas are in pixels and grey levels. No gradient is defined.

    The unary energy U is -log clip(p, 1e-5, 1). There are two Potts terms, whose kernels are
    k = exp(-|f - f'|^2 / 2): a Gaussian of the positions, and the bilateral one of positions and
    colours; each is normalised symmetrically to D^-1/2 k D^-1/2 with D = k 1, and a pixel's message
    to itself is kept. A step is Q <- softmax(-U + 3 K_gaussian Q + 4 K_bilateral Q), from
    Q = softmax(-U).

    Departs in one thing from the library that STEGO and SmooSeg call (pydensecrf): the Gaussian of
    the positions is an exact convolution, cut off at 4 sigmas, where the library approximates this
    one on a lattice, too. That is nearer to the formula and much cheaper, and changes the labels of
    some 0.2 % of the pixels. The bilateral kernel is the library's permutohedral lattice, to within
    rounding.

    Images are refined one after another, each with all of the device: memory does not grow with B
    but for input and result (320 x 320 pixels, K = 27: 0.27 GB at most). Static shapes; may be
    called under jit, but vmap would do the work of all table sizes. Over a mesh it is to be called
    within `jax.shard_map(..., check_vma=False)`: jit alone gathers the batch and refines all of it
    on every device. On a GPU the sums over vertices are atomic, so that the last digits may differ
    between calls unless XLA is told otherwise (--xla_gpu_deterministic_ops).

    Raises ValueError for shapes or dtypes that do not fit or sigmas that are not positive, and
    UserError for sigmas too small for the image (with the default `bilateral_sigma_xy`, a
    `bilateral_sigma_rgb` below 1.2 at 320 x 320 pixels, below 1.8 at 1024 x 2048).

    Source: Krähenbühl & Koltun 2011; parameters of STEGO (Hamilton et al. 2022), released code.
    """
    _check(probabilities, image, valid)
    if min(gaussian_sigma, bilateral_sigma_xy, bilateral_sigma_rgb) <= 0:
        raise ValueError("the sigmas of a dense CRF must be above 0")
    batch, height, width, classes = probabilities.shape
    size = (height, width)
    valid = jnp.ones((batch, *size), bool) if valid is None else valid
    # Rows of vertices are moved as a whole, which is fast for whole vectors.
    padding = ((0, 0), (0, -classes % 8))
    scale = np.asarray([bilateral_sigma_xy] * 2 + [bilateral_sigma_rgb] * 3, np.float32)
    extent = tuple((np.asarray([width, height, 255, 255, 255]) / scale).tolist())

    def refine(arguments: tuple[Array, Array, Array]) -> Array:
        probability, pixels, real = arguments
        logits = jnp.log(jnp.clip(probability.astype(jnp.float32), _SMALLEST, 1))
        logits = jnp.pad(logits.reshape(-1, classes), padding, constant_values=-jnp.inf)
        features = _features(pixels[..., :3]) / scale[None]
        simplices = permutohedral.locate(features, extent, real.reshape(-1))

        def with_rows(rows: int, simplices: Simplices) -> Array:
            lattice = _normalised(permutohedral.connect(simplices, extent, rows))
            near = _near_weights(real, gaussian_sigma)

            def step(_: int, message: Array) -> Array:
                q = jax.nn.softmax(logits + message, axis=-1)
                grid = (near * q).reshape(*size, -1)
                message = near * _convolve(grid, gaussian_sigma).reshape(q.shape)
                far = permutohedral.smooth(lattice, q)
                return gaussian_weight * message + bilateral_weight * far

            # The messages are carried, rather than q: what is carried is computed once, where
            # XLA would compute it anew for each of its uses within softmax.
            message = lax.fori_loop(0, steps, step, jnp.zeros_like(logits))
            return jax.nn.softmax(logits + message, axis=-1)

        most = simplices.codes.size
        shares = (max(int(share * height * width), _FEWEST_ROWS) + 1 for share in _ROWS_PER_PIXEL)
        sizes = sorted({min(rows, most) for rows in shares} | {most})
        branches = [functools.partial(with_rows, rows) for rows in sizes]
        choice = jnp.sum(simplices.count >= np.asarray(sizes[:-1], np.int32))
        q = lax.switch(choice, branches, simplices)
        return q[:, :classes].reshape(*size, classes)

    return lax.map(refine, (probabilities, image, valid))


def _check(probabilities: Array, image: Array, valid: Array | None) -> None:
    """Raises ValueError unless the arrays are of one batch of images."""
    if probabilities.ndim != 4 or image.ndim != 4 or image.shape[:3] != probabilities.shape[:3]:
        raise ValueError(
            f"probabilities {probabilities.shape} and image {image.shape} must be [B H W K] and "
            "[B H W Ch]"
        )
    if image.shape[3] < 3 or image.dtype != jnp.uint8:
        raise ValueError(
            f"image must be u8 with 3 channels or more, not {image.dtype}{image.shape}"
        )
    if valid is not None and (valid.shape != image.shape[:3] or valid.dtype != bool):
        raise ValueError(
            f"valid must be bool{image.shape[:3]} (B H W), not {valid.dtype}{valid.shape}"
        )


def _features(pixels: Array) -> Array:
    """Returns x, y and the colour of each pixel, f32[N 5], of u8[H W 3]."""
    height, width, _ = pixels.shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    position = np.stack([x, y], axis=-1).reshape(-1, 2)
    return jnp.concatenate([position, pixels.reshape(-1, 3).astype(jnp.float32)], axis=1)


def _normalised(lattice: Lattice) -> Lattice:
    """Returns the lattice with weights that make the filter D^-1/2 k D^-1/2."""
    ones = jnp.ones((lattice.weight.shape[1], 1))
    degree = permutohedral.smooth(lattice, ones)[:, 0]
    return lattice.replace(weight=lattice.weight * lax.rsqrt(degree + _TINY)[None])


def _near_weights(valid: Array, sigma: float) -> Array:
    """Returns D^-1/2 of the Gaussian of positions, f32[N 1]; 0 where bool[H W] is not valid."""
    real = valid.astype(jnp.float32)[..., None]
    return (real * lax.rsqrt(_convolve(real, sigma) + _TINY)).reshape(-1, 1)


def _convolve(grid: Array, sigma: float) -> Array:
    """Returns f32[H W K] convolved with a Gaussian whose centre is 1; outside are zeros."""
    reach = math.ceil(_TRUNCATE * sigma)
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    for axis in (0, 1):
        side = grid.shape[axis]
        padded = jnp.pad(grid, [(reach, reach) if i == axis else (0, 0) for i in range(3)])
        moved = (lax.slice_in_dim(padded, i, i + side, axis=axis) for i in range(len(taps)))
        grid = sum(
            (float(tap) * one for tap, one in zip(taps, moved, strict=True)),
            start=jnp.zeros_like(grid),
        )
    return grid
