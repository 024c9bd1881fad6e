"""Attention that keeps no weights: values and gradients are those of the formula."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.models import attention


def formula(query, key, value):
    scores = jnp.einsum("bqhd,bkhd->bhqk", query, key) / math.sqrt(query.shape[-1])
    return jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores), value)


def drawn(dtype=jnp.float32):
    keys = jax.random.split(jax.random.key(0), 4)
    return [jax.random.normal(key, (2, 50, 3, 8)).astype(dtype) for key in keys]


@pytest.mark.parametrize("rows", [1 << 18, 20 * 50, 16 * 50])  # all, 3 blocks of 17, 4 of 13
def test_blocks_give_the_values_and_gradients_of_the_formula(rows, monkeypatch):
    monkeypatch.setattr(attention, "_BLOCK", rows)
    *inputs, upper = drawn()
    found, pull = jax.vjp(attention.attend, *inputs)
    expected, reference = jax.vjp(formula, *inputs)
    for a, b in zip((found, *pull(upper)), (expected, *reference(upper)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_all_heads_at_once_as_on_an_accelerator(monkeypatch):
    *inputs, upper = drawn()
    expected, reference = jax.vjp(formula, *inputs)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    found, pull = jax.vjp(attention.attend, *inputs)
    for a, b in zip((found, *pull(upper)), (expected, *reference(upper)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_bfloat16_is_near_and_keeps_its_dtype():
    *inputs, upper = drawn(jnp.bfloat16)
    found, pull = jax.vjp(attention.attend, *inputs)
    wide = [x.astype(jnp.float32) for x in (*inputs, upper)]
    expected, reference = jax.vjp(formula, *wide[:3])
    pairs = zip((found, *pull(upper)), (expected, *reference(wide[3])), strict=True)
    for a, b in pairs:
        assert a.dtype == jnp.bfloat16
        np.testing.assert_allclose(a.astype(jnp.float32), b, atol=0.02 * float(jnp.abs(b).max()))


def test_large_scores_do_not_overflow_and_weights_are_those_of_the_softmax():
    query, key, value, _ = drawn()
    assert np.isfinite(attention.attend(100 * query, key, value)).all()
    weights = attention.attention_weights(query, key)
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-5)
    mixed = jnp.einsum("bhqk,bkhd->bqhd", weights, value)
    np.testing.assert_allclose(mixed, attention.attend(query, key, value), rtol=1e-5, atol=1e-5)
