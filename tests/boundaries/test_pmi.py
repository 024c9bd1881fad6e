import dataclasses

import numpy as np
import pytest

from jaxseg.boundaries import pmi
from jaxseg.boundaries.pmi import PmiSettings, pmi_edges
from jaxseg.boundaries.pmi_features import feature_maps, local_variance, principal
from jaxseg.core import UserError

FAST = PmiSettings(
    halvings=0, kernels=1000, regression_pairs=2000, eigenvectors=12, border=4, full_size=False
)


def noisy(colours, seed=0, spread=6):
    """An image u8[h w 3] of colours with noise."""
    noise = np.random.default_rng(seed).normal(0, spread, (*np.shape(colours)[:2], 3))
    return np.clip(np.asarray(colours) + noise, 0, 255).astype(np.uint8)


def halves(left, right, size=32):
    """An image of two colours, side by side."""
    colours = np.empty((size, size, 3))
    colours[:, : size // 2], colours[:, size // 2 :] = left, right
    return noisy(colours)


def zebra(size=32, period=4):
    """Black and white bars on the left half, grey on the right: many strong edges, one boundary."""
    colours = np.full((size, size, 3), (128.0, 128.0, 128.0))
    bars = np.where(np.arange(size) // (period // 2) % 2, 230.0, 25.0)
    colours[:, : size // 2] = bars[:, None, None]
    return noisy(colours, spread=8)


def columns(edges, inner=6):
    """Mean strength of each column, away from the border above and below."""
    return edges.strength[inner:-inner].mean(axis=0)


def test_density_is_the_sum_of_kernels():
    draw = np.random.default_rng(0)
    kernels, points = draw.random((50, 4), np.float32), draw.random((30, 4), np.float32)
    expected = np.zeros(30)
    for i, point in enumerate(points):
        for kernel in kernels:
            x = (point - kernel) / 0.4
            expected[i] += np.prod(np.where(abs(x) < 1, 0.75 * (1 - x**2) / 0.4, 0)) / 50
    assert (expected > 0).sum() > 20
    np.testing.assert_allclose(pmi.density(kernels, points, 0.4), expected, rtol=1e-4, atol=1e-6)


def test_density_integrates_to_one():
    kernels = np.random.default_rng(0).uniform(0.3, 0.7, (20, 2)).astype(np.float32)
    axis = (np.arange(200) + 0.5) / 200
    points = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2).astype(np.float32)
    assert pmi.density(kernels, points, 0.2).mean() == pytest.approx(1, abs=1e-3)


def test_information_is_that_of_the_formula_and_symmetric():
    draw = np.random.default_rng(0)
    sampled, pairs = draw.random((2, 200, 2), np.float32), draw.random((2, 30, 2), np.float32)
    settings = PmiSettings(bandwidth=0.3, regulariser=0.1)
    both = np.concatenate([np.hstack(list(sampled)), np.hstack(list(sampled[::-1]))])
    joint = pmi.density(both, np.hstack(list(pairs)), 0.3)
    marginal = np.concatenate(list(sampled))
    product = pmi.density(marginal, pairs[0], 0.3) * pmi.density(marginal, pairs[1], 0.3)
    found = pmi.pointwise_information(pairs, sampled, settings)
    np.testing.assert_allclose(found, np.log((joint + 0.1) ** 1.25 / (product + 0.1)), rtol=1e-4)
    turned = pmi.pointwise_information(pairs[::-1], sampled, settings)
    np.testing.assert_allclose(found, turned, rtol=1e-4, atol=1e-5)


def test_local_pairs_are_all_pairs_within_the_radius():
    places = pmi.local_pairs(6, 7, 3)
    y, x = np.divmod(np.arange(42), 7)
    near = np.hypot(y[:, None] - y, x[:, None] - x) <= 3
    expected = {(i, j) for i, j in np.argwhere(near) if i < j}
    found = [tuple(sorted(pair)) for pair in places.T.tolist()]
    assert len(found) == len(set(found))
    assert set(found) == expected


def test_sampled_pairs_lie_around_centres():
    first, second = pmi.sample_pairs(40, 50, 5000, np.random.default_rng(0))
    offset = np.stack(np.divmod(first, 50)) - np.stack(np.divmod(second, 50))
    distance = np.hypot(*offset)
    # The distance from the centre is 1 and the length of a vector of two normals of deviation 0.5.
    assert distance.mean() == pytest.approx(2 * (1 + 0.5 * np.sqrt(np.pi / 2)), rel=0.05)
    assert abs(offset.mean(axis=1)).max() < 0.2
    assert distance.max() <= 2 * np.hypot(2, 2) + 2


def test_features_are_decorrelated_and_span_the_unit_range():
    image = np.random.default_rng(0).integers(0, 256, (40, 31, 3)).astype(np.uint8)
    for name in ("colour", "variance"):
        maps = feature_maps(image, name, 1)
        assert maps.shape == (20, 16, 3)
        assert (maps.min(), maps.max()) == (0, 1)
        covariance = np.cov(maps.reshape(-1, 3).T)
        assert abs(covariance - np.diag(np.diag(covariance))).max() < 1e-6
        assert (np.diff(np.diag(covariance)) < 0).all()


def test_local_variance_is_that_of_the_disk():
    image = np.random.default_rng(0).integers(0, 256, (12, 12, 3)).astype(np.uint8)
    colours = principal(image / 255)
    y, x = np.mgrid[:12, :12]
    disk = np.hypot(y - 5, x - 6) <= 2
    expected = np.sqrt(colours[disk].std(axis=0, ddof=1))
    np.testing.assert_allclose(local_variance(image, 2)[5, 6], expected, rtol=1e-6)


def test_affinity_is_symmetric_and_local():
    weights, shape = pmi.affinity(halves((200, 60, 60), (60, 60, 200), 16), FAST)
    full = weights.toarray()
    assert shape == (16, 16)
    np.testing.assert_array_equal(full, full.T)
    y, x = np.divmod(np.arange(256), 16)
    distance = np.hypot(y[:, None] - y, x[:, None] - x)
    np.testing.assert_array_equal(full > 0, (distance <= 5) & (distance > 0))


def test_learned_information_follows_the_density():
    image = halves((200, 60, 60), (60, 160, 60))
    maps = feature_maps(image, "colour", 0)
    places = pmi.local_pairs(32, 32, 5)
    found = pmi.learned_information(maps, places, FAST, np.random.default_rng(0))
    features = maps.reshape(-1, 3)
    sampled = features[pmi.sample_pairs(32, 32, FAST.kernels, np.random.default_rng(0))]
    expected = pmi.pointwise_information(features[places], sampled, FAST)
    assert np.corrcoef(found, expected)[0, 1] > 0.95


@pytest.mark.parametrize("transposed", [False, True])
def test_the_boundary_of_two_colours_is_found_and_runs_along_it(transposed):
    image = halves((200, 60, 60), (60, 60, 200))
    edges = pmi_edges(image.swapaxes(0, 1).copy() if transposed else image, FAST)
    strength, angle = edges.strength, edges.angle
    if transposed:
        strength, angle = strength.T, angle.T
    assert (strength.dtype, angle.dtype) == (np.float32, np.float32)
    assert strength.max() == 1
    assert set(strength[6:-6].argmax(axis=1)) <= {15, 16}
    assert (angle[6:-6, 15:17] == np.float32(0 if transposed else np.pi / 2)).all()
    assert strength[6:-6, 6:10].mean() < 0.3 * strength[6:-6, 15:17].mean()


def test_textures_of_equal_mean_colour_part():
    draw = np.random.default_rng(0)
    image = np.full((32, 32, 3), 128.0)
    image[:, 16:] += draw.choice([-60.0, 60.0], (32, 16, 1))
    strength = columns(pmi_edges(noisy(image, spread=4), FAST))
    assert abs(int(strength[6:-6].argmax()) + 6 - 15.5) <= 2.5


def test_bars_of_a_zebra_are_no_boundary():
    image = zebra()
    strength = columns(pmi_edges(image, FAST))
    down, right = (np.abs(np.diff(image[..., 0].astype(float), axis=axis)) for axis in (0, 1))
    # Colour changes twice as much between the bars as where they end; PMI has it the other way.
    assert down[1::2, :16].mean() > 1.8 * right[:, 15].mean()
    assert strength[14:18].max() > 2 * strength[4:12].max()


def test_equal_settings_give_equal_edges_and_a_seed_changes_them():
    image = zebra()
    one, other = pmi_edges(image, FAST), pmi_edges(image, FAST)
    np.testing.assert_array_equal(one.strength, other.strength)
    np.testing.assert_array_equal(one.angle, other.angle)
    third = pmi_edges(image, dataclasses.replace(FAST, seed=1))
    assert (one.strength != third.strength).any()


def test_edges_have_the_size_of_the_image_or_of_its_half():
    image = zebra(33)[:, :40]
    halved = dataclasses.replace(FAST, halvings=1)
    assert pmi_edges(image, halved).strength.shape == (17, 17)
    edges = pmi_edges(image, dataclasses.replace(halved, full_size=True))
    assert edges.strength.shape == edges.angle.shape == (33, 33)


def test_strength_can_have_a_scale_of_its_own():
    image = zebra()
    own = pmi_edges(image, FAST)
    fixed = pmi_edges(image, dataclasses.replace(FAST, largest=1e6))
    np.testing.assert_allclose(fixed.strength / fixed.strength.max(), own.strength, rtol=1e-5)
    assert fixed.strength.max() < 1e-2
    assert pmi_edges(image, dataclasses.replace(FAST, largest=1e-3)).strength.max() == 1


def test_a_constant_image_has_no_edges():
    edges = pmi_edges(np.full((16, 16, 3), 90, np.uint8), FAST)
    np.testing.assert_array_equal(edges.strength, 0)
    assert np.isfinite(edges.angle).all()


def test_a_grey_image_has_edges():
    image = np.repeat(zebra()[..., :1], 3, axis=2)
    edges = pmi_edges(image, FAST)
    assert np.isfinite(edges.strength).all()
    assert edges.strength.max() == 1


@pytest.mark.parametrize(
    ("shape", "settings", "words"),
    [
        ((20, 20, 4), FAST, "u8"),
        ((20, 20), FAST, "u8"),
        ((20, 14, 3), dataclasses.replace(FAST, halvings=1), "20 x 14 pixels"),
        ((20, 20, 3), dataclasses.replace(FAST, features=("luminance",)), "'luminance'"),
        ((20, 20, 3), dataclasses.replace(FAST, features=()), "empty"),
    ],
)
def test_what_cannot_be_done_is_said(shape, settings, words):
    with pytest.raises(UserError, match=words):
        pmi_edges(np.zeros(shape, np.uint8), settings)


def test_the_smallest_image_works():
    edges = pmi_edges(zebra(15), dataclasses.replace(FAST, halvings=1, eigenvectors=100))
    assert edges.strength.shape == (8, 8)
    assert np.isfinite(edges.strength).all()


def test_contour_values_are_the_releases():
    np.testing.assert_allclose(
        pmi.contour_value(np.array([0.0566, 0.2580])), [0.05, 0.5], atol=1e-3
    )
    np.testing.assert_allclose(pmi.contour_value(np.array([0.0, 1.0])), [0, 1], atol=1e-3)
