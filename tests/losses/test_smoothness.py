"""SmooSeg's energy against the reference and against its definition with N x N matrices."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.clustering.kmeans import similarity
from jaxseg.losses import smoothness as sm

GOLDEN = np.load(pathlib.Path(__file__).parents[1] / "golden" / "smooseg_energy.npz")


def assign(code, prototypes, tau):
    return jax.nn.softmax(similarity(code, prototypes) / tau, axis=-1)


def test_energy_and_gradients_match_the_reference():
    g = {k: jnp.asarray(GOLDEN[k]) for k in GOLDEN.files}

    @jax.jit
    def energy(code, student):
        teacher_scores = similarity(code, jax.lax.stop_gradient(g["teacher"]))
        probabilities = jax.nn.softmax(teacher_scores / g["tau"], axis=-1)
        summary = sm.summarise(g["features"], probabilities)
        other = summary.of(g["permutation"])
        within, inside = sm.smoothness(summary, summary, float(g["beta_within"]))
        across, between = sm.smoothness(summary, other, float(g["beta_across"]))
        student_scores = similarity(jax.lax.stop_gradient(code), student)
        data = sm.data_term(student_scores, teacher_scores)
        return within + across + data, (within + across, data, inside, between)

    (_, found), gradients = jax.value_and_grad(energy, argnums=(0, 1), has_aux=True)(
        g["code"], g["student"]
    )
    names = ("smooth_loss", "data_loss", "mean_penalty_within", "mean_penalty_across")
    for value, name in zip(found, names, strict=True):
        np.testing.assert_allclose(value, GOLDEN[name], rtol=1e-4, atol=1e-6, err_msg=name)
    for gradient, name in zip(gradients, ("grad_code", "grad_student"), strict=True):
        expected = GOLDEN[name]
        within = 1e-3 * np.abs(expected).max()
        np.testing.assert_allclose(gradient, expected, rtol=0, atol=within, err_msg=name)


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def draw(seed, batch=3, cells=(4, 5), channels=7, clusters=6):
    rng = np.random.default_rng(seed)
    features = rng.normal(0.3, 1, (batch, *cells, channels)).astype(np.float32)
    probabilities = rng.dirichlet(np.full(clusters, 0.3), (batch, *cells)).astype(np.float32)
    return features, probabilities


def naive(features, assignments, other, threshold, closeness):
    """The definition, with W and delta formed in full: (term, mean penalty)."""
    x, a = (unit(v.reshape(len(v), -1, v.shape[-1]).astype(np.float64)) for v in (features,) * 2)
    a = unit(assignments.reshape(len(assignments), -1, assignments.shape[-1]).astype(np.float64))
    w = np.einsum("bpc,bqc->bpq", x, x[other])
    centred = w - w.mean(-1, keepdims=True) + (w.mean() if closeness == "code" else 0)
    if closeness == "code":  # METHODS' fidelity test: row means equal to the batch mean
        np.testing.assert_allclose(centred.mean(-1), w.mean(), atol=1e-12)
    delta = 1 - np.einsum("bpk,bqk->bpq", a, a[other])
    return ((centred - threshold) * delta).mean(), delta.mean()


@pytest.mark.parametrize("closeness", sm.CLOSENESS)
@pytest.mark.parametrize("other", [(0, 1, 2), (1, 2, 0), (2, 2, 0)])
def test_term_is_that_of_the_definition(closeness, other):
    features, probabilities = draw(0)
    summary = sm.summarise(jnp.asarray(features), jnp.asarray(probabilities))
    found = sm.smoothness(summary, summary.of(jnp.asarray(other)), 0.3, closeness)
    expected = naive(features, probabilities, np.asarray(other), 0.3, closeness)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("closeness", sm.CLOSENESS)
def test_gradient_is_that_of_the_definition(closeness):
    features, probabilities = draw(1, batch=2, cells=(2, 3))
    other = np.asarray([1, 0])

    def term(assignments):
        summary = sm.summarise(jnp.asarray(features), assignments)
        return sm.smoothness(summary, summary.of(jnp.asarray(other)), 0.1, closeness)[0]

    found = np.asarray(jax.grad(term)(jnp.asarray(probabilities)))
    for place in [(0, 0, 0, 0), (1, 1, 2, 3), (1, 0, 1, 5)]:
        up, down = probabilities.astype(np.float64), probabilities.astype(np.float64)
        up[place] += 1e-5
        down[place] -= 1e-5
        slope = np.subtract(
            *(naive(features, p, other, 0.1, closeness)[0] for p in (up, down))
        )  # (term, penalty) of each; the term comes first
        np.testing.assert_allclose(found[place], slope / 2e-5, rtol=2e-3, atol=1e-6)


def test_no_gradient_passes_through_the_features():
    features, probabilities = map(jnp.asarray, draw(2))

    def term(x):
        summary = sm.summarise(x, probabilities)
        return sm.smoothness(summary, summary, 0.0)[0]

    assert not jax.grad(term)(features).any()


def test_what_does_not_fit_is_refused():
    features, probabilities = map(jnp.asarray, draw(0))
    with pytest.raises(ValueError, match="B h w"):
        sm.summarise(features[:, :2], probabilities)
    summary = sm.summarise(features, probabilities)
    with pytest.raises(ValueError, match="one of"):
        sm.smoothness(summary, summary, 0.0, "papre")


def penalties(assignments):
    a = unit(assignments.reshape(len(assignments), -1, assignments.shape[-1]).astype(np.float64))
    return 1 - np.einsum("bpk,bqk->bpq", a, a)


def test_histogram_counts_the_pairs_of_each_image():
    probabilities = draw(3, cells=(5, 7))[1]
    found = sm.penalty_histogram(jnp.asarray(probabilities), 10)
    assert found.shape == (3, 10)
    for share, delta in zip(np.asarray(found), penalties(probabilities), strict=True):
        # Of a cell with itself the penalty is 0, give or take the rounding.
        expected, _ = np.histogram(np.clip(delta, 0, 1), 10, (0, 1))
        np.testing.assert_allclose(share, expected / delta.size, atol=1e-6)


def test_histogram_of_a_large_grid_takes_a_spread_of_its_cells():
    probabilities = np.zeros((1, 40, 40, 2), np.float32)
    probabilities[:, :20, :, 0] = probabilities[:, 20:, :, 1] = 1
    share = np.asarray(sm.penalty_histogram(jnp.asarray(probabilities), 4))[0]
    np.testing.assert_allclose(share, [0.5, 0, 0, 0.5], atol=0.01)


@pytest.mark.parametrize("cells", [(4, 5), (9, 8)])  # 72 rows are more than one block
def test_bimodality_is_that_of_the_moments(cells):
    probabilities = draw(4, cells=cells)[1]
    delta = penalties(probabilities).reshape(-1)
    deviation = delta - delta.mean()
    second, third, fourth = ((deviation**n).mean() for n in (2, 3, 4))
    expected = (third**2 / second**3 + 1) / (fourth / second**2)
    found = jax.jit(sm.penalty_bimodality)(jnp.asarray(probabilities))
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert sm.bimodality(second, third, fourth) == pytest.approx(expected)


def test_bimodality_of_known_distributions():
    uniform, two, one = np.ones(1000), np.zeros(50), np.zeros(50)
    two[[3, 40]] = 0.2, 0.8
    one[7] = 1
    assert sm.histogram_bimodality(uniform) == pytest.approx(5 / 9, abs=1e-5)
    assert sm.histogram_bimodality(two) == pytest.approx(1)
    assert sm.histogram_bimodality(one) == 0
    assert np.isnan(sm.histogram_bimodality(np.zeros(5)))
    centres = (np.arange(400) + 0.5) / 400
    normal = np.exp(-(((centres - 0.5) / 0.05) ** 2) / 2)
    assert sm.histogram_bimodality(normal) == pytest.approx(1 / 3, abs=1e-4)
    with pytest.raises(ValueError, match="negative"):
        sm.histogram_bimodality(np.asarray([1, -1]))


def test_a_collapsed_batch_has_no_bimodality():
    collapsed = jnp.zeros((2, 3, 3, 4)).at[..., 0].set(1)
    assert sm.penalty_bimodality(collapsed) == 0
    noise = 0.01 * jax.random.uniform(jax.random.key(0), collapsed.shape)
    assert sm.penalty_bimodality(collapsed + noise) == 0
