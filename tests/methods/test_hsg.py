"""HSG from the feature map on, against the reference, and what its fields change."""

import dataclasses
import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from jaxseg.clustering.nearest import normalise
from jaxseg.core import Batch, State, UserError
from jaxseg.methods.hsg import HSG
from jaxseg.models import published_hsg

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
# What the released code does, on the small network of the golden values.
RELEASED = HSG(
    dim=32, dropout=0.0, hidden=64, trained_cells=14,
    masked_norm=False, masked_std="code", collapse_count="padded",
)  # fmt: skip
PARTS = ("contrast_regions", "contrast_levels", "grouping")


@functools.cache
def example():
    """Returns the golden values, the state, features f32[B V h w D] and regions i32[B V h w]."""
    golden = dict(np.load(GOLDEN / "hsg_losses.npz"))
    weights = {name[2:]: golden[name] for name in golden if name.startswith("w/")}
    tree = traverse_util.unflatten_dict(published_hsg.grouping_arrays(weights)[0], sep="/")
    # The file has no running statistics; a step in training mode does not read them.
    fresh = RELEASED._hierarchy.draw(jax.random.key(0), RELEASED.dim)[1]
    assert set(tree) == {"params"}
    views = golden["features"].reshape(3, 2, *golden["features"].shape[1:])
    regions = jnp.asarray(golden["regions"].reshape(3, 2, 14, 14), jnp.int32)
    state = State(jnp.zeros((), jnp.int32), {"grouping": tree["params"]}, {"grouping": fresh}, {})
    return golden, state, jnp.asarray(views), regions


@functools.cache
def values_and_gradients():
    """Returns the loss, its metrics, and its three parts with their gradients."""
    _, state, views, regions = example()

    def parts(views):
        total, _, metrics = RELEASED.loss_of(state, normalise(views), regions, jax.random.key(0))
        levels = RELEASED.level_weight * (metrics["L_f_1"] + metrics["L_f_2"])
        goodness = sum(metrics[f"L_{term}_{i}"] for term in ("mod", "col", "sep") for i in (1, 2))
        return jnp.stack([metrics["L_f_E"], levels, goodness]), (total, metrics)

    def all_of(views):
        values, pull, (total, metrics) = jax.vjp(parts, views, has_aux=True)
        return total, metrics, values, jax.vmap(pull)(jnp.eye(3))[0]

    return jax.jit(all_of)(views)


def test_loss_and_gradients_match_the_reference():
    golden, _, views, _ = example()
    total, metrics, values, grads = values_and_gradients()
    expected = np.array([golden[f"loss_{name}"] for name in PARTS])
    np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(total, expected.sum(), rtol=1e-4)
    for name, grad in (*zip(PARTS, grads, strict=True), ("total", grads.sum(0))):
        reference = golden[f"grad_{name}"].reshape(views.shape)
        assert np.abs(np.asarray(grad) - reference).max() <= 1e-3 * np.abs(reference).max()
    assert float(metrics["segments"]) * 3 == pytest.approx(int(golden["num_segments"]))
    assert float(metrics["merged"]) == 0


@pytest.mark.parametrize("grouper", ["kmeans", "ncut", "finch"])
def test_other_groupers_have_contrast_alone(grouper):
    _, state, views, regions = example()
    method = dataclasses.replace(RELEASED, grouper=grouper)
    total, rest, metrics = method.loss_of(state, normalise(views), regions, jax.random.key(0))
    assert rest == {}
    assert {name for name in metrics if name.startswith("L_")} == {"L_f_E", "L_f_1", "L_f_2"}
    levels = metrics["L_f_1"] + metrics["L_f_2"]
    np.testing.assert_allclose(total, metrics["L_f_E"] + 0.1 * levels, rtol=1e-6)
    # Coarser groups have more positives, so that telling them from the rest is easier.
    assert metrics["L_f_2"] < metrics["L_f_1"] < metrics["L_f_E"]


def test_sizes_have_to_fall():
    with pytest.raises(UserError, match=r"method.sizes is \(4, 8\)"):
        HSG(sizes=(4, 8))


def test_positions_have_to_fit_the_crop():
    method = HSG(backbone="resnet_tiny")
    spec = Batch(
        index=jax.ShapeDtypeStruct((2,), jnp.int32),
        seed=jax.ShapeDtypeStruct((2,), jnp.uint32),
        image=jax.ShapeDtypeStruct((2, 2, 330, 330, 3), jnp.uint8),
    )
    with pytest.raises(UserError, match=r"method.trained_cells is 28, .* set it to 21\."):
        method.init(jax.random.key(0), spec)


def test_features_are_brought_to_finer_cells():
    fields = {"backbone": "resnet_tiny", "dim": 8, "trained_cells": 8, "positions": 8}
    method = HSG(**fields, cell=8)  # at strides of 16 and 8
    image = jax.ShapeDtypeStruct((2, 2, 64, 64, 3), jnp.uint8)
    seed = jax.ShapeDtypeStruct((2,), jnp.uint32)
    regions = jax.ShapeDtypeStruct((2, 2, 64, 64), jnp.int32)
    batch = Batch(index=seed, seed=seed, image=image, regions=regions)
    state = jax.eval_shape(method.init, jax.random.key(0), batch)
    loss, _ = jax.eval_shape(method.loss, state, batch, jax.random.key(1))
    assert loss.shape == ()
    found = jax.eval_shape(method.predict, state, jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.uint8))
    assert found.features.shape == (1, 8, 8, 8)
    with pytest.raises(UserError, match=r"method.cell is 5; it is 0 or divides both strides"):
        HSG(cell=5).init(jax.random.key(0), batch)


def test_a_batch_without_regions_is_refused():
    _, state, views, _ = example()
    with pytest.raises(ValueError, match=r"no coherent regions; set data.regions"):
        RELEASED.loss_of(state, views, None, jax.random.key(0))
