import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.refine import pamr


def pamr_by_hand(probabilities, image, steps, dilations):
    height, width, _ = image.shape
    image = image.astype(np.float64)
    eight = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if y or x]
    weights = {}
    for y, x in np.ndindex(height, width):
        places, points = [], []
        for distance in dilations:
            points.append(image[y, x])
            for dy, dx in eight:
                place = (
                    np.clip(y + dy * distance, 0, height - 1),
                    np.clip(x + dx * distance, 0, width - 1),
                )
                places.append(place)
                points.append(image[place])
        spread = np.std(points, axis=0, ddof=1)
        logits = [
            np.mean(-np.abs(image[y, x] - image[place]) / (0.1 * spread + 1e-8)) for place in places
        ]
        weight = np.exp(logits - np.max(logits))
        weights[y, x] = places, weight / weight.sum()
    for _ in range(steps):
        new = np.zeros_like(probabilities, np.float64)
        for place, (places, weight) in weights.items():
            new[place] = sum(
                w * probabilities[other] for w, other in zip(weight, places, strict=True)
            )
        probabilities = new
    return probabilities


def example(seed=0, shape=(9, 7), classes=3):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (1, *shape, 3), np.uint8)
    image[:, 3:6, 2:5] = 100  # a constant region is a weight of one half by 0 / 1e-8
    return rng.dirichlet(np.ones(classes), (1, *shape)).astype(np.float32), image


@pytest.mark.parametrize(("steps", "dilations"), [(0, (1,)), (3, (1, 2, 4))])
def test_pamr_matches_brute_force(steps, dilations):
    probabilities, image = example()
    found = pamr(jnp.asarray(probabilities), jnp.asarray(image), steps=steps, dilations=dilations)
    expected = pamr_by_hand(probabilities[0], image[0], steps, dilations)
    np.testing.assert_allclose(found[0], expected, rtol=1e-4, atol=1e-6)


def test_padding_has_no_influence_and_a_batch_is_its_images():
    probabilities, image = example(0)
    others = example(1)
    alone = pamr(probabilities, image, dilations=(1, 3))
    padding = ((0, 0), (0, 4), (0, 2), (0, 0))
    padded = [
        np.concatenate([np.pad(a, padding, constant_values=filler), np.pad(b, padding)])
        for a, b, filler in zip((probabilities, image), others, (9, 77), strict=True)
    ]
    valid = np.zeros(padded[0].shape[:3], bool)
    valid[:, :9, :7] = True
    found = pamr(*padded, valid, dilations=(1, 3))
    np.testing.assert_allclose(found[0, :9, :7], alone[0], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(
        found[1, :9, :7], pamr(*others, dilations=(1, 3))[0], rtol=1e-5, atol=1e-7
    )


def test_arrays_that_do_not_fit_are_refused():
    probabilities, image = example()
    with pytest.raises(ValueError, match=r"must be \[B H W K\]"):
        pamr(probabilities[:, 1:], image)
    with pytest.raises(ValueError, match="valid must be"):
        pamr(probabilities, image, np.ones((1, 2, 2), bool))
    with pytest.raises(ValueError, match="at least 1"):
        pamr(probabilities, image, dilations=(0, 1))
