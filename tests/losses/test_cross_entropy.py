import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.losses.cross_entropy import cross_entropy


@pytest.mark.parametrize("weighted", [False, True])
def test_the_mean_is_over_the_weights(weighted):
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(2, 5, 3))
    labels = rng.integers(-1, 3, (2, 5))
    weights = np.array([0.2, 3.0, 0.0]) if weighted else np.ones(3)
    total, loss = 0.0, 0.0
    for score, label in zip(scores.reshape(-1, 3), labels.reshape(-1), strict=True):
        if label >= 0:
            loss += weights[label] * (np.log(np.exp(score).sum()) - score[label])
            total += weights[label]
    given = jnp.asarray(weights, jnp.float32) if weighted else None
    found = cross_entropy(jnp.asarray(scores, jnp.float32), jnp.asarray(labels), given)
    assert float(found) == pytest.approx(loss / total, rel=1e-5)


def test_nothing_that_counts_is_no_loss():
    scores = jnp.ones((1, 4, 3))
    labels = jnp.full((1, 4), -1)
    assert cross_entropy(scores, labels) == 0
    assert jnp.isfinite(jax.grad(cross_entropy)(scores, labels)).all()
    with pytest.raises(ValueError, match="do not fit"):
        cross_entropy(scores, labels[0])
