"""IIC: whose turn it is, what the labels may do, and its shifts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.core import Batch, UserError
from jaxseg.losses.mutual_information import iic
from jaxseg.methods.iic import IIC
from jaxseg.views import colour

SMALL = {
    "clusters": 2, "overclusters": 4, "steps_per_pass": 3, "displacement": 1,
    "widths": (4, 4, 4, 4, 4, 4), "sobel": False,
}  # fmt: skip


def make_batch():
    rng = np.random.default_rng(0)
    return Batch(
        index=jnp.arange(3),
        seed=jnp.arange(3, dtype=jnp.uint32),
        image=jnp.asarray(rng.integers(0, 256, (3, 1, 24, 24, 3)), jnp.uint8),
        label={"class": jnp.asarray(rng.integers(-1, 2, (3, 24, 24)))},
    )


def test_passes_take_turns():
    method = IIC(**SMALL)
    turns = [int(method._pass(jnp.int32(step))) for step in range(12)]
    assert turns == [0, 0, 0, 1, 1, 1] * 2
    assert {k: bool(v) for k, v in method.active_groups(jnp.int32(4)).items()} == {
        "head_a": False, "head_b": True,
    }  # fmt: skip


@pytest.mark.parametrize("step", [0, 3])
@pytest.mark.parametrize("by_labels", [False, True])
def test_the_loss_is_that_of_the_head_whose_turn_it_is(step, by_labels):
    method = IIC(**SMALL, lam_a=1.0, lam_b=1.5, labels_choose_pixels=by_labels)
    assert method.reads_labels == by_labels
    batch, key = make_batch(), jax.random.key(5)
    state = method.init(jax.random.key(0), batch).replace(step=jnp.int32(step))
    loss, (_, metrics) = jax.jit(method.loss)(state, batch, key)
    assert float(metrics["head_b"]) == (step == 3)
    if step == 0 and not by_labels:
        return
    # By hand, with the masked pixels set to 0 beforehand.
    key_colour, key_flip, _ = jax.random.split(key, 3)
    unit = colour.to_unit(batch.first_view)
    flip = np.asarray(jax.random.bernoulli(key_flip, 0.5, (3,)))
    copy = colour.flip_where(jnp.asarray(flip), colour.jitter(key_colour, unit, *method.jitter))
    name, k, lam = ("head_b", 2, 1.5) if step else ("head_a", 4, 1.0)
    maps = []
    for image in (unit, copy):
        features, _ = method._features(state, image, state.extra, True)
        maps.append(np.array(method._probabilities(state, name, k, features, (24, 24))))
    maps[1][flip] = maps[1][flip][:, :, ::-1]
    if by_labels:
        maps = [x * (np.asarray(batch.label["class"]) >= 0)[..., None] for x in maps]
    expected = iic(jnp.asarray(maps[0]), jnp.asarray(maps[1]), None, 1, lam)
    assert float(loss) == pytest.approx(float(expected), rel=1e-4)


def test_sparse_displacements_move_the_map_and_fill_with_zeros():
    method = IIC(**SMALL, sparse=(1, 3))
    x = jnp.asarray(np.random.default_rng(0).uniform(1, 2, (2, 8, 8, 3)), jnp.float32)
    seen = set()
    for seed in range(30):
        found = np.asarray(method._shifted(jax.random.key(seed), x))
        # What moved in is 0, and tells the displacement.
        rows, columns = found[0, :, :, 0].any(1), found[0, :, :, 0].any(0)
        dy = np.argmax(rows) or np.sum(rows) - 8
        dx = np.argmax(columns) or np.sum(columns) - 8
        assert {abs(dy), abs(dx)} <= {1, 2, 3}
        expected = np.roll(np.asarray(x), (dy, dx), (1, 2))
        kept = rows[None, :, None, None] & columns[None, None, :, None]
        np.testing.assert_array_equal(found, np.where(kept, expected, 0))
        seen |= {dy, dx}
    assert seen == {-3, -2, -1, 1, 2, 3}
    assert IIC(**SMALL)._shifted(jax.random.key(0), x) is x


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"network": "fpn", "sobel": True}, "method.sobel"),
        ({"sparse": (3, 1)}, "method.sparse"),
        ({"widths": (4, 4)}, "six channels"),
        ({"steps_per_pass": 0}, "steps_per_pass is 0"),
    ],
)
def test_wrong_fields(change, message):
    with pytest.raises(UserError, match=message):
        IIC(**(SMALL | change))
