"""What every method keeps to, with small networks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxseg.core import Batch, State
from jaxseg.methods import METHODS
from jaxseg.train import compile_step, init_optimiser, make_mesh, make_step, place

SMALL = {"clusters": 3, "features": 16, "patch_widths": (4, 8, 8, 8, 8), "global_widths": (8, 8, 8)}

# Each method in the forms that run different code. A method without parameters has no step to test.
FORMS = {
    "infoseg": ("infoseg", SMALL),
    "infoseg-dv-hard": ("infoseg", SMALL | {"bound": "dv", "assignment": "hard", "negatives": 3}),
    "infoseg-sg": ("infoseg", SMALL | {"sg_V": True, "layer_norm": True}),
    "infoseg-iic": ("infoseg", SMALL | {"objective": "iic"}),
    "infoseg-bf16": ("infoseg", SMALL | {"dtype": "bfloat16"}),
}


def make_batch(count: int = 8, size: int = 32) -> Batch:
    rng = np.random.default_rng(0)
    return Batch(
        index=jnp.arange(count),
        seed=jnp.arange(count, dtype=jnp.uint32),
        image=jnp.asarray(rng.integers(0, 256, (count, 1, size, size, 3), np.uint8)),
        size=jnp.full((count, 1, 2), size),
        box=jnp.tile(jnp.asarray([0.0, 0, 1, 1, 0]), (count, 1, 1)),
    )


@functools.cache
def made(form: str):
    """The method, its first state, its compiled step on one device, and the states of two steps."""
    name, fields = FORMS[form]
    method = METHODS[name](**fields)
    batch = make_batch()
    state = method.init(jax.random.key(0), batch)
    transforms = dict.fromkeys(state.params, optax.adam(3e-3))
    step = make_step(method, transforms, jax.random.key(1))
    return method, state, transforms, step


@functools.cache
def compiled(form: str, devices: int):
    mesh = make_mesh(jax.devices()[:devices])
    return compile_step(made(form)[3], mesh), mesh


def start(form: str, devices: int = 1) -> tuple[State, Batch]:
    _, state, transforms, _ = made(form)
    mesh = compiled(form, devices)[1]
    # The step donates its state, and a cached state is wanted again.
    state = jax.tree.map(jnp.copy, init_optimiser(state, transforms))
    batch = jax.device_put(
        make_batch(), jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    )
    return place(state, mesh), batch


def run(form: str, steps: int, state: State | None = None) -> tuple[State, list[dict]]:
    first, batch = start(form)
    state = first if state is None else state
    metrics = []
    for _ in range(steps):
        state, found = compiled(form, 1)[0](state, batch)
        metrics.append(jax.device_get(found))
    return state, metrics


def differences(a, b) -> float:
    return max(
        float(np.abs(np.asarray(x, np.float64) - np.asarray(y, np.float64)).max())
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


def test_every_method_with_parameters_is_here():
    shapes = make_batch()
    for name, method in METHODS.items():
        if name not in {FORMS[form][0] for form in FORMS}:
            assert not method().init(jax.random.key(0), shapes).params, name


@pytest.mark.parametrize("form", FORMS)
def test_steps_are_finite_and_lower_the_loss(form):
    state, metrics = run(form, 25)
    assert all(not m["nonfinite"] and np.isfinite(m["loss"]) for m in metrics)
    assert np.mean([m["loss"] for m in metrics[-5:]]) < np.mean([m["loss"] for m in metrics[:3]])
    assert int(state.step) == 25


@pytest.mark.parametrize("form", FORMS)
def test_every_array_of_every_group_gets_a_gradient(form):
    # Adam's running mean of the gradient after one step is the gradient times a constant.
    opt_state = run(form, 1)[0].opt_state
    without = [
        group + jax.tree_util.keystr(path)
        for group, (adam, *_) in opt_state.items()
        for path, leaf in jax.tree_util.tree_leaves_with_path(adam.mu)
        if not np.abs(np.asarray(leaf, np.float32)).max() > 0
    ]
    assert without == []


@pytest.mark.parametrize("form", FORMS)
def test_structure_of_extra_and_frozen_is_kept(form):
    before = start(form)[0]
    shapes = jax.tree.map(lambda x: (x.shape, x.dtype), before)
    frozen = jax.tree.map(np.asarray, before.frozen)
    after = run(form, 1)[0]
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == shapes
    assert jax.tree.map(lambda a, b: np.array_equal(a, b), frozen, after.frozen) == jax.tree.map(
        lambda _: True, frozen
    )


@pytest.mark.slow
@pytest.mark.parametrize("form", ["infoseg", "infoseg-dv-hard", "infoseg-iic"])
def test_eight_devices_equal_one(form):
    one, first = run(form, 1)
    state, batch = start(form, 8)
    eight, metrics = compiled(form, 8)[0](state, batch)
    assert abs(float(metrics["loss"]) - first[0]["loss"]) < 1e-5
    # Adam divides by the size of a gradient, and so would amplify rounding: compare the gradient's
    # running mean, which is linear in it, relative to its size.
    for a, b in zip(
        jax.tree.leaves(one.opt_state["net"][0].mu),
        jax.tree.leaves(eight.opt_state["net"][0].mu),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, atol=1e-3 * float(jnp.abs(a).max()) + 1e-9)
    assert differences(one.extra, eight.extra) < 1e-5


def test_resuming_is_exact_and_needs_no_second_compile():
    whole, _ = run("infoseg", 4)
    half, _ = run("infoseg", 2)
    restored = jax.tree.map(lambda x: jnp.asarray(np.asarray(x)), half)
    resumed, _ = run("infoseg", 2, place(restored, compiled("infoseg", 1)[1]))
    assert differences(whole, resumed) == 0
    assert compiled("infoseg", 1)[0]._cache_size() == 1


@pytest.mark.parametrize("form", FORMS)
def test_prediction_shapes(form):
    method, state, _, _ = made(form)
    output = jax.eval_shape(method.predict, state, make_batch().image[:, 0])
    batch, height, width, features = output.features.shape
    assert (batch, features) == (8, 16)
    assert output.logits.shape == (batch, height, width, 3)


def test_network_sizes_of_the_paper():
    method = METHODS["infoseg"](clusters=15)
    spec = jax.ShapeDtypeStruct((2, 1, 128, 128, 3), jnp.uint8)
    batch = make_batch().replace(image=spec)
    state = jax.eval_shape(method.init, jax.random.key(0), batch)
    for side, cells in ((128, 32), (200, 50)):
        image = jax.ShapeDtypeStruct((2, side, side, 3), jnp.uint8)
        output = jax.eval_shape(method.predict, state, image)
        assert output.features.shape == (2, cells, cells, 1024)
        assert output.logits.shape == (2, cells, cells, 15)
