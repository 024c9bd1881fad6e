"""Mutual information as a loss: bounds on scores (InfoSeg), and between label maps (IIC)."""

import functools
import sys

import jax
import jax.numpy as jnp
from jax import Array, lax

_EPSILON = sys.float_info.epsilon  # 2.2e-16, in float32 too, as in the released IIC code


def jsd_bound(positive: Array, negative: Array) -> Array:
    """Returns minus the Jensen-Shannon bound, f32[]: mean sp(-positive) + mean sp(negative).

    `positive` f32[...] scores of pairs that belong together, `negative` f32[...] of pairs that do
    not, of any two shapes; sp(x) = log(1 + e^x). 2 log 2 where all scores are 0, never negative.

    Source: Hjelm et al. 2019 (Deep InfoMax), eq. 4; Harb & Knöbelreiter 2021 (InfoSeg).
    """
    return jnp.mean(jax.nn.softplus(-positive)) + jnp.mean(jax.nn.softplus(negative))


def dv_bound(positive: Array, negative: Array) -> Array:
    """Returns minus the Donsker-Varadhan bound, f32[]: -(mean positive - log mean e^negative).

    Arguments as in `jsd_bound`. The mean is taken in logarithms, so that large scores do not
    overflow.

    Source: Belghazi et al. 2018 (MINE), eq. 5; Harb & Knöbelreiter 2021 (InfoSeg), ablation.
    """
    log_mean = jax.nn.logsumexp(negative) - jnp.log(negative.size)
    return log_mean - jnp.mean(positive)


def iic(
    p1: Array,
    p2: Array,
    mask: Array | None,
    displacement: int,
    lam: float,
    collapsed: bool = False,
) -> Array:
    """Returns IIC's segmentation loss f32[]: minus the information that two label maps share.

    `p1`, `p2` f32[B h w K] are class probabilities of two views, already brought to the same
    geometry; `mask` f32 or bool[B h w] weighs the pixels of both (None: all count). For every shift
    t in [-T, T]^2, T = `displacement`, P_t[c, d] = sum over b and p of p1[b, p, c] p2[b, p + t, d],
    zero outside the map, divided by its total and symmetrised. The loss of one P is sum -P (log P -
    `lam` log P_c - `lam` log P_d), with P and its marginals at least 2.2e-16.

    `collapsed=False` averages the losses of all shifts; True adds up the P_t first, divides by a
    total that no gradient passes through, and takes one loss. The published runs use either; False
    is the paper's form. Where nothing is left to count (empty mask, shift beyond the map) P is 0.

    Raises ValueError where the shapes do not fit or T is negative.

    Source: Ji et al. 2019 (IIC), eq. 3 and 5, and the released code.
    """
    if p1.shape != p2.shape or (mask is not None and mask.shape != p1.shape[:-1]):
        shapes = p1.shape, p2.shape, None if mask is None else mask.shape
        raise ValueError(f"p1, p2 must be [B h w K] and mask [B h w], not {shapes}")
    if displacement < 0:
        raise ValueError(f"displacement must be at least 0, not {displacement}")
    if mask is not None:
        p1, p2 = p1 * mask[..., None], p2 * mask[..., None]
    joint = _joint(p1, p2, displacement)
    if collapsed:
        joint = jnp.sum(joint, axis=(0, 1), keepdims=True)
    total = jnp.maximum(jnp.sum(joint, axis=(2, 3), keepdims=True), _EPSILON)
    joint = joint / (lax.stop_gradient(total) if collapsed else total)
    joint = (joint + jnp.swapaxes(joint, 2, 3)) / 2
    marginal = jnp.maximum(jnp.sum(joint, axis=3), _EPSILON)  # of both sides, by symmetry
    joint = jnp.maximum(joint, _EPSILON)
    log_marginal = jnp.log(marginal)
    information = jnp.log(joint) - lam * (log_marginal[..., None] + log_marginal[..., None, :])
    return -jnp.sum(joint * information) / (joint.shape[0] * joint.shape[1])


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _joint(p1: Array, p2: Array, displacement: int) -> Array:
    """Returns the joint of every shift, f32[2T+1 2T+1 K K], as one convolution.

    The batch is what the convolution contracts over ("C", "I") and p2 is the kernel, as large as
    the map; the classes of the two maps are its batch and its output channels. Its derivatives are
    ordinary convolutions by a kernel of 2T+1 cells, which XLA would not find.
    """
    return _convolve(p1, p2, displacement, ("CHWN", "IHWO", "HWNC"))


def _joint_forward(p1: Array, p2: Array, displacement: int) -> tuple[Array, tuple[Array, Array]]:
    return _joint(p1, p2, displacement), (p1, p2)


def _joint_backward(
    displacement: int, maps: tuple[Array, Array], change: Array
) -> tuple[Array, Array]:
    p1, p2 = maps
    by_p1 = _convolve(p2, change[::-1, ::-1], displacement, ("NHWC", "HWOI", "NHWC"))
    by_p2 = _convolve(p1, change, displacement, ("NHWC", "HWIO", "NHWC"))
    return by_p1, by_p2


_joint.defvjp(_joint_forward, _joint_backward)


def _convolve(x: Array, kernel: Array, displacement: int, axes: tuple[str, str, str]) -> Array:
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(1, 1),
        padding=[(displacement, displacement)] * 2,
        dimension_numbers=axes,
        # The loss is a small difference of large terms: not in bfloat16 or TF32.
        precision=lax.Precision.HIGHEST,
    )
