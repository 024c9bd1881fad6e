import collections
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.core import UserError
from jaxseg.refine import permutohedral

LOCATE = jax.jit(permutohedral.locate, static_argnums=1)
CONNECT = jax.jit(permutohedral.connect, static_argnums=(1, 2))
SMOOTH = jax.jit(permutohedral.smooth)
ENCODE = jax.jit(permutohedral._encode, static_argnums=1)


def lattice_by_hand(features, values):
    """The filter with a dictionary of vertices, one point after another, in float64."""
    d = features.shape[1]
    scale = np.sqrt(2 / 3) * (d + 1) / np.sqrt(np.arange(1, d + 1) * np.arange(2, d + 2))
    table, places = collections.defaultdict(float), []
    for point, value in zip(features * scale[None], values, strict=True):
        up = np.append([point[j:].sum() for j in range(d)], 0)
        up[1:] -= np.arange(1, d + 1) * point
        origin = (d + 1) * np.round(up / (d + 1))
        while origin.sum():  # the coordinate that was rounded furthest goes back
            rest = up - origin
            if origin.sum() > 0:
                origin[np.argmin(rest)] -= d + 1
            else:
                origin[np.argmax(rest)] += d + 1
        order = np.argsort(-(up - origin), kind="stable")
        rest = (up - origin)[order] / (d + 1)
        for m in range(d + 1):
            vertex = origin + m
            vertex[order[d + 1 - m :]] -= d + 1
            before = rest[d - m]
            weight = before - rest[d + 1 - m] if m else before + 1 - rest[0]
            places.append((tuple(vertex.astype(int)), weight))
            table[places[-1][0]] = table[places[-1][0]] + weight * value
    for j in range(d + 1):
        step = np.ones(d + 1, int) - (d + 1) * (np.arange(d + 1) == j)
        table = {
            vertex: here
            + 0.5 * (table.get(tuple(vertex + step), 0) + table.get(tuple(vertex - step), 0))
            for vertex, here in table.items()
        }
    parts = [weight * table[vertex] for vertex, weight in places]
    return np.reshape(parts, (len(features), d + 1, -1)).sum(1)


@pytest.mark.parametrize("d", [2, 5])
def test_the_filter_is_that_of_a_lattice_kept_in_a_dictionary(d):
    rng = np.random.default_rng(d)
    extent = (3.0, 2.0, 6.0, 6.0, 6.0)[:d]
    features = rng.random((150, d)).astype(np.float32) * np.float32(extent)
    values = rng.random((150, 3)).astype(np.float32)
    simplices = LOCATE(jnp.asarray(features), extent, jnp.ones(150, bool))
    count = int(simplices.count)
    assert len(np.unique(np.asarray(simplices.vertices[:count]), axis=0)) == count
    np.testing.assert_allclose(simplices.weight.sum(0), 1, atol=1e-5)
    expected = lattice_by_hand(features.astype(np.float64), values)
    lattice = CONNECT(simplices, extent, count + 1)  # the fewest rows that are allowed
    found = SMOOTH(lattice, jnp.asarray(values))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_points_that_are_not_valid_leave_no_trace():
    rng = np.random.default_rng(0)
    extent = (2.0, 2.0)
    features = rng.random((60, 2)).astype(np.float32) * 2
    values = rng.random((60, 3)).astype(np.float32)
    valid = rng.random(60) < 0.5

    @jax.jit
    def smooth(features, values, valid):
        simplices = permutohedral.locate(features, extent, valid)
        lattice = permutohedral.connect(simplices, extent, simplices.codes.size)
        return permutohedral.smooth(lattice, values)

    found = np.asarray(smooth(features, values, valid))
    alone = smooth(features[valid], values[valid], np.ones(valid.sum(), bool))
    np.testing.assert_allclose(found[valid], alone, rtol=1e-5)
    assert (found[~valid] == 0).all()


@pytest.mark.parametrize(
    "extent",
    [(4.8, 4.8, 85.0, 85.0, 85.0), (0.1, 30.6, 85.0, 1.0, 85.0), (320.0, 7.0), (2.0,)],
)
def test_vertices_and_their_neighbours_have_codes_of_their_own(extent):
    """Also for points in the corners of the box, where digits are the smallest and largest."""
    rng = np.random.default_rng(0)
    d = len(extent)
    corners = np.asarray(list(itertools.product((0, 1), repeat=d)), np.float32)
    near = rng.choice([0, 1], (3000, d)) + rng.normal(0, 0.01, (3000, d))
    points = np.concatenate([corners, np.clip(near, 0, 1), rng.random((3000, d))])
    vertex, _ = jax.jit(permutohedral._enclose)(
        jnp.asarray(points * np.asarray(extent), jnp.float32)
    )
    steps = 1 - (d + 1) * np.eye(d + 1, d, dtype=np.int32)
    steps = np.concatenate([np.zeros((1, d), int), steps, -steps])
    vertices = np.unique((np.asarray(vertex)[..., None, :] + steps).reshape(-1, d), axis=0)
    codes = np.asarray(ENCODE(jnp.asarray(vertices, jnp.int32), extent))
    assert len(np.unique(codes)) == len(vertices)
    assert codes.max() < 2**32 - 1


def test_a_box_with_too_many_vertices_is_refused():
    features = jax.ShapeDtypeStruct((10, 5), jnp.float32)
    valid = jax.ShapeDtypeStruct((10,), bool)
    with pytest.raises(UserError, match="use larger sigmas"):
        jax.eval_shape(lambda f, v: permutohedral.locate(f, (320.0,) * 5, v), features, valid)
