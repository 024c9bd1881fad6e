"""SmooSeg's energy: labels vary as smoothly over patches as the features of a frozen network do.

Features X f[B h w C] have the closeness W_pq = cos(x_p, x'_q), no gradient; assignments A f[B h w
K], probabilities over the clusters, have the penalty delta_pq = 1 - cos(a_p, a'_q), in [0, 1]. A
smoothness term is the mean of (Wc_pq - threshold) delta_pq over images and pairs of cells, with Wc
the centred closeness; both sides come from one image (within) or from two (across).

None of the N x N matrices is ever formed: the energy of a pair of images is a function of a
`Summary` of each, [C K], so that its cost is O(N C K) where the definition's is O(N^2 (C + K)).

Source: Lan et al. 2023 (SmooSeg), eq. 2 to 6, and the released code.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxseg.clustering.kmeans import normalise

CLOSENESS = ("code", "paper")

# The histogram of the penalty looks at most at this many cells of an image: 28 x 28.
_HISTOGRAM_CELLS = 784
_ROWS_AT_ONCE = 64
_NO_SPREAD = 1e-4


class Summary(NamedTuple):
    """What the smoothness terms need of an image: means over its cells of unit vectors."""

    feature: Array  # f32[B C], mean of x
    assignment: Array  # f32[B K], mean of a
    product: Array  # f32[B C K], mean of x a^T
    covariance: Array  # f32[B C K], mean of (x - mean x) a^T

    def of(self, images: Array) -> "Summary":
        """Returns the summaries of images i32[B] of the batch."""
        return Summary(*(part[images] for part in self))


def summarise(features: Array, assignments: Array) -> Summary:
    """Returns the summaries of features f[B h w C] and assignments f[B h w K] of other lengths.

    The gradient passes through the assignments alone. Raises ValueError where B, h, w differ.
    """
    if features.shape[:-1] != assignments.shape[:-1]:
        raise ValueError(
            f"features {features.shape} and assignments {assignments.shape} must agree in B h w"
        )
    x, a = normalise(lax.stop_gradient(features)), normalise(assignments)
    centre = jnp.mean(x, axis=(1, 2), keepdims=True)

    def mean_product(left: Array) -> Array:
        product = jnp.einsum("bhwc,bhwk->bck", left, a, precision=lax.Precision.HIGHEST)
        return product / (a.shape[1] * a.shape[2])

    return Summary(centre[:, 0, 0], jnp.mean(a, (1, 2)), mean_product(x), mean_product(x - centre))


def smoothness(
    first: Summary, second: Summary, threshold: float, closeness: str = "code"
) -> tuple[Array, Array]:
    """Returns a smoothness term f32[] and its mean penalty f32[] in [0, 1].

    `first` and `second` summarise the images b and b' of each pair: the same for the term within
    images. `threshold` is what is taken off the centred closeness: in the paper's tables the
    within-image value stands under b2 and the across-image value under b1, the opposite of its eq.
    4; the released code agrees with the tables read that way.

    `closeness` says how W is centred: "paper" takes off each row's mean, W_pq - mean_q W_pq; "code"
    adds the mean of W over the batch back on, as the released code does.

    The identity behind it: sum_pq W_pq cos(a_p, a'_q) = <X^T A, X'^T A'> with rows of unit length,
    and the rows' means are centred by centring X'.

    Raises ValueError for another `closeness`.
    """
    if closeness not in CLOSENESS:
        raise ValueError(f"closeness is {closeness!r}; it is one of {CLOSENESS}")
    penalty = 1.0 - jnp.mean(jnp.sum(first.assignment * second.assignment, -1))
    offset = jnp.mean(jnp.sum(first.feature * second.feature, -1)) if closeness == "code" else 0.0
    aligned = jnp.mean(jnp.sum(first.product * second.covariance, (-2, -1)))
    return (offset - threshold) * penalty - aligned, penalty


def data_term(student: Array, teacher: Array) -> Array:
    """Returns the mean cross entropy f32[] of student scores with the teacher's argmax as target.

    `student`, `teacher` f32[... K] are cosines, used as logits without a temperature; no gradient
    passes through the teacher.

    Source: Lan et al. 2023, eq. 7.
    """
    target = jax.nn.one_hot(jnp.argmax(teacher, axis=-1), teacher.shape[-1])
    return -jnp.mean(jnp.sum(jax.nn.log_softmax(student) * target, axis=-1))


def penalty_histogram(assignments: Array, bins: int) -> Array:
    """Returns f32[B bins], the share of pairs of cells of an image by their penalty, no gradient.

    The bins cut [0, 1] evenly: assignments f[B h w K] are not negative, so that no penalty lies
    outside. At most 784 cells an image, spread evenly, are compared; fewer than that are all.
    """
    a = normalise(lax.stop_gradient(assignments))
    a = a.reshape(a.shape[0], -1, a.shape[-1])
    a = a[:, :: -(-a.shape[1] // _HISTOGRAM_CELLS)]
    edges = jnp.asarray(np.arange(1, bins) / bins, jnp.float32)

    def one_row(row: Array) -> Array:
        penalty = 1.0 - jnp.einsum("bk,bnk->bn", row, a, precision=lax.Precision.HIGHEST)
        # Comparisons rather than a scatter, which accelerators serialise.
        return jnp.sum(penalty[..., None] >= jnp.broadcast_to(edges, (*penalty.shape, bins - 1)), 1)

    rows = lax.map(one_row, jnp.moveaxis(a, 1, 0), batch_size=_ROWS_AT_ONCE)
    above = jnp.sum(rows, axis=0) / a.shape[1] ** 2
    share = jnp.pad(above, ((0, 0), (1, 0)), constant_values=1.0)
    return share - jnp.pad(above, ((0, 0), (0, 1)))


def penalty_bimodality(assignments: Array) -> Array:
    """Returns Sarle's coefficient f32[] of the penalties within the images, no gradient.

    All pairs of cells of assignments f[B h w K] are counted, of all images together. A batch whose
    penalties all but agree (standard deviation below 0.01), such as a collapsed one, has 0: the
    coefficient does not depend on scale, and would see modes in noise. See `bimodality`.
    """
    a = normalise(lax.stop_gradient(assignments))
    a = a.reshape(a.shape[0], -1, a.shape[-1])
    count = a.shape[0] * a.shape[1] ** 2
    centre = jnp.mean(jnp.sum(jnp.mean(a, 1) ** 2, -1))  # mean cosine, in closed form

    def one_row(row: Array) -> Array:
        cosine = jnp.einsum("bk,bnk->bn", row, a, precision=lax.Precision.HIGHEST)
        deviation = centre - cosine  # the penalty less its mean
        return jnp.stack([jnp.sum(deviation**n) for n in (2, 3, 4)])

    rows = lax.map(one_row, jnp.moveaxis(a, 1, 0), batch_size=_ROWS_AT_ONCE)
    second, third, fourth = jnp.sum(rows, axis=0) / count
    spread = second > _NO_SPREAD
    second = jnp.where(spread, second, 1.0)
    return jnp.where(spread, bimodality(second, third, fourth), 0.0)


def bimodality(second: Array, third: Array, fourth: Array) -> Array:
    """Returns Sarle's bimodality coefficient (skewness^2 + 1) / kurtosis of central moments f[...].

    In (0, 1]: 5/9 for the uniform distribution, 1/3 for the normal one, 1 for any two values. The
    moments are the population's, and the kurtosis is that of Pearson (3 for the normal): the
    correction for small samples, 3 (n - 1)^2 / ((n - 2)(n - 3)) in the place of 3 with the excess,
    is below 1e-4 for the hundred thousands of pairs of a single image.

    Raises ZeroDivisionError for plain numbers without spread; arrays give nan.

    Source: SAS Institute 1990, as Pfister et al. 2013 discuss it.
    """
    return (third**2 / second**3 + 1.0) / (fourth / second**2)


def histogram_bimodality(counts: np.ndarray) -> float:
    """Returns `bimodality` of a histogram [bins] of values in [0, 1], each at its bin's centre.

    nan for an empty histogram, 0 where the values all but agree, as in `penalty_bimodality`. Raises
    ValueError where a count is negative.
    """
    counts = np.asarray(counts, np.float64)
    if np.any(counts < 0):
        raise ValueError(f"a histogram has no negative counts, but this one has {counts.min()}")
    if not counts.sum():
        return float("nan")
    share = counts / counts.sum()
    centres = (np.arange(len(share)) + 0.5) / len(share)
    deviation = centres - (share * centres).sum()
    second, third, fourth = ((share * deviation**n).sum() for n in (2, 3, 4))
    return float(bimodality(second, third, fourth)) if second > _NO_SPREAD else 0.0
