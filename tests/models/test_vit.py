"""Vision Transformers against other implementations, and their positions by hand."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from jaxseg.models import published, weights
from jaxseg.models.backbones import Backbone
from jaxseg.models.vit import VisionTransformer, _cubic, resample, rotary_angles, rotate

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
SMALL = {"patch": 4, "width": 24, "blocks": 2, "heads": 2, "trained": 6, "layer_scale": True}
MODELS = {
    "dino_vit": Backbone("vit_test").module,
    "dinov2": VisionTransformer(**SMALL, swiglu=True, hidden=64),
    "dinov2_registers": VisionTransformer(**SMALL, registers=3, positions="antialias"),
    "dinov3": VisionTransformer(
        **SMALL, registers=3, positions="rotary", swiglu=True, hidden=48, epsilon=1e-5
    ),
}


def load(name):
    """Returns (stored arrays, parameters) of a golden file."""
    with np.load(GOLDEN / f"{name}.npz") as file:
        stored = {key: file[key] for key in file.files}
    named = {key[2:]: stored[key] for key in stored if key.startswith("w/")}
    flat, _ = published.vit_arrays(named)
    return stored, traverse_util.unflatten_dict(flat, sep="/")["params"]


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("dino_vit", "native"),
        ("dino_vit", "wide"),
        ("dino_vit", "large"),
        ("dinov2", "24x24"),
        ("dinov2_registers", "12x40"),
        ("dinov3", "12x40"),
    ],
)
def test_tokens_keys_and_attention(name, size):
    stored, params = load(name)
    model, image = MODELS[name], stored[f"{size}_images"]
    attention = f"{size}_attention" in stored
    found = jax.jit(lambda p, x: model.apply({"params": p}, x, attention=attention))(params, image)
    grid = (image.shape[1] // model.patch, image.shape[2] // model.patch)
    assert found.patches.shape == (len(image), *grid, model.width)
    patches = found.patches.reshape(len(image), -1, model.width)
    tokens = jnp.concatenate([found.cls[:, None], found.registers, patches], axis=1)
    np.testing.assert_allclose(tokens, stored[f"{size}_tokens"], rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(found.keys, stored[f"{size}_keys"], rtol=1e-3, atol=1e-5)
    if attention:
        np.testing.assert_allclose(
            found.attention, stored[f"{size}_attention"], rtol=1e-3, atol=1e-7
        )
    else:
        assert found.attention is None


@pytest.mark.parametrize("name", MODELS)
def test_published_weights_are_all_that_a_model_has(name):
    _, params = load(name)
    image = jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32)
    expected = jax.eval_shape(MODELS[name].init, jax.random.key(0), image)["params"]
    assert not weights.differences(weights.shapes(expected), weights.shapes(params))


@pytest.mark.parametrize("size", [(8, 9), (7, 8), (0, 8)])
def test_other_sizes_say_which_fit(size):
    model = VisionTransformer(patch=4, width=8, blocks=1, heads=2)
    with pytest.raises(ValueError, match=rf"{size[0]} x {size[1]} pixels.*multiples of 4"):
        jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, *size, 3)))


def test_resampling_weights_are_those_of_the_cubic_kernel():
    matrix = _cubic(5, 3)
    np.testing.assert_allclose(matrix.sum(1), 1, rtol=1e-6)
    # By hand: cell 1 reads at 1.5 * 3 / 5.1 - 0.5 = 0.38235 between the cells 0 and 1.
    t, a = 1.5 * 3 / 5.1 - 0.5, -0.75
    taps = [
        a * ((1 + t) ** 3 - 5 * (1 + t) ** 2 + 8 * (1 + t) - 4),
        (a + 2) * t**3 - (a + 3) * t**2 + 1,
        (a + 2) * (1 - t) ** 3 - (a + 3) * (1 - t) ** 2 + 1,
        a * ((2 - t) ** 3 - 5 * (2 - t) ** 2 + 8 * (2 - t) - 4),
    ]
    np.testing.assert_allclose(matrix[1], [taps[0] + taps[1], taps[2], taps[3]], rtol=1e-5)


@pytest.mark.parametrize("how", ["dino", "antialias"])
def test_the_own_grid_is_left_as_it_is(how):
    table = jnp.asarray(np.random.default_rng(0).normal(size=(9, 2)), jnp.float32)
    assert resample(table, 3, (3, 3), how) is table
    assert resample(table, 3, (9, 1), how).shape == (9, 2)
    with pytest.raises(ValueError, match="one of dino, antialias"):
        resample(table, 3, (4, 4), "nearest")


def test_rotation_makes_scores_depend_on_the_distance_alone():
    rng = np.random.default_rng(0)
    query, key = (jnp.asarray(rng.normal(size=(1, 1, 1, 8)), jnp.float32) for _ in "qk")
    angles = rotary_angles((1, 4), 8)
    turned = [rotate(jnp.tile(x, (1, 5, 1, 1)), angles)[0, :, 0] for x in (query, key)]
    scores = turned[0] @ turned[1].T
    # The class token comes first and is not turned.
    np.testing.assert_array_equal(turned[0][0], query[0, 0, 0])
    for offset in range(-3, 4):
        diagonal = jnp.diagonal(scores[1:, 1:], offset)
        np.testing.assert_allclose(diagonal, jnp.full_like(diagonal, diagonal[0]), rtol=1e-4)
    assert jnp.abs(scores[1, 1] - scores[1, 2]) > 1e-3
    with pytest.raises(ValueError, match="multiple of 4"):
        rotary_angles((2, 2), 6)
