"""Probes beside a method: they learn, and the method does not notice."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxseg.core import Batch, Method, Output, State, UserError
from jaxseg.methods.online_probes import OnlineProbes
from jaxseg.train import init_optimiser, make_step

KEY = jax.random.key(0)


@dataclasses.dataclass(frozen=True)
class Inner(Method):
    """Moves a vector towards the image's mean; its features are the blocks' mean colours."""

    resets: ClassVar[tuple[str, ...]] = ("net",)

    def init(self, key, spec):
        params = {"net": {"w": jax.random.normal(key, (3,))}}
        return State(step=jnp.zeros((), jnp.int32), params=params, extra={"n": 0}, frozen={})

    def loss(self, state, batch, key):
        assert state.params.keys() == {"net"}
        features = self.predict(state, batch.first_view).features
        target = features.mean((0, 1, 2)) + 0.1 * jax.random.normal(key, (3,))
        return ((state.params["net"]["w"] - target) ** 2).sum(), (state.extra, {"a": target[0]})

    def predict(self, state, image):
        blocks = image.reshape(len(image), 4, 2, 4, 2, 3).astype(jnp.float32).mean((2, 4)) / 255
        return Output(blocks, logits=jnp.zeros((len(image), 8, 8, 2)), aux={"twice": 2 * blocks})

    def refit(self, state, stream, key):
        return state.replace(extra={"n": state.extra["n"] + 1})

    def finish(self, state, stream, key):
        return state.replace(params={"net": {"w": jnp.zeros(3)}})

    def active_groups(self, step):
        return {"net": step % 2 == 0}


def make_batch(count=4):
    """The label says whether red or blue is brighter; -1 in one corner."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (count, 1, 4, 1, 4, 1, 3), np.uint8)
    image = np.broadcast_to(image, (count, 1, 4, 2, 4, 2, 3)).reshape(count, 1, 8, 8, 3)
    label = (image[:, 0, ..., 0] > image[:, 0, ..., 2]).astype(np.int32)
    label[:, :2, :2] = -1
    return Batch(
        index=jnp.arange(count),
        seed=jnp.zeros(count, jnp.uint32),
        image=jnp.asarray(image),
        label={"class": jnp.asarray(label)},
    )


def train(method, steps):
    batch = make_batch()
    state = method.init(KEY, batch)
    transforms = dict.fromkeys(state.params, optax.adam(0.1))
    step = jax.jit(make_step(method, transforms, KEY))
    state = init_optimiser(state, transforms)
    for _ in range(steps):
        state, metrics = step(state, batch)
    return state, metrics


def test_the_probes_learn_and_the_method_does_not_notice():
    alone, alone_metrics = train(Inner(), 60)
    state, metrics = train(OnlineProbes(Inner(), classes=2, clusters=3), 60)
    cells = jax.jit(OnlineProbes(Inner(), classes=2, clusters=3).predict)(
        state, make_batch().first_view
    ).aux["linear_probe"]
    red = make_batch().first_view[:, ::2, ::2]
    assert ((cells.argmax(-1) == 1) == (red[..., 0] > red[..., 2])).mean() > 0.95
    # Between cells the scores blend, where the labels jump.
    assert metrics["with_labels/linear_probe_accuracy"] > 0.8
    assert metrics["cluster_probe"] < -0.9
    # Another program, another order of additions; otherwise the same.
    np.testing.assert_allclose(state.params["net"]["w"], alone.params["net"]["w"], rtol=1e-6)
    # The loss by which a state may be chosen holds no labels.
    np.testing.assert_allclose(metrics["loss"], alone_metrics["loss"], rtol=1e-5)
    assert state.params.keys() == {"net", "linear_probe", "cluster_probe"}


def test_without_clusters_there_is_no_cluster_probe():
    method = OnlineProbes(Inner(), classes=2)
    state = method.init(KEY, make_batch())
    assert state.params.keys() == {"net", "linear_probe"}
    assert method.predict(state, make_batch().first_view).aux.keys() == {"twice", "linear_probe"}


def test_linear_loss_is_the_cross_entropy_over_labelled_pixels():
    method = OnlineProbes(Inner(), classes=2, features="twice")
    batch = make_batch()
    state = method.init(KEY, batch)
    label = batch.label["class"].at[0, 7].set(5)  # no class of the probe's
    metrics = method.loss(state, batch.replace(label={"class": label}), KEY)[1][1]
    probe = {k: np.asarray(v) for k, v in state.params["linear_probe"].items()}
    features = 2 * np.asarray(Inner().predict(state, batch.first_view).features)
    logits = features @ probe["kernel"] + probe["bias"]
    logits = np.asarray(jax.image.resize(logits, (4, 8, 8, 2), "bilinear"))
    log = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    places = [p for p in np.ndindex(4, 8, 8) if label[p] in (0, 1)]
    expected = -np.mean([log[(*p, int(label[p]))] for p in places])
    np.testing.assert_allclose(metrics["with_labels/linear_probe"], expected, rtol=1e-4)


def test_unlabelled_images_give_a_finite_loss():
    method = OnlineProbes(Inner(), classes=2)
    batch = make_batch()
    state = method.init(KEY, batch)
    batch = batch.replace(label={"class": jnp.full((4, 8, 8), -1)})
    loss, (_, metrics) = method.loss(state, batch, KEY)
    assert np.isfinite(loss)
    assert metrics["with_labels/linear_probe"] == 0


def test_scores_of_the_probes():
    method = OnlineProbes(Inner(), classes=2, clusters=3)
    state = method.init(KEY, make_batch())
    output = method.predict(state, make_batch().first_view)
    assert output.aux["linear_probe"].shape == (4, 4, 4, 2)
    assert output.aux["cluster_probe"].shape == (4, 8, 8, 3)  # as fine as the method's own
    assert np.abs(output.aux["cluster_probe"]).max() <= 2


def test_the_rest_is_the_inner_methods():
    method = OnlineProbes(Inner(), classes=2)
    assert method.resets == ("net",)
    assert method.reads_labels
    assert not Inner.reads_labels
    state = method.init(KEY, make_batch())
    refitted = method.refit(state, None, KEY)
    assert refitted.extra == {"n": 1}
    assert refitted.params.keys() == state.params.keys()
    finished = method.finish(state, None, KEY)
    assert not finished.params["net"]["w"].any()
    assert finished.params["linear_probe"] is state.params["linear_probe"]
    assert method.active_groups(jnp.int32(1)).keys() == {"net"}
    with pytest.raises(UserError, match="Inner learns its features"):
        method.encode(state, make_batch().first_view)


def test_what_is_wrong_is_named():
    with pytest.raises(UserError, match=r"online_probes\.classes is 0"):
        OnlineProbes(Inner(), classes=0)
    with pytest.raises(UserError, match="'tokens'; it is one of features, twice"):
        OnlineProbes(Inner(), classes=2, features="tokens").init(KEY, make_batch())
    method = OnlineProbes(Inner(), classes=2, label="part")
    with pytest.raises(ValueError, match="needs labels 'part'"):
        method.loss(method.init(KEY, make_batch()), make_batch(), KEY)
