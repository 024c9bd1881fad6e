"""The mesh and the layout of a state on it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from jaxseg.core import State, UserError
from jaxseg.processes import ordered, put
from jaxseg.sharding import layout, make_mesh, over_all, place


@dataclasses.dataclass(frozen=True)
class Device:
    process_index: int
    id: int


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


def test_devices_of_a_process_lie_side_by_side():
    devices = jax.devices()[:4]
    assert make_mesh(devices[::-1], 2).devices.tolist() == [devices[:2], devices[2:]]
    scattered = [Device(1, 0), Device(0, 3), Device(1, 2), Device(0, 1)]
    assert ordered(scattered) == [Device(0, 1), Device(0, 3), Device(1, 0), Device(1, 2)]


class Elsewhere:
    """A layout of which a part lies on the devices of other processes."""

    is_fully_addressable = False


def test_arrays_of_the_host_are_laid_out_without_asking_other_processes(monkeypatch):
    def lay_out(shape, sharding, part):
        return shape, part((slice(0, 1),) * len(shape))

    monkeypatch.setattr(jax, "make_array_from_callback", lay_out)
    for given in (np.arange(3.0), jnp.arange(3.0)):
        shape, part = put(given, Elsewhere())
        assert shape == (3,)
        assert part.tolist() == [0.0]


def test_a_batch_is_spread_over_all_devices():
    rows = jax.device_put(jnp.arange(16), over_all(make_mesh(shards=4)))
    assert [shard.data.shape for shard in rows.addressable_shards] == [(2,)] * 8


def test_processes_with_different_numbers_of_devices():
    devices = [Device(0, 0), Device(1, 2), Device(1, 1)]
    with pytest.raises(UserError, match="1 of process 0, 2 of process 1, but each"):
        make_mesh(devices)


def test_shards_that_do_not_divide_the_devices():
    with pytest.raises(UserError, match=r"train.shards is 3.* 8 devices.*divisor"):
        make_mesh(shards=3)
