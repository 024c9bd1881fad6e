"""SmooSeg beyond its energy: the step's order, the terms, and what it says of images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.clustering.kmeans import similarity
from jaxseg.core import Batch, UserError
from jaxseg.losses import smoothness as sm
from jaxseg.methods.smooseg import TERMS, SmooSeg


def make_batch(count=4, views=1):
    rng = np.random.default_rng(0)
    return Batch(
        index=jnp.arange(count),
        seed=jnp.arange(count, dtype=jnp.uint32),
        tokens=jnp.asarray(rng.normal(size=(count, views, 3, 4, 48)), jnp.float16),
    )


def make(**fields):
    method = SmooSeg(**{"clusters": 5, "backbone": "vit_test", "dim": 8} | fields)
    return method, method.init(jax.random.key(0), make_batch())


def test_teacher_moves_towards_the_student_of_before_the_update():
    method, state = make(alpha=0.9)
    teacher = state.extra["teacher"] + 1
    extra, _ = method.loss(state.replace(extra={"teacher": teacher}), make_batch(), KEY)[1]
    expected = 0.9 * teacher + 0.1 * state.params["prototypes"]["student"]
    np.testing.assert_allclose(extra["teacher"], expected, rtol=1e-6)


KEY = jax.random.key(3)


def test_loss_without_dropout_is_the_energy_of_the_codes():
    method, state = make(dropout=0.0, beta_within=0.1, beta_across=0.4, closeness="paper")
    state = state.replace(extra={"teacher": jnp.roll(state.extra["teacher"], 1, 0) + 0.1})
    batch = make_batch()
    loss, (_, metrics) = method.loss(state, batch, KEY)
    code = method.predict(state, batch.view(0)).features
    scores = similarity(code, state.extra["teacher"])
    summary = sm.summarise(batch.view(0), jax.nn.softmax(scores / 0.1))
    within, delta = sm.smoothness(summary, summary, 0.1, "paper")
    data = sm.data_term(similarity(code, state.params["prototypes"]["student"]), scores)
    found = [metrics["L_within"], metrics["L_data"], metrics["delta_within"]]
    np.testing.assert_allclose(found, [within, data, delta], rtol=1e-5)
    np.testing.assert_allclose(loss, sum(metrics[f"L_{name}"] for name in TERMS), rtol=1e-5)
    assert abs(metrics["L_across"]) > 1e-3


@pytest.mark.parametrize(
    ("terms", "moved"),
    [
        (("data",), {"prototypes"}),
        (("within",), {"projector"}),
        (("across",), {"projector"}),
        (TERMS, {"projector", "prototypes"}),
    ],
)
def test_each_term_moves_its_own_group(terms, moved):
    method, state = make(terms=terms)

    def loss(params):
        return method.loss(state.replace(params=params), make_batch(), KEY)[0]

    gradients = jax.grad(loss)(state.params)
    found = {
        group
        for group, tree in gradients.items()
        if any(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(tree))
    }
    assert found == moved


def test_only_the_first_view_is_read():
    method, state = make()
    one, two = make_batch(views=1), make_batch(views=2)
    one = one.replace(tokens=two.tokens[:, :1])
    assert method.loss(state, one, KEY)[0] == method.loss(state, two, KEY)[0]


def test_prediction_of_images_and_of_their_tokens():
    method, state = make(flip_average=False)
    image = jax.random.randint(KEY, (2, 24, 32, 3), 0, 256).astype(jnp.uint8)
    predict = jax.jit(method.predict)
    output, tokens = predict(state, image), method.encode(state, image)
    assert output.logits.shape == (2, 24, 32, 5)
    np.testing.assert_array_equal(output.aux["tokens"].shape, (2, 3, 4, 48))
    np.testing.assert_allclose(output.aux["delta_histogram"].sum(-1), np.ones(2), rtol=1e-5)
    from_tokens = predict(state, tokens)
    np.testing.assert_allclose(from_tokens.features, output.features, atol=1e-4)
    np.testing.assert_allclose(from_tokens.logits, output.logits, atol=1e-4)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"clusters": 0}, "method.clusters is 0"),
        ({"tau": 0.0}, "method.tau is 0.0"),
        ({"alpha": 1.5}, r"method.alpha is 1.5; it lies in \[0, 1\]"),
        ({"terms": ("smooth",)}, "method.terms is .*data, across, within"),
        ({"terms": ()}, "method.terms"),
        ({"backbone": "vit_samll_8"}, "method.backbone is 'vit_samll_8'; it is one of"),
        ({"closeness": "paepr"}, "method.closeness is 'paepr'; it is one of code, paper"),
    ],
)
def test_wrong_fields_are_named(fields, message):
    with pytest.raises(UserError, match=message):
        make(**fields)
