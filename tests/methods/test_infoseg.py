"""InfoSeg's loss against a plain NumPy form of its equations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.core import UserError
from jaxseg.methods.infoseg import InfoSeg, _matched, partners


@pytest.mark.parametrize(("batch", "count"), [(2, 1), (5, 1), (6, 5)])
def test_partners_are_other_images_and_differ(batch, count):
    for seed in range(5):
        found = np.stack(partners(jax.random.key(seed), batch, count))
        assert found.shape == (count, batch)
        assert not (found == np.arange(batch)).any()
        for column in found.T:
            assert len(set(column)) == count
        for row in found:
            assert sorted(row) == list(range(batch))


def test_too_few_images_for_the_negatives():
    with pytest.raises(ValueError, match="larger batch"):
        partners(jax.random.key(0), 3, 3)


def softplus(x):
    return np.logaddexp(0, x)


@pytest.mark.parametrize("assignment", ["soft", "hard"])
def test_objective_is_that_of_the_equations(assignment):
    """Loops over cells, with S formed in full, where the method never forms it."""
    rng = np.random.default_rng(0)
    local = rng.normal(size=(3, 2, 2, 5)).astype(np.float32)
    heads = rng.normal(size=(3, 4, 5)).astype(np.float32)
    method = InfoSeg(clusters=4, assignment=assignment)
    scores, mix = method._assign(jnp.asarray(local), jnp.asarray(heads))
    other = np.array([1, 2, 0])
    expected_positive, expected_negative = np.zeros((3, 2, 2)), np.zeros((3, 2, 2))
    blends = np.zeros((3, 2, 2, 5))
    for b, i, j in np.ndindex(3, 2, 2):
        s = heads[b] @ local[b, i, j]
        np.testing.assert_allclose(scores[b, i, j], s, rtol=1e-4, atol=1e-5)
        v = np.exp(0.8 * s) / np.exp(0.8 * s).sum()
        if assignment == "hard":
            v = np.eye(4)[s.argmax()]
        blends[b, i, j] = v @ heads[b]
    for b, i, j in np.ndindex(3, 2, 2):
        expected_positive[b, i, j] = local[b, i, j] @ blends[b, i, j]
        expected_negative[b, i, j] = local[b, i, j] @ blends[other[b], i, j]
    positive = _matched(local, heads, mix)
    negative = _matched(local, heads[other], mix[other])
    np.testing.assert_allclose(positive, expected_positive, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(negative, expected_negative, rtol=1e-4, atol=1e-5)


def test_stopping_the_gradient_through_the_assignment():
    rng = np.random.default_rng(1)
    local, heads = rng.normal(size=(1, 2, 2, 5)), rng.normal(size=(1, 3, 5))

    def mixed(heads, stop):
        mix = InfoSeg(clusters=3, sg_V=stop)._assign(jnp.asarray(local), heads)[1]
        return (mix * jnp.arange(3.0).reshape(1, 1, 1, 3)).sum()

    assert jnp.abs(jax.grad(mixed)(jnp.asarray(heads), False)).max() > 0
    assert jnp.abs(jax.grad(mixed)(jnp.asarray(heads), True)).max() == 0


def test_unknown_choices_name_the_valid_ones():
    with pytest.raises(UserError, match=r"method.bound is 'jds'; it is one of jsd, dv"):
        InfoSeg(clusters=3, bound="jds")
