import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.losses.modularity import collapse_loss, modularity_loss, nearest_graph

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="module")
def golden():
    return dict(np.load(GOLDEN / "modularity.npz"))


def graph_of(golden, neighbours):
    return nearest_graph(
        jnp.asarray(golden["segment_features"]),
        jnp.asarray(~golden["padding"]),
        neighbours,
        jnp.asarray(golden["view_of_segment"]),
        views=2,
    )


@pytest.mark.parametrize("neighbours", [2, 4])
def test_values_and_gradients_match_the_reference(golden, neighbours):
    graph, mask = graph_of(golden, neighbours), jnp.asarray(~golden["padding"])
    np.testing.assert_array_equal(graph, golden[f"adjacency_k{neighbours}"])

    def parts(fine_logits, transition_logits):
        fine = jax.nn.softmax(fine_logits, -1) * mask[:, :, None]
        coarse = jnp.einsum("bsn,bnm->bsm", fine, jax.nn.softmax(transition_logits, -1))
        return {
            f"{name}_{level}": value
            for level, p in (("fine", fine), ("coarse", coarse))
            for name, value in (
                ("one_minus_modularity", modularity_loss(graph, p)),
                ("collapse_plus_one", collapse_loss(p, mask, "padded")),
            )
        }

    logits = jnp.asarray(golden["fine_logits"]), jnp.asarray(golden["transition_logits"])
    for name, value in parts(*logits).items():
        np.testing.assert_allclose(value, golden[f"{name}_k{neighbours}"], rtol=1e-4, atol=1e-6)
    grads = jax.grad(lambda a, b: sum(parts(a, b).values()), (0, 1))(*logits)
    for grad, name in zip(grads, ("fine_logits", "transition_logits"), strict=True):
        expected = golden[f"grad_{name}_k{neighbours}"].swapaxes(1, 2)
        assert np.abs(np.asarray(grad) - expected).max() <= 1e-3 * np.abs(expected).max()


def test_graph_over_all_views_has_k_edges_a_segment(golden):
    segments, mask = golden["segment_features"], ~golden["padding"]
    graph = np.asarray(nearest_graph(jnp.asarray(segments), jnp.asarray(mask), 4))
    for image in range(2):
        similarity = segments[image] @ segments[image].T
        np.fill_diagonal(similarity, -np.inf)
        similarity[:, ~mask[image]] = -np.inf
        for s in np.flatnonzero(mask[image]):
            nearest = np.argsort(-similarity[s])[:4]
            assert set(np.flatnonzero(graph[image, s])) == set(nearest)
        assert graph[image][~mask[image]].sum() == 0


def test_ties_are_all_kept_and_few_segments_are_no_trouble():
    segments = jnp.asarray([[[1.0, 0.0]] * 3 + [[0.0, 1.0]]])
    mask = jnp.asarray([[True, True, True, False]])
    graph = nearest_graph(segments, mask, 1)
    np.testing.assert_array_equal(graph[0].sum(-1), [2, 2, 2, 0])
    np.testing.assert_array_equal(nearest_graph(segments, mask, 9), graph)


@pytest.mark.parametrize("neighbours", [1, 2, 3, 5])
def test_the_last_of_the_nearest_is_that_of_a_sort_where_many_tie(neighbours):
    draw = np.random.default_rng(neighbours)
    segments = np.eye(4, dtype=np.float32)[draw.integers(0, 4, (3, 12))]  # cosines of 0 and 1
    mask = draw.random((3, 12)) < [[0.9], [0.3], [0.0]]  # also fewer segments than neighbours
    for image, real, graph in zip(
        segments, mask, nearest_graph(segments, jnp.asarray(mask), neighbours), strict=True
    ):
        allowed = real[:, None] & real[None] & ~np.eye(12, dtype=bool)
        found = np.where(allowed, image @ image.T, -np.inf)
        last = np.sort(found, axis=1)[:, -neighbours][:, None]
        np.testing.assert_array_equal(graph, allowed & (found >= last))


def test_one_group_has_modularity_a_quarter_whatever_the_graph(golden):
    assignment = jnp.ones((2, 30, 1)) * jnp.asarray(~golden["padding"])[:, :, None]
    for neighbours in (2, 4):
        found = modularity_loss(graph_of(golden, neighbours), assignment)
        np.testing.assert_allclose(found, 0.75, rtol=1e-6)
    symmetric = jnp.ones((1, 4, 4)) - jnp.eye(4)[None]
    by_hand = 1 - (12 - 4 * 9 * 4 / 24) / 24
    np.testing.assert_allclose(modularity_loss(symmetric, jnp.ones((1, 4, 1))), by_hand)


def test_an_image_without_edges_is_finite():
    assert float(modularity_loss(jnp.zeros((1, 3, 3)), jnp.zeros((1, 3, 2)))) == 1


def test_collapse_lies_between_even_groups_and_one_group():
    mask = jnp.asarray([[True] * 4 + [False] * 4])
    even = jnp.eye(8)[:, :4][None]
    one = jnp.zeros((1, 8, 4)).at[:, :4, 0].set(1.0)
    np.testing.assert_allclose(collapse_loss(even, mask), 1.0)
    np.testing.assert_allclose(collapse_loss(one, mask), 2.0)
    np.testing.assert_allclose(collapse_loss(one, mask, "padded"), 1.0)
