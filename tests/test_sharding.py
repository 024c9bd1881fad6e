"""The mesh and the layout of a state on it."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec

from jaxseg.core import State, UserError
from jaxseg.sharding import layout, make_mesh, over_all, place


def a_state(**params) -> State:
    moments = {"net": {"mu": params}}
    return State(step=jnp.int32(3), params={"net": params}, extra={"mean": params}, frozen={},
                 opt_state=moments)  # fmt: skip


def specs(state: State, shards: int) -> State:
    return jax.tree.map(lambda x: x.spec, layout(state, make_mesh(shards=shards)))


def test_without_shards_all_is_whole():
    state = a_state(kernel=jnp.zeros((512, 512)))
    assert set(jax.tree.leaves(specs(state, 1))) == {PartitionSpec()}


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((256, 256), PartitionSpec(None, "shard")),  # of equal sides the last
        ((3, 3, 512, 64), PartitionSpec(None, None, "shard")),
        ((512, 130), PartitionSpec("shard")),
        ((255, 257), PartitionSpec()),  # four devices do not divide it
        ((255, 255), PartitionSpec()),  # too small
        ((), PartitionSpec()),
    ],
)
def test_large_arrays_are_split_along_their_longest_side(shape, expected):
    found = specs(a_state(kernel=jax.ShapeDtypeStruct(shape, jnp.float32)), 4)
    assert found.params["net"]["kernel"] == expected
    assert found.opt_state["net"]["mu"]["kernel"] == expected
    assert found.extra["mean"]["kernel"] == PartitionSpec()
    assert found.step == PartitionSpec()


def test_each_device_holds_its_part():
    kernel = jax.random.normal(jax.random.key(0), (512, 256))
    placed = place(a_state(kernel=kernel), make_mesh(shards=4)).params["net"]["kernel"]
    assert {shard.data.shape for shard in placed.addressable_shards} == {(128, 256)}
    assert len(placed.addressable_shards) == 8
    assert jnp.array_equal(placed, kernel)


def test_a_batch_is_spread_over_all_devices():
    rows = jax.device_put(jnp.arange(16), over_all(make_mesh(shards=4)))
    assert [shard.data.shape for shard in rows.addressable_shards] == [(2,)] * 8


def test_shards_that_do_not_divide_the_devices():
    with pytest.raises(UserError, match=r"train.shards is 3.* 8 devices.*divisor"):
        make_mesh(shards=3)
