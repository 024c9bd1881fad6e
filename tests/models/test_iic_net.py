import jax
import jax.numpy as jnp
import pytest

from jaxseg.models.iic import Head, Res12Trunk, VGGTrunk


@pytest.mark.parametrize(
    ("trunk", "cells", "width"), [(VGGTrunk(), 60, 512), (Res12Trunk(), 16, 128)]
)
def test_sizes_of_the_released_code(trunk, cells, width):
    image = jax.ShapeDtypeStruct((2, 128, 128, 5), jnp.float32)
    (found, _), variables = jax.eval_shape(
        lambda x: (
            trunk.init_with_output(jax.random.key(0), x, False),
            trunk.init(jax.random.key(0), x, False),
        ),
        image,
    )
    assert found.shape == (2, cells, cells, width)
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables["params"]):
        names = jax.tree_util.keystr(path)
        assert "bias" not in names or "norm" in names, names
        assert leaf.dtype == jnp.float32


def test_a_padded_head_has_no_opinion_at_the_edge():
    head = Head(3, padding=1)
    x = jnp.ones((1, 60, 60, 4))
    variables = head.init(jax.random.key(0), x)
    found = head.apply(variables, x)
    assert found.shape == (1, 62, 62, 3)
    assert not found[:, 0].any()
    assert found[:, 1:-1, 1:-1].all()
