"""SAN: its terms against loops, chunks, and what padding may not change."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.core import Batch, UserError
from jaxseg.methods.san import SAN
from jaxseg.models.san import SemanticLayer, attend, attention_scores

METHOD = SAN(clusters=3, features=8, blocks=1, heads=2, trained_cells=2, stem=4, decoder_width=4)


def batch_of(count, fill=0, size=16, seed=0):
    rng = np.random.default_rng(seed)
    image = rng.integers(1, 256, (count, 1, size, size, 3))
    image = np.concatenate([image, np.zeros((fill, 1, size, size, 3), int)])
    real = np.arange(count + fill) < count
    return Batch(
        index=jnp.where(real, jnp.arange(count + fill), -1),
        seed=jnp.zeros(count + fill, jnp.uint32),
        image=jnp.asarray(image, jnp.uint8),
        size=jnp.where(real[:, None, None], size, 0) * jnp.ones((1, 1, 2), jnp.int32),
    )


@pytest.fixture(scope="module")
def state():
    return jax.jit(METHOD.init)(jax.random.key(0), batch_of(2))


def test_attention_against_loops():
    rng = np.random.default_rng(0)
    pixels, semantics = rng.normal(size=(2, 5, 4)), rng.normal(size=(2, 3, 4))
    scores = attention_scores(jnp.asarray(pixels), jnp.asarray(semantics))
    mixed = attend(jnp.asarray(pixels), jnp.asarray(semantics))
    for b, i in np.ndindex(2, 5):
        s = semantics[b] @ pixels[b, i] / 2
        np.testing.assert_allclose(scores[b, i], s, rtol=1e-4)
        weights = np.exp(s) / np.exp(s).sum()
        np.testing.assert_allclose(mixed[b, i], weights @ semantics[b], rtol=1e-4, atol=1e-5)


def test_the_semantics_are_the_batch_of_their_norm():
    layer = SemanticLayer(4, 6)
    x = jax.random.normal(jax.random.key(0), (2, 4, 5))
    variables = layer.init(jax.random.key(1), x)
    found = layer.apply(variables, x)
    assert set(variables) == {"params"}  # nothing is carried over
    np.testing.assert_allclose(found.mean(1), 0, atol=1e-5)
    np.testing.assert_allclose((found**2).mean(1), 1, atol=1e-2)


@pytest.mark.parametrize("consistency", ["embeddings", "images"])
def test_terms_by_chunks_and_with_padding_are_those_of_loops(state, consistency):
    rng = np.random.default_rng(1)
    pixels = rng.normal(size=(2, 4, 4, 8)).astype(np.float32)
    matched = rng.normal(size=(2, 3, 8)).astype(np.float32)
    x = rng.normal(size=(2, 4, 4, 3)).astype(np.float32)
    valid = (rng.random((2, 4, 4)) < 0.6).astype(np.float32)
    decoder = jax.tree.map(np.asarray, state.params["decoder"])

    def decode(q):
        hidden = jax.nn.gelu(q @ decoder["hidden"]["kernel"], approximate=False)
        return hidden @ decoder["out"]["kernel"]

    rec, con = [], []
    for b, i, j in zip(*np.nonzero(valid), strict=True):
        q = pixels[b, i, j]
        s = matched[b] @ q / 8**0.5
        mixed = (np.exp(s) / np.exp(s).sum()) @ matched[b]
        rec.append(((decode(q) - x[b, i, j]) ** 2 + (decode(mixed) - x[b, i, j]) ** 2).mean())
        pair = (mixed, q) if consistency == "embeddings" else (decode(mixed), decode(q))
        con.append(((pair[0] - pair[1]) ** 2).mean())
    # Biases begin at zero.
    arguments = [jnp.asarray(a) for a in (pixels, matched, x, valid)]
    for chunk in (0, 5):
        method = dataclasses.replace(METHOD, chunk=chunk, consistency=consistency)
        found = method._pixel_terms(state.params["decoder"], *arguments)
        np.testing.assert_allclose(found["L_Rec"], np.mean(rec), rtol=1e-4)
        np.testing.assert_allclose(found["L_Con"], np.mean(con), rtol=1e-4)


def test_chunks_and_remat_change_no_gradient(state):
    batch = batch_of(2)

    def grads(method):
        def loss(params):
            return method.loss(state.replace(params=params), batch, jax.random.key(0))[0]

        return jax.jit(jax.grad(loss))(state.params)

    plain = grads(METHOD)
    saving = grads(dataclasses.replace(METHOD, chunk=100, remat=True))
    for one, other in zip(jax.tree.leaves(plain), jax.tree.leaves(saving), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)


def stream_of(*batches):
    return lambda batch_size=None, limit=None: iter(batches)


def test_finish_fixes_the_mean_of_the_batches_and_counts_no_fill_ups(state):
    first, second = batch_of(4), batch_of(2, seed=1)
    key = jax.random.key(0)

    def fixed(*batches):
        return METHOD.finish(state, stream_of(*batches), key).extra["semantics"]

    expected = (4 * fixed(first) + 2 * fixed(second)) / 6
    np.testing.assert_allclose(fixed(first, second), expected, rtol=1e-5, atol=1e-6)
    filled = batch_of(2, fill=2, seed=1)
    np.testing.assert_allclose(fixed(first, filled), expected, rtol=1e-5, atol=1e-6)
    assert not np.allclose(fixed(first), fixed(second), atol=1e-6)
    # A black image that is one of the data counts.
    black = filled.replace(index=jnp.arange(4))
    assert not np.allclose(fixed(first, black), expected, atol=1e-6)
    with pytest.raises(ValueError, match="no images"):
        fixed()


def test_fixed_semantics_do_not_depend_on_the_batch_and_batch_wise_ones_ignore_fill_ups(state):
    three, filled = batch_of(3), batch_of(3, fill=2)
    for inference in ("fixed", "batch"):
        predict = jax.jit(dataclasses.replace(METHOD, inference=inference).predict)
        whole = predict(state, three.first_view).logits
        padded = predict(state, filled.first_view).logits
        np.testing.assert_allclose(padded[:3], whole, rtol=1e-4, atol=1e-5)
        alone = predict(state, three.first_view[:1]).logits
        assert np.allclose(alone[0], whole[0], atol=1e-5) == (inference == "fixed")
        black = jnp.zeros_like(three.first_view[:1])
        assert np.isfinite(predict(state, black).logits).all()


# Compiled once for the tests below.
LOSS = jax.jit(METHOD.loss)


def test_running_semantics_begin_with_the_first_batch(state):
    batch = batch_of(4)
    extra = LOSS(state, batch, jax.random.key(0))[1][0]
    fixed = METHOD.finish(state, stream_of(batch), jax.random.key(0))
    np.testing.assert_allclose(extra["semantics"], fixed.extra["semantics"], atol=1e-5)


def test_padding_is_in_no_loss_term(state):
    # BatchNorm sees padding, so that the images are the same: only what counts of them differs.
    batch = batch_of(4)

    def of(rows):
        size = jnp.where(rows[:, None, None], batch.size, 0)
        return LOSS(state, batch.replace(size=size), jax.random.key(0))[1][1]

    first = jnp.arange(4) < 2
    whole, one, other = of(first | True), of(first), of(~first)
    for term in ("L_Rec", "L_Con"):
        np.testing.assert_allclose(whole[term], (one[term] + other[term]) / 2, rtol=1e-5)
        assert abs(float(one[term] - other[term])) > 1e-6


def test_impossible_fields():
    with pytest.raises(UserError, match=r"method.features is 9, which method.heads=8"):
        SAN(clusters=3, features=9)
    with pytest.raises(UserError, match="are both 0"):
        SAN(clusters=3, reconstruction_weight=0, consistency_weight=0)
    with pytest.raises(UserError, match=r"method.clusters is 1; it must be at least 2"):
        SAN(clusters=1)
