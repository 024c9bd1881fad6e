"""The clustering transformer against the reference, and its statistics by hand."""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from jaxseg.models import published_hsg, weights
from jaxseg.models.clustering_transformer import ClusteringTransformer, moments

GOLDEN = np.load(pathlib.Path(__file__).parents[1] / "golden" / "clustering_transformer.npz")
FOUND, _ = published_hsg.grouping_arrays(
    {name[2:]: GOLDEN[name] for name in GOLDEN.files if name.startswith("w/")}
)
TREE = {k: v["level_0"] for k, v in traverse_util.unflatten_dict(FOUND, sep="/").items()}
VARIABLES = {"params": TREE["params"], "batch_stats": TREE["stats"]}
SEGMENTS, POSITIONS, QUERIES = (GOLDEN[name] for name in ("segments", "positions", "queries"))
MASK = ~GOLDEN["padding"]


@functools.cache
def runner(net, train):
    def run(variables, segments, positions, queries, mask=None, key=None):
        rngs = None if key is None else {"dropout": key}
        return net.apply(
            variables, segments, positions, queries, mask, train, mutable=["batch_stats"], rngs=rngs
        )

    return jax.jit(run)


def make(**fields):
    return ClusteringTransformer(**{"hidden": 64, "dropout": 0.0} | fields)


def padded(count):
    """Returns the golden inputs with so many more padded slots of random values."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(2, 3, count, 32)).astype(np.float32)
    segments = np.concatenate([SEGMENTS, noise[0]], axis=1)
    positions = np.concatenate([POSITIONS, noise[1]], axis=1)
    return segments, positions, QUERIES, np.pad(MASK, ((0, 0), (0, count)))


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_the_reference(mode):
    found, changed = runner(make(), mode == "train")(VARIABLES, SEGMENTS, POSITIONS, QUERIES, MASK)
    order = np.argsort(-np.max(found.logits, axis=1), axis=1)

    def check(ours, name, atol=1e-6):
        np.testing.assert_allclose(ours, GOLDEN[f"{mode}_{name}"], rtol=1e-4, atol=atol)

    check(found.encoded, "encoder_output")
    # The statistics of three images' decoder inputs magnify rounding: the same computation in
    # float64 is up to 1.6e-5 from the reference's float32.
    atol = 5e-5 if mode == "train" else 1e-6
    check(np.take_along_axis(found.logits, order[:, None], 2), "logits", atol)
    check(
        np.take_along_axis(found.centroids, order[..., None], 1), "centroids_for_assignment", atol
    )
    check(np.take_along_axis(found.features, order[..., None], 1), "centroid_features", atol)
    np.testing.assert_allclose(found.attention.sum(-1), 1, rtol=1e-5)
    unseen = ~np.broadcast_to(MASK[:, None, None], found.attention.shape)
    assert (np.asarray(found.attention)[unseen] == 0).all()
    same = jax.tree.map(np.array_equal, changed["batch_stats"], TREE["stats"])
    assert set(jax.tree.leaves(same)) == {mode == "eval"}


def test_moments_by_hand():
    rng = np.random.default_rng(0)
    x = rng.normal(1, 2, size=(2, 7, 3)).astype(np.float32)
    mask = np.arange(7)[None] < np.asarray([[7], [4]])
    mean, std = moments(x, None)
    np.testing.assert_allclose(mean, x.mean(1), rtol=1e-5)
    np.testing.assert_allclose(std, x.std(1, ddof=1), rtol=1e-5)
    mean, std = moments(x, mask, "valid")
    np.testing.assert_allclose(mean[1], x[1, :4].mean(0), rtol=1e-5)
    np.testing.assert_allclose(std[1], x[1, :4].std(0, ddof=1), rtol=1e-5)
    np.testing.assert_allclose(std[0], x[0].std(0, ddof=1), rtol=1e-5)
    mean, std = moments(x, mask, "code")
    mu = x[1, :4].mean(0)
    total = ((x[1, :4] - mu) ** 2).sum(0) + 3 * mu**2
    np.testing.assert_allclose(std[1], np.sqrt(total / 5), rtol=1e-5)
    with pytest.raises(ValueError, match="masked_std"):
        moments(x, mask, "paper")


@pytest.mark.parametrize("form", ["code", "valid"])
def test_moments_of_equal_slots_have_a_gradient(form):
    x, mask = jnp.ones((2, 3, 4)), jnp.asarray([[True] * 3, [False] * 3])
    grad = jax.grad(lambda x: sum(m.sum() for m in moments(x, mask, form)))(x)
    assert np.isfinite(grad).all()


@pytest.mark.parametrize("train", [False, True])
def test_padding_changes_nothing_where_it_is_left_out(train):
    masked = make(masked_norm=True, masked_std="valid")
    found, stats = runner(masked, train)(VARIABLES, SEGMENTS, POSITIONS, QUERIES, MASK)
    more, more_stats = runner(masked, train)(VARIABLES, *padded(4))
    for name in ("centroids", "features"):
        np.testing.assert_allclose(getattr(more, name), getattr(found, name), atol=2e-4)
    np.testing.assert_allclose(more.encoded[:, :20][MASK], found.encoded[MASK], atol=1e-5)
    np.testing.assert_allclose(more.logits[:, :20][MASK], found.logits[MASK], atol=2e-4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), stats, more_stats)
    # As released both the statistics and the deviation know of the padding.
    slip = make(masked_norm=train, masked_std="code")
    found, _ = runner(slip, train)(VARIABLES, SEGMENTS, POSITIONS, QUERIES, MASK)
    more, _ = runner(slip, train)(VARIABLES, *padded(4))
    assert np.abs(more.centroids - found.centroids).max() > 1e-3


def test_running_statistics_move_a_tenth_of_the_way():
    """To those of what the first norm sees: all slots, or with `masked_norm` the valid ones."""
    own = TREE["params"]["encoder0"]["attention"]
    before = SEGMENTS + attend(own, SEGMENTS + POSITIONS, SEGMENTS, MASK)
    old = TREE["stats"]["encoder0"]["norm1"]
    for masked, seen in ((False, before.reshape(-1, 32)), (True, before[MASK])):
        net = make(masked_norm=masked)
        _, changed = runner(net, True)(VARIABLES, SEGMENTS, POSITIONS, QUERIES, MASK)
        new = changed["batch_stats"]["encoder0"]["norm1"]
        np.testing.assert_allclose(new["mean"], 0.9 * old["mean"] + 0.1 * seen.mean(0), atol=1e-5)
        np.testing.assert_allclose(new["var"], 0.9 * old["var"] + 0.1 * seen.var(0), rtol=1e-5)


def attend(own, placed, values, mask, heads=4):
    """Attention of slots to each other, in NumPy, head by head."""
    (wq, wk, wv), (bq, bk, bv) = (np.split(own["qkv"][k], 3, -1) for k in ("kernel", "bias"))
    mixed, size = [], 32 // heads
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        q, k, v = (
            (x @ w + b)[..., part]
            for x, w, b in ((placed, wq, bq), (placed, wk, bk), (values, wv, bv))
        )
        scores = q @ k.swapaxes(1, 2) / np.sqrt(size)
        scores = np.exp(np.where(mask[:, None], scores, -np.inf))
        mixed.append(scores / scores.sum(-1, keepdims=True) @ v)
    return np.concatenate(mixed, -1) @ own["out"]["kernel"] + own["out"]["bias"]


def test_an_image_without_segments_is_finite():
    mask = MASK & np.asarray([True, False, True])[:, None]
    run = runner(make(masked_norm=True), True)

    def total(segments):
        found, _ = run(VARIABLES, segments, POSITIONS, QUERIES, mask)
        return found.logits.sum() + (found.features**2).sum(), found

    grad, found = jax.grad(total, has_aux=True)(SEGMENTS)
    assert all(np.isfinite(x).all() for x in (grad, *jax.tree.leaves(found)))


def test_dropout_needs_a_key_and_uses_it():
    net = make(dropout=0.1)
    inputs = (VARIABLES, SEGMENTS, POSITIONS, QUERIES, MASK)
    one, two, again = (runner(net, True)(*inputs, jax.random.key(i))[0].logits for i in (0, 1, 0))
    assert not np.allclose(one, two)
    np.testing.assert_array_equal(one, again)
    plain, _ = runner(make(), False)(*inputs)
    np.testing.assert_array_equal(runner(net, False)(*inputs)[0].logits, plain.logits)


def test_tree_and_initial_values():
    net = make()
    variables = jax.jit(net.init)(jax.random.key(0), SEGMENTS, POSITIONS, QUERIES, MASK)
    assert weights.shapes(variables["params"]) == weights.shapes(TREE["params"])
    assert weights.shapes(variables["batch_stats"]) == weights.shapes(TREE["stats"])
    flat = traverse_util.flatten_dict(variables["params"], sep="/")
    for name, array in flat.items():
        if name.endswith("kernel"):
            read_out = name.startswith(("centroid", "feature"))
            bound = 32**-0.5 if read_out else (6 / sum(array.shape)) ** 0.5
            assert np.abs(array).max() == pytest.approx(bound, rel=0.03), name
    assert (flat["encoder0/attention/qkv/bias"] == 0).all()
    assert np.abs(flat["encoder0/down/bias"]).max() == pytest.approx(64**-0.5, rel=0.1)
    layer = make(norm="layer")
    variables = jax.eval_shape(layer.init, jax.random.key(0), SEGMENTS, POSITIONS, QUERIES, MASK)
    assert weights.shapes(variables["params"]) == weights.shapes(TREE["params"])
    assert "batch_stats" not in variables
    with pytest.raises(ValueError, match="group"):
        jax.eval_shape(make(norm="group").init, jax.random.key(0), SEGMENTS, POSITIONS, QUERIES)


def test_layer_norm_has_unit_tokens_in_the_encoder():
    net = make(norm="layer")
    inputs = (SEGMENTS, POSITIONS, QUERIES, MASK)
    found, _ = runner(net, False)(jax.jit(net.init)(jax.random.key(0), *inputs), *inputs)
    np.testing.assert_allclose(found.encoded.mean(-1), 0, atol=1e-5)
    np.testing.assert_allclose(found.centroids.std(-1), 1, atol=1e-3)
