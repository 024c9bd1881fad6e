"""The pyramid by hand, and where a backbone that learns keeps its parts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.core import State, UserError
from jaxseg.models import weights
from jaxseg.models.backbones import Backbone
from jaxseg.models.fpn import BackboneFPN, PanopticFPN
from jaxseg.pretrained import Weights


def up(x, size):
    shape = (x.shape[0], size, size, x.shape[-1])
    return np.asarray(jax.image.resize(jnp.asarray(x), shape, "bilinear", antialias=False))


@pytest.mark.parametrize("form", ["code", "paper"])
def test_the_pyramid_is_the_sum_of_upsampled_maps(form):
    rng = np.random.default_rng(0)
    sizes = (7, 4, 2, 1)
    maps = [rng.normal(size=(2, s, s, 3 + s)).astype(np.float32) for s in sizes]
    net = PanopticFPN(5, form)
    variables = net.init(jax.random.key(0), tuple(map(jnp.asarray, maps)))
    found = net.apply(variables, tuple(map(jnp.asarray, maps)))
    lateral = [
        x @ np.asarray(variables["params"][f"res{i}"]["kernel"])
        + np.asarray(variables["params"][f"res{i}"]["bias"])
        for i, x in enumerate(maps, start=2)
    ]
    if form == "paper":
        expected = sum(up(x, 7) for x in lateral)
    else:
        expected = lateral[3]
        for x in lateral[2::-1]:
            expected = x + up(expected, x.shape[1])
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_quarter_of_the_size_and_the_widths_of_the_paper():
    net = BackboneFPN("resnet18", 128)
    params, extra = jax.eval_shape(net.init, jax.random.key(0))
    kernels = {name: leaf["kernel"].shape for name, leaf in params["fpn"].items()}
    assert kernels == {
        "res2": (64, 128),
        "res3": (128, 128),
        "res4": (256, 128),
        "res5": (512, 128),
    }
    image = jax.ShapeDtypeStruct((2, 320, 320, 3), jnp.float32)
    found, _ = jax.eval_shape(lambda *a: net.features(*a, True), params, extra, image)
    assert found.shape == (2, 80, 80, 128)
    with pytest.raises(UserError, match="vit_small_8"):
        BackboneFPN("vit_small_8", 128)


def test_training_moves_the_statistics_and_testing_does_not():
    net = BackboneFPN("resnet_test", 8)
    params, extra = net.init(jax.random.key(0))
    image = jax.random.uniform(jax.random.key(1), (2, 32, 32, 4))
    found, after = net.directions(params, extra, image, False)
    np.testing.assert_allclose(np.linalg.norm(found, axis=-1), 1, rtol=1e-5)
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, after["backbone"], extra["backbone"])))
    _, after = net.directions(params, extra, image, True)
    same = jax.tree.map(np.array_equal, after["backbone"]["stats"], extra["backbone"]["stats"])
    assert not any(jax.tree.leaves(same))


def test_a_weights_file_fills_a_backbone_that_learns(tmp_path):
    tree = Backbone("resnet_test").init(jax.random.key(7))
    tree["mean"] = jnp.asarray([0.1, 0.2, 0.3])
    path = tmp_path / "weights.safetensors"
    weights.write_weights(path, tree, {"architecture": "resnet_test", "name": "test"})
    net = BackboneFPN("resnet_test", 8)
    params, extra = net.init(jax.random.key(0))
    state = State(step=jnp.zeros((), jnp.int32), params=params, extra=extra, frozen={})
    found = Weights.read("weights", str(path), jax.eval_shape(lambda: state)).put(state)
    for ours, theirs in (
        (found.params["backbone"], tree["params"]),
        (found.extra["backbone"]["stats"], tree["stats"]),
        (found.extra["backbone"]["mean"], tree["mean"]),
    ):
        assert all(jax.tree.leaves(jax.tree.map(np.array_equal, ours, theirs)))
    assert jax.tree.structure(found) == jax.tree.structure(state)
