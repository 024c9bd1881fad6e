"""Edges of an affinity between pixels: eigenvectors of its Laplacian, and their gradients.

Source: Arbelaez, Maire, Fowlkes & Malik 2011 (spectral globalisation), with the constants of the
crisp-boundaries release, named "the release" below.
"""

import cv2
import numpy as np
import scipy.linalg
import scipy.sparse

# Directions in which an edge may run: multiples of pi / 8, from the x axis towards the y axis.
ORIENTATIONS = 8
ANGLES = np.arange(ORIENTATIONS) * np.pi / ORIENTATIONS

# A graph of at most this many vertices, or so many for each eigenvector, is solved densely.
_DENSE = 3000
_DENSE_EACH = 8
# A round of filtering makes the smoothest vector this many times e stronger than what is damped:
# more converges faster, until single precision loses the others beside it.
_STRENGTH = 6.0
_LARGEST_DEGREE = 200
# Vectors that are filtered for each one that is wanted.
_SPARE = 1.2
# Residual, in eigenvalues, at which eigenvectors are good enough: far below what is seen of edges.
_TOLERANCE = 0.02
_ROUNDS = 30


def _halved(weights, shape: tuple[int, int]):
    """Returns the affinity of every second row and column, and what interpolates from them.

    Source: Arbelaez et al. 2014 (Multiscale Combinatorial Grouping), its fast normalised cuts: two
    pixels that are kept are as similar as the pixels between make them.
    """
    kept = np.zeros(shape, bool)
    kept[1::2, 1::2] = True
    columns = weights[:, np.flatnonzero(kept)]
    total = np.asarray(columns.sum(axis=1)).ravel()
    # A pixel with no neighbour that is kept gets 0, not nan.
    mean = scipy.sparse.diags_array(1 / np.maximum(total, np.finfo(np.float32).tiny)) @ columns
    return (columns.T @ mean).tocsr(), mean.tocsr(), (shape[0] // 2, shape[1] // 2)


def _dense(weights, count: int) -> np.ndarray:
    """Returns the generalised eigenvectors f64[P count] of a small graph, smoothest first."""
    full = weights.toarray()
    full = (full + full.T) / 2
    scale = 1 / np.sqrt(full.sum(axis=1))
    full *= scale[:, None] * scale[None, :]
    size = len(full)
    _, vectors = scipy.linalg.eigh(full, subset_by_index=[size - count, size - 1])
    return vectors[:, ::-1] * scale[:, None]


def _coarse(weights, shape: tuple[int, int], count: int) -> np.ndarray:
    """Returns about the first generalised eigenvectors f64[h*w count], from fewer pixels."""
    means = []
    while weights.shape[0] > max(_DENSE, _DENSE_EACH * count):
        weights, mean, shape = _halved(weights, shape)
        means.append(mean)
    vectors = _dense(weights, count)
    for mean in reversed(means):
        vectors = mean @ vectors
    return vectors


def _ritz(graph, basis: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns what the space of a basis [P m] holds of a symmetric graph's eigenvectors.

    Eigenvalues f64[m], largest first, their unit vectors [P m], and the graph times these [P m].
    """
    image = graph @ basis
    gram, inner = ((basis.T @ other).astype(np.float64) for other in (basis, image))
    values, mix = scipy.linalg.eigh((inner + inner.T) / 2, gram)
    mix = mix[:, ::-1].astype(basis.dtype)
    return values[::-1], basis @ mix, image @ mix


def _refined(graph, vectors: np.ndarray, count: int) -> np.ndarray:
    """Returns about the first unit eigenvectors f32[P count] of a graph from near ones f[P m].

    By Chebyshev-filtered subspace iteration. As an image grows its smallest eigenvalues shrink, so
    that the residuals are measured by the largest eigenvalue wanted (of the Laplacian).
    """
    graph = graph.astype(np.float32)
    vectors = vectors.astype(np.float32)
    for _ in range(_ROUNDS):
        basis, _ = np.linalg.qr(vectors / np.linalg.norm(vectors, axis=0))
        values, vectors, image = _ritz(graph, basis)
        residuals = np.linalg.norm(image - vectors * values.astype(np.float32), axis=0)
        if residuals[:count].max() <= _TOLERANCE * (1 - values[count - 1]):
            break
        vectors = _filtered(graph, vectors, values[-1])
    return vectors[:, :count]


def _filtered(graph, vectors: np.ndarray, cut: float) -> np.ndarray:
    """Returns vectors [P m] with the eigenvectors of eigenvalues in [-1, `cut`] damped.

    Source: the scaled Chebyshev filter of Zhou, Saad, Tiago & Chelikowsky 2006.
    """
    centre, half = (cut - 1) / 2, (cut + 1) / 2
    degree = min(int(np.ceil(_STRENGTH / np.arccosh((1 - centre) / half))), _LARGEST_DEGREE)
    first = ratio = half / (1 - centre)
    before, now = vectors, (graph @ vectors - centre * vectors) * (ratio / half)
    for _ in range(degree - 1):
        following = 1 / (2 / first - ratio)
        step = (2 * following / half) * (graph @ now - centre * now)
        before, now = now, step - (ratio * following) * before
        ratio = following
    return now


def eigenvectors(weights, shape: tuple[int, int], count: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the smallest eigenvalues f64[count] of (D - W) v = λ D v, and v f64[h*w count].

    `weights` is W, sparse, symmetric, at least 0, with positive row sums D, over the pixels of
    `shape` (h, w) row by row; h*w >= count. The first eigenvalue is 0, its vector constant; v is
    scaled so that v^T D v = 1. Its sign is arbitrary.

    A small graph is solved densely. Else eigenvectors of a coarser graph are interpolated, and
    refined by Chebyshev-filtered subspace iteration in single precision until the residuals are at
    most 0.02 of the last eigenvalue, or for 30 rounds. The release inverts D - W, which takes far
    more memory.
    """
    degree = np.asarray(weights.sum(axis=1)).ravel()
    scale = 1 / np.sqrt(degree)
    graph = (scipy.sparse.diags_array(scale) @ weights @ scipy.sparse.diags_array(scale)).tocsr()
    spare = int(_SPARE * count)
    if len(degree) <= max(_DENSE, _DENSE_EACH * spare):
        vectors = _dense(weights, count) / scale[:, None]
    else:
        vectors = _refined(graph, _coarse(weights, shape, spare) / scale[:, None], count)
    # In double precision, as the first eigenvalues may lie closer together than single resolves.
    values, vectors, _ = _ritz(graph, vectors.astype(np.float64))
    return np.maximum(1 - values, 0.0), vectors * scale[:, None]


def _derivative() -> tuple[np.ndarray, np.ndarray]:
    """Returns a Gaussian f32[7] of deviation 1 and its derivative, averaged over each pixel."""
    fine = (np.arange(70) - 34.5) / 10
    gauss = np.exp(-(fine**2) / 2)
    return tuple(part.reshape(7, 10).mean(1).astype(np.float32) for part in (gauss, -fine * gauss))


def oriented_edges(values: np.ndarray, vectors: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Returns the strength f32[8 h w], at least 0, of edges in each direction of `ANGLES`.

    The eigenvectors f[h*w k] are each scaled to [0, 1] and weighted by 1 / sqrt(their eigenvalue
    f64[k]); the strength is the sum of their absolute derivatives across the direction, by
    derivatives of a Gaussian with absolute sum 1. The first, constant one is left out.
    """
    gauss, derivative = _derivative()
    # A Gaussian's derivative in any direction is a sum of two, where the release filters 8 times.
    across = np.stack([-np.sin(ANGLES), np.cos(ANGLES)], axis=1)
    kernels = np.stack([np.outer(gauss, derivative), np.outer(derivative, gauss)])
    across /= np.abs(np.tensordot(across, kernels, 1)).sum(axis=(1, 2))[:, None]
    strength = np.zeros((ORIENTATIONS, *shape), np.float32)
    for value, vector in zip(values[1:], vectors.T[1:], strict=True):
        span = np.ptp(vector)
        if value <= 0 or span == 0:
            continue
        picture = (vector.reshape(shape) / (span * np.sqrt(value))).astype(np.float32)
        dx, dy = (
            cv2.sepFilter2D(picture, cv2.CV_32F, x, y, borderType=cv2.BORDER_REFLECT)
            for x, y in ((derivative, gauss), (gauss, derivative))
        )
        for total, (x, y) in zip(strength, across.astype(np.float32), strict=True):
            total += np.abs(x * dx + y * dy)
    return strength


def fade_at_border(strength: np.ndarray, width: int) -> np.ndarray:
    """Returns the strength f32[8 h w] with edges that run along a near border of the image faded.

    The nearest of the four borders counts, distances being measured in heights and widths of the
    image; an edge on the border that runs along it gets 0, `width` pixels away it stays whole. With
    a `width` of 0 all do.
    """
    h, w = strength.shape[1:]
    y, x = np.mgrid[:h, :w]
    y, x = np.minimum(y, h - 1 - y), np.minimum(x, w - 1 - x)
    beside = x * h < y * w
    distance = np.where(beside, x, y)
    near = np.where(distance < width, 1 - (distance / max(width, 1)) ** 2, 0.0)
    along = np.where(beside, np.sin(ANGLES)[:, None, None], np.abs(np.cos(ANGLES))[:, None, None])
    return (strength * (1 - near * along)).astype(np.float32)
