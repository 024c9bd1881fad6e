"""ResNets against torchvision's, and the strides and dilations of the methods."""

import pathlib
import zlib

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from jaxseg.models import published
from jaxseg.models.resnet import ResNet, stage_plan

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
MODELS = {
    "resnet18": ResNet((2, 2, 2, 2), bottleneck=False),
    "bottleneck32": ResNet((1, 1, 1, 2)),
    "bottleneck8": ResNet((1, 1, 2, 2), stride=8),
}


def draw(name, shape):
    """Returns the array that has this name in torchvision, as the stored maps were made with."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if len(shape) == 4:
        array = rng.normal(size=shape) * np.sqrt(2 / np.prod(shape[1:]))
    elif name.endswith("running_var"):
        array = rng.uniform(0.5, 1.5, shape)
    elif name.endswith("weight"):
        array = rng.uniform(0.5, 1.0, shape)
    else:
        array = rng.normal(size=shape) * 0.1
    return array.astype(np.float32)


def torchvision_shapes(blocks, bottleneck):
    """Returns the shapes of torchvision's parameters and statistics by name, without the head."""
    shapes = {"conv1.weight": (64, 3, 7, 7)} | _norm("bn1", 64)
    inside, before = [64, 128, 256, 512], 64
    for stage, count in enumerate(blocks):
        width = inside[stage]
        out = 4 * width if bottleneck else width
        for block in range(count):
            name = f"layer{stage + 1}.{block}"
            sizes = [(width, 1), (width, 3), (out, 1)] if bottleneck else [(width, 3), (width, 3)]
            entering = before
            for i, (channels, kernel) in enumerate(sizes, 1):
                shapes[f"{name}.conv{i}.weight"] = (channels, entering, kernel, kernel)
                shapes |= _norm(f"{name}.bn{i}", channels)
                entering = channels
            if block == 0 and (stage or bottleneck):
                shapes[f"{name}.downsample.0.weight"] = (out, before, 1, 1)
                shapes |= _norm(f"{name}.downsample.1", out)
            before = out
    return shapes


def _norm(name, channels):
    kinds = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{kind}": (channels,) for kind in kinds}


@pytest.mark.parametrize("name", MODELS)
def test_stages_are_those_of_torchvision(name):
    model = MODELS[name]
    shapes = torchvision_shapes(model.blocks, model.bottleneck)
    flat, ignored = published.resnet_arrays({n: draw(n, shape) for n, shape in shapes.items()})
    assert not ignored
    tree = traverse_util.unflatten_dict(flat, sep="/")
    with np.load(GOLDEN / "resnet.npz") as file:
        stored = {key: file[key] for key in file.files if key.startswith(name)}
    variables = {"params": tree["params"], "batch_stats": tree["stats"]}
    maps = jax.jit(lambda v, x: model.apply(v, x, train=False))(variables, stored[f"{name}_images"])
    for i, found in enumerate(maps, 2):
        np.testing.assert_allclose(
            found[..., ::16], stored[f"{name}_res{i}"], rtol=1e-3, atol=1e-4, err_msg=f"res{i}"
        )


def test_strides_and_dilations_of_hsg():
    """METHODS 3.2: stride 16 in training and 8 in testing, multi-grid 1, 2, 4."""
    blocks, grid = (3, 4, 6, 3), (1, 2, 4)
    train, test = (stage_plan(blocks, stride, grid) for stride in (16, 8))
    assert [stage[0][0] for stage in train] == [1, 2, 2, 1]
    assert [stage[0][0] for stage in test] == [1, 2, 1, 1]
    dilations = [[dilation for _, dilation in stage] for stage in train]
    assert dilations == [[1] * 3, [1] * 4, [1] * 6, [1, 4, 8]]
    dilations = [[dilation for _, dilation in stage] for stage in test]
    assert dilations == [[1] * 3, [1] * 4, [1, 2, 2, 2, 2, 2], [2, 8, 16]]
    assert all(stride == 1 for stage in (*train, *test) for stride, _ in stage[1:])


def test_without_multi_grid_or_dilation():
    assert stage_plan((2, 2, 2, 2), 32, (1, 2))[3] == [(2, 1), (1, 1)]
    assert stage_plan((2, 2, 2, 2), 8)[2:] == [[(1, 1), (1, 2)], [(1, 2), (1, 4)]]


@pytest.mark.parametrize(("stride", "grid"), [(4, ()), (64, ()), (16, (1, 2, 4))])
def test_what_there_is_not(stride, grid):
    with pytest.raises(ValueError, match=r"32, 16 or 8|for 2 blocks"):
        stage_plan((2, 2, 2, 2), stride, grid)


@pytest.mark.parametrize(("stride", "cells"), [(32, (3, 2)), (16, (5, 3)), (8, (9, 6))])
def test_one_set_of_weights_serves_all_strides(stride, cells):
    """Sizes that do not divide are rounded up, as by torch's padding."""
    make = {"blocks": (1, 1, 1, 1), "stem": 4, "bottleneck": False}
    image = jnp.zeros((2, 68, 45, 4))
    first = jax.eval_shape(lambda x: ResNet(**make).init(jax.random.key(0), x, train=False), image)
    maps = jax.eval_shape(
        lambda v, x: ResNet(**make, stride=stride).apply(v, x, train=False), first, image
    )
    assert maps[-1].shape == (2, *cells, 32)
    assert maps[0].shape == (2, 17, 12, 4)


def test_training_takes_the_statistics_of_the_batch():
    model, image = ResNet((1, 1, 1, 1), stem=2, bottleneck=False), jnp.zeros((2, 32, 32, 3))
    variables = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), image)
    _, changed = jax.eval_shape(
        lambda v, x: model.apply(v, x, train=True, mutable=["batch_stats"]), variables, image
    )
    assert jax.tree.structure(changed["batch_stats"]) == jax.tree.structure(
        variables["batch_stats"]
    )
    with pytest.raises(flax.errors.ModifyScopeVariableError, match="batch_stats"):
        jax.eval_shape(lambda v, x: model.apply(v, x, train=True), variables, image)
