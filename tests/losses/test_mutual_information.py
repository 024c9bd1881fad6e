import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.losses import mutual_information as mi

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
LOSS_AND_GRADIENT = jax.jit(jax.value_and_grad(mi.iic), static_argnums=(3, 4, 5))
LOSS = jax.jit(mi.iic, static_argnums=(3, 4, 5))


def maps(seed, shape=(2, 4, 5, 3)):
    rng = np.random.default_rng(seed)
    p1, p2 = (rng.dirichlet(np.ones(shape[-1]), shape[:-1]).astype(np.float32) for _ in "ab")
    return p1, p2, (rng.random(shape[:-1]) < 0.7).astype(np.float32)


def iic_by_hand(p1, p2, mask, reach, lam, collapsed):
    batch, height, width, classes = p1.shape
    joints = []
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            joint = np.zeros((classes, classes))
            for b, y, x in np.ndindex(batch, height, width):
                if 0 <= y + dy < height and 0 <= x + dx < width:
                    weight = mask[b, y, x] * mask[b, y + dy, x + dx]
                    joint += weight * np.outer(p1[b, y, x], p2[b, y + dy, x + dx])
            joints.append(joint)
    if collapsed:
        joints = [np.sum(joints, axis=0)]
    losses = []
    for joint in joints:
        joint = joint / joint.sum()
        joint = (joint + joint.T) / 2
        rows, columns = joint.sum(1), joint.sum(0)
        information = np.log(joint) - lam * np.log(rows)[:, None] - lam * np.log(columns)[None]
        losses.append(-(joint * information).sum())
    return np.mean(losses)


@pytest.mark.parametrize("displacement", [0, 2])
@pytest.mark.parametrize("collapsed", [True, False])
def test_iic_matches_the_reference(displacement, collapsed):
    golden = np.load(GOLDEN / "iic.npz")
    p1, p2, mask = (jnp.asarray(golden[k]) for k in ("probabilities_a", "probabilities_b", "mask"))
    prefix = "" if collapsed else "uncollapsed_"
    loss, gradient = LOSS_AND_GRADIENT(p1, p2, mask, displacement, 1.0, collapsed)
    np.testing.assert_allclose(loss, golden[f"{prefix}loss_t{displacement}"], rtol=1e-4, atol=1e-6)
    expected = golden[f"{prefix}grad_a_t{displacement}"]
    assert np.abs(gradient - expected).max() <= 1e-3 * np.abs(expected).max()


@pytest.mark.parametrize(("displacement", "lam"), [(0, 1.5), (1, 1.0)])
@pytest.mark.parametrize("collapsed", [True, False])
def test_iic_matches_brute_force(displacement, lam, collapsed):
    p1, p2, mask = maps(0)
    found = LOSS(*map(jnp.asarray, (p1, p2, mask)), displacement, lam, collapsed)
    assert found == pytest.approx(iic_by_hand(p1, p2, mask, displacement, lam, collapsed), abs=1e-6)
    everywhere = LOSS(jnp.asarray(p1), jnp.asarray(p2), None, displacement, lam, collapsed)
    by_hand = iic_by_hand(p1, p2, np.ones_like(mask), displacement, lam, collapsed)
    assert everywhere == pytest.approx(by_hand, abs=1e-6)
    assert abs(everywhere - found) > 1e-5


def test_iic_of_equal_certain_maps_is_minus_their_entropy():
    p = jnp.asarray(np.eye(4, dtype=np.float32)[np.arange(16).reshape(1, 4, 4) % 4])
    assert mi.iic(p, p, None, 0, 1.0) == pytest.approx(-np.log(4), abs=1e-6)


@pytest.mark.parametrize("collapsed", [True, False])
def test_iic_of_nothing_is_finite(collapsed):
    p1, p2, mask = map(jnp.asarray, maps(0))
    for weight, reach in ((jnp.zeros_like(mask), 1), (mask, 6)):  # 6 is beyond the map
        loss, gradient = LOSS_AND_GRADIENT(p1, p2, weight, reach, 1.0, collapsed)
        assert np.isfinite(loss)
        assert np.isfinite(gradient).all()


def test_iic_refuses_what_does_not_fit():
    p1, p2, mask = map(jnp.asarray, maps(0))
    with pytest.raises(ValueError, match="B h w K"):
        mi.iic(p1, p2[..., :2], mask, 0, 1.0)
    with pytest.raises(ValueError, match="B h w K"):
        mi.iic(p1, p2, mask[..., None], 0, 1.0)
    with pytest.raises(ValueError, match="displacement"):
        mi.iic(p1, p2, mask, -1, 1.0)


def test_bounds_match_brute_force():
    rng = np.random.default_rng(0)
    positive, negative = rng.normal(0, 3, (2, 5)), rng.normal(0, 3, (3, 4))
    jsd = np.log1p(np.exp(-positive)).mean() + np.log1p(np.exp(negative)).mean()
    dv = -(positive.mean() - np.log(np.exp(negative).mean()))
    scores = jnp.asarray(positive, jnp.float32), jnp.asarray(negative, jnp.float32)
    assert mi.jsd_bound(*scores) == pytest.approx(jsd, rel=1e-5)
    assert mi.dv_bound(*scores) == pytest.approx(dv, rel=1e-5)


def test_bounds_of_large_scores_do_not_overflow():
    positive, negative = jnp.full(4, -500.0), jnp.asarray([500.0, 0.0])
    assert mi.jsd_bound(positive, negative) == pytest.approx(500 + 250 + np.log(2) / 2)
    assert mi.dv_bound(positive, negative) == pytest.approx(500 + 500 - np.log(2))
    for bound in (mi.jsd_bound, mi.dv_bound):
        slopes = jax.jit(jax.grad(bound, argnums=(0, 1)))(positive, negative)
        assert all(np.isfinite(s).all() for s in slopes)
        assert (slopes[0] < 0).all()  # descent raises positive scores


@pytest.mark.parametrize("displacement", [0, 1, 2])
def test_derivatives_of_the_joint_in_both_maps(displacement):
    rng = np.random.default_rng(0)
    p1, p2 = (jnp.asarray(rng.random((2, 4, 5, 3)), jnp.float32) for _ in range(2))
    side = 2 * displacement + 1
    change = jnp.asarray(rng.normal(size=(side, side, 3, 3)), jnp.float32)

    def by_slices(p1, p2):
        padded = jnp.pad(p1, ((0, 0), (displacement,) * 2, (displacement,) * 2, (0, 0)))
        return jnp.stack(
            [
                jnp.stack(
                    [
                        jnp.einsum("bhwc,bhwd->cd", padded[:, i : i + 4, j : j + 5], p2)
                        for j in range(side)
                    ]
                )
                for i in range(side)
            ]
        )

    np.testing.assert_allclose(mi._joint(p1, p2, displacement), by_slices(p1, p2), rtol=1e-5)
    found = jax.grad(lambda *p: (mi._joint(*p, displacement) * change).sum(), (0, 1))(p1, p2)
    expected = jax.grad(lambda *p: (by_slices(*p) * change).sum(), (0, 1))(p1, p2)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)
