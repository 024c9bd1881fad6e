"""SAN's terms against loops."""

import jax.numpy as jnp
import numpy as np

from jaxseg.losses.reconstruction import cosine, orthogonality, squared_error


def test_squared_error_counts_valid_pixels_alone():
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(2, 3, 4, 5)).astype(np.float32)
    valid = rng.integers(0, 2, (3, 4)).astype(np.float32)
    expected = sum(
        np.mean((one[i, j] - other[i, j]) ** 2) for i, j in np.ndindex(3, 4) if valid[i, j]
    )
    found = squared_error(jnp.asarray(one), jnp.asarray(other), jnp.asarray(valid))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_terms_on_semantics_against_loops():
    semantics = np.random.default_rng(1).normal(size=(2, 3, 7)).astype(np.float32)
    square, cos = [], []
    for s in semantics:
        for n, m in np.ndindex(3, 3):
            square.append((s[n] @ s[m] / 7 - (n == m)) ** 2)
            if n != m:
                cos.append((s[n] @ s[m] / np.linalg.norm(s[n]) / np.linalg.norm(s[m])) ** 2)
    np.testing.assert_allclose(orthogonality(jnp.asarray(semantics)), np.mean(square), rtol=1e-4)
    np.testing.assert_allclose(cosine(jnp.asarray(semantics)), np.mean(cos), rtol=1e-4)


def test_orthogonal_semantics_of_mean_square_one_cost_nothing():
    semantics = 2.0 * jnp.eye(4)[None, :3]
    assert orthogonality(semantics) == 0
    assert cosine(semantics) == 0
