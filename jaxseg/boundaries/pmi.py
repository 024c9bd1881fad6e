"""Edges from the statistics of one image: where neighbouring colours seldom occur together.

Source: Isola, Zoran, Krishnan & Adelson 2014, "Crisp Boundary Detection Using Pointwise Mutual
Information", and its release (crisp-boundaries), named "the release" below. Nothing is learned from
other images, and no label is read. METHODS 3.7 makes the regions of street and aerial images so.
"""

import dataclasses
from typing import Any

import cv2
import numpy as np
import scipy.sparse
from sklearn.ensemble import RandomForestRegressor

from jaxseg.boundaries.edges import Edges
from jaxseg.boundaries.pmi_features import NAMES, feature_maps
from jaxseg.boundaries.spectral import ANGLES, eigenvectors, fade_at_border, oriented_edges
from jaxseg.core import UserError

# Shapes at the working resolution: h w pixels, n pairs of neighbouring pixels, D features (3).

# Standard deviation, and bound, of what is added to one pixel in the distance of a sampled pixel
# from its pair's centre, along each axis (the release: variance 0.25, bound 4 * 0.25 + 1).
_SPREAD = 0.5
_FARTHEST = 2.0
# The smallest side of an image, at the working resolution.
_SMALLEST = 8
# Pairs whose affinity is found at once.
_CHUNK = 2**20


@dataclasses.dataclass(frozen=True)
class PmiSettings:
    """What `pmi_edges` can be told; the defaults are the release's "accurate_low_res".

    Attributes:
        features: the feature sets, each with an affinity of its own, which are multiplied: "colour"
            (CIELab) and "variance" (of colours in a small disk). HSG's paper has colour alone, its
            code both.
        halvings: how often the image is halved in both directions before pixels are compared.
        kernels: pairs of pixels sampled for the density of pairs of features.
        bandwidth: half the width of a kernel, where a feature set's largest extent is 1.
        rho: exponent of the joint density in PMI_rho.
        regulariser: added to the joint density and to the product of the two densities.
        radius: pixels at most this far apart, at the working resolution, have an affinity.
        regression_pairs: pairs at which PMI is found from the density, to learn it at all others.
        trees: trees that learn PMI.
        eigenvectors: eigenvectors of the affinity, with the constant first one, which adds nothing.
        border: edges along the image's border fade out in this many pixels from it; 0: do not.
        full_size: True returns edges of the image's size; False of the working resolution, for
            regions that are made there and then doubled (METHODS 3.7).
        largest: the strength before scaling that becomes 1. None: each image's own largest, as in
            HSG's script. The release's evaluation takes the largest of all images of a data set.
        seed: of the sampled pairs and of the trees.
    """

    features: tuple[str, ...] = ("colour", "variance")
    halvings: int = 1
    kernels: int = 5000
    bandwidth: float = 0.05
    rho: float = 1.25
    regulariser: float = 100.0
    radius: int = 5
    regression_pairs: int = 10_000
    trees: int = 4
    eigenvectors: int = 100
    border: int = 10
    full_size: bool = True
    largest: float | None = None
    seed: int = 0


def local_pairs(height: int, width: int, radius: int) -> np.ndarray:
    """Returns i32[2 n], every two pixels of h w (row by row) at most `radius` apart, once each."""
    index = np.arange(height * width, dtype=np.int32).reshape(height, width)
    found = []
    for dy in range(radius + 1):
        for dx in range(-radius, radius + 1):
            if (dy, dx) <= (0, 0) or dy * dy + dx * dx > radius * radius:
                continue
            first = index[: height - dy, max(0, -dx) : width - max(0, dx)]
            second = index[dy:, max(0, dx) : width - max(0, -dx)]
            found.append(np.stack([first.ravel(), second.ravel()]))
    return np.concatenate(found, axis=1)


def sample_pairs(height: int, width: int, count: int, generator: np.random.Generator) -> np.ndarray:
    """Returns i64[2 n] pixels (n <= `count`): at Gaussian distances on either side of centres.

    Centres are drawn uniformly, each kept once; a pair with a pixel outside the image is left out.
    """
    centre = np.unique(generator.integers(height * width, size=count))
    offset = generator.normal(0.0, _SPREAD, (len(centre), 2))
    offset += offset / np.maximum(np.linalg.norm(offset, axis=1, keepdims=True), 1e-12)
    offset = np.clip(offset, -_FARTHEST, _FARTHEST)
    centre = np.stack(np.divmod(centre, width), axis=1)
    both = np.rint(np.stack([centre + offset, centre - offset])).astype(int)
    inside = np.all((both >= 0) & (both < (height, width)), axis=(0, 2))
    return both[:, inside, 0] * width + both[:, inside, 1]


def density(kernels: np.ndarray, points: np.ndarray, bandwidth: float) -> np.ndarray:
    """Returns the kernel density f64[m] at points f32[m D], from kernels at f32[n D].

    A kernel is the product over the features of Epanechnikov's 0.75 / b max(0, 1 - (x / b)^2).
    """
    scaled = np.ascontiguousarray(kernels.T / bandwidth, np.float32)
    result = np.empty(len(points))
    # Few enough rows that what is computed stays in a core's cache.
    rows = max(1, 2**17 // len(kernels))
    for start in range(0, len(points), rows):
        block = (points[start : start + rows] / bandwidth).astype(np.float32)
        product = np.ones((len(block), len(kernels)), np.float32)
        for feature in range(kernels.shape[1]):
            near = block[:, feature, None] - scaled[feature][None, :]
            np.multiply(near, near, out=near)
            np.subtract(1.0, near, out=near)
            np.maximum(near, 0.0, out=near)
            product *= near
        result[start : start + rows] = product.mean(axis=1)
    return result * (0.75 / bandwidth) ** kernels.shape[1]


def both_orders(pairs: np.ndarray) -> np.ndarray:
    """Returns pairs of features f32[2n 2D]: those given, f32[2 n D], and the same turned round."""
    return np.hstack([np.concatenate([pairs[0], pairs[1]]), np.concatenate([pairs[1], pairs[0]])])


def one_order(pairs: np.ndarray) -> np.ndarray:
    """Returns pairs f32[n 2D] of f32[2 n D], that with the larger first feature in front."""
    turned = pairs[0, :, :1] < pairs[1, :, :1]
    return np.hstack([np.where(turned, pairs[1], pairs[0]), np.where(turned, pairs[0], pairs[1])])


def pointwise_information(
    pairs: np.ndarray, sampled: np.ndarray, settings: PmiSettings
) -> np.ndarray:
    """Returns PMI_rho f64[n] = log(P(A, B)^rho / (P(A) P(B))) at pairs of features f32[2 n D].

    P(A, B) is the kernel density of the pairs `sampled` f32[2 m D], taken in both orders.

    Source: Isola et al. 2014, eq. 2. The regulariser is the release's, and in no equation.
    """
    kernels = both_orders(sampled)
    joint = density(kernels, np.hstack([pairs[0], pairs[1]]), settings.bandwidth)
    alone, place = np.unique(np.concatenate(pairs), axis=0, return_inverse=True)
    single = density(kernels[:, : pairs.shape[-1]], alone, settings.bandwidth)
    product = np.prod(single[place.reshape(2, -1)], axis=0)
    regulariser = settings.regulariser
    return settings.rho * np.log(joint + regulariser) - np.log(product + regulariser)


def learned_information(
    maps: np.ndarray, places: np.ndarray, settings: PmiSettings, generator: np.random.Generator
) -> np.ndarray:
    """Returns PMI_rho f32[n] of the features f32[h w D] at pairs of pixels i32[2 n].

    It is found from the density at some of the pairs, and regression trees learn it for all.
    """
    features = maps.reshape(-1, maps.shape[-1])
    height, width = maps.shape[:2]
    sampled = features[sample_pairs(height, width, settings.kernels, generator)]
    some = features[places[:, generator.integers(places.shape[1], size=settings.regression_pairs)]]
    trees = RandomForestRegressor(
        settings.trees,
        max_features=3,
        min_samples_leaf=5,
        bootstrap=False,
        random_state=int(generator.integers(2**31)),
    )
    trees.fit(one_order(some), pointwise_information(some, sampled, settings))
    parts = np.array_split(places, range(_CHUNK, places.shape[1], _CHUNK), axis=1)
    return np.concatenate([trees.predict(one_order(features[part])) for part in parts], dtype="f4")


def affinity(image: np.ndarray, settings: PmiSettings) -> tuple[Any, tuple[int, int]]:
    """Returns W, a sparse f64[h*w h*w], of an image u8[H W 3], and (h, w), the working resolution.

    W is symmetric: the product over the feature sets of exp(PMI_rho), for two pixels at most
    `radius` apart, and 0 for others and on the diagonal.

    Raises:
        UserError: the image is of another kind or too small, or a feature set is unknown.
    """
    _check(image, settings)
    generator = np.random.default_rng(settings.seed)
    maps = [feature_maps(image, name, settings.halvings) for name in settings.features]
    height, width = maps[0].shape[:2]
    places = local_pairs(height, width, settings.radius)
    information = sum(learned_information(each, places, settings, generator) for each in maps)
    values = np.exp(information, dtype=np.float64)
    half = scipy.sparse.csr_array((values, tuple(places)), shape=(height * width,) * 2)
    return half + half.T, (height, width)


def _check(image: np.ndarray, settings: PmiSettings) -> None:
    """Raises UserError if edges of the image cannot be found with these settings."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise UserError(
            f"PMI edges: an image of shape {image.shape} and type {image.dtype}; expected "
            "u8[H W 3] in RGB. Repeat a grey channel three times, or choose three channels of more"
        )
    smallest = max(_SMALLEST, settings.radius + 1)
    if min(image.shape[:2]) <= (smallest - 1) * 2**settings.halvings:
        raise UserError(
            f"PMI edges: an image of {image.shape[0]} x {image.shape[1]} pixels, halved "
            f"{settings.halvings} times; expected both sides to be {smallest} pixels or more then. "
            "Take fewer halvings, or leave the image out"
        )
    if unknown := [name for name in settings.features if name not in NAMES]:
        raise UserError(
            f"PmiSettings.features: {unknown[0]!r}; expected some of {', '.join(NAMES)}"
        )
    if not settings.features:
        raise UserError(f"PmiSettings.features is empty; expected some of {', '.join(NAMES)}")


def pmi_edges(image: np.ndarray, settings: PmiSettings = PmiSettings()) -> Edges:
    """Returns the edges of an image u8[H W 3] in RGB.

    The angle is one of eight; a constant image has no edges, and one of faint noise may have strong
    ones, as nothing here depends on contrast. Equal images and settings give equal edges.

    It departs from the release: P(A, B) is symmetric, where the release models half of its space,
    orders only the first feature of a pair, and so halves the density of equal features; the
    eigenvectors are found another way (`spectral.eigenvectors`).

    Raises:
        UserError: as of `affinity`.
    """
    weights, shape = affinity(image, settings)
    count = min(settings.eigenvectors, shape[0] * shape[1])
    strength = oriented_edges(*eigenvectors(weights, shape, count), shape)
    strength = fade_at_border(strength, settings.border)
    if settings.full_size:
        size = image.shape[1], image.shape[0]
        strength = np.stack([cv2.resize(part, size) for part in strength])
    strongest = strength.max(axis=0)
    if np.ptp(image, axis=(0, 1)).any():
        largest = strongest.max() if settings.largest is None else settings.largest
    else:
        largest = np.inf
    angle = ANGLES[strength.argmax(axis=0)].astype(np.float32)
    return Edges(np.minimum(strongest / largest, 1).astype(np.float32), angle, contour_value)


def contour_value(strength: np.ndarray) -> np.ndarray:
    """Returns the value in [0, 1] of a contour with a mean edge strength f[...] in [0, 1].

    It is what the release writes into its ultrametric contour maps, so what METHODS 3.7's
    thresholds 0.05 and 0.5 cut: a logistic curve that was fitted to BSDS's human boundaries. These
    two are the strengths 0.057 and 0.258.
    """
    value = 1 / (1 + np.exp(2.7487 - 11.1189 * strength))
    return np.clip((value - 0.0602) / (1 - 0.0602), 0.0, 1.0)
