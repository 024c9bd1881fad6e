"""How a run lies on its devices: the mesh, and what of the state is split over it.

The mesh has the axes "data" and "shard". The rows of a batch are spread over all devices. The
devices along "shard" hold one copy of the state together: of its large arrays each has a part, and
XLA gathers an array from the parts where a step needs it whole, and adds up gradients into them.
With one device along it, every device holds everything. Numbers are the same but for the order of
sums.

Source: Rajbhandari et al. 2020 (ZeRO, stage 3), Xu et al. 2020 (sharding the weight update).
"""

import collections
import math
import re
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxseg.core import State, UserError
from jaxseg.processes import ordered, put

SHARD = "shard"


class Rule(NamedTuple):
    """Splits arrays whose path in the state matches `pattern`, as in "params/backbone/conv/kernel".

    They have at least `least` elements, and are split along their longest axis that the devices
    divide; the last one of several.
    """

    pattern: str
    least: int


# The first rule whose pattern matches the beginning of a path decides; what none matches is whole
# on every device. Gathering an array of 64 K elements costs as much as the delay of asking for it.
RULES = (
    Rule("params/", 2**16),
    Rule("opt_state/", 2**16),
    Rule("frozen/", 2**16),
    Rule("extra/snapshot/", 2**16),  # PiCIE's and DeepCluster's copy of the parameters
)


def make_mesh(devices: Sequence[jax.Device] | None = None, shards: int = 1) -> Mesh:
    """Returns the mesh over the given devices (default: all), `shards` of them along "shard".

    Those of a process lie side by side: its rows of a batch are then one block, and groups along
    "shard" stay within it as far as they can.

    Raises:
        UserError: they do not divide into groups of `shards`, or the processes have different
            numbers of them.
    """
    found = np.asarray(ordered(jax.devices() if devices is None else devices))
    numbers = collections.Counter(device.process_index for device in found)
    if len(set(numbers.values())) > 1:
        each = ", ".join(f"{number} of process {own}" for own, number in numbers.items())
        raise UserError(
            f"The devices are {each}, but each process reads an equal share of a batch; start all "
            "of them with as many devices."
        )
    if found.size % shards:
        raise UserError(
            f"train.shards is {shards}, which does not divide the {found.size} devices; set it to "
            "1 or to a divisor of their number."
        )
    return Mesh(found.reshape(-1, shards), ("data", SHARD))


def over_all(mesh: Mesh) -> NamedSharding:
    """Returns the layout of a batch: its rows spread over all devices."""
    return NamedSharding(mesh, PartitionSpec(mesh.axis_names))


def whole(mesh: Mesh) -> NamedSharding:
    """Returns the layout of what every device holds."""
    return NamedSharding(mesh, PartitionSpec())


def layout(state: State, mesh: Mesh) -> State:
    """Returns the layout of every array of a state, whose leaves may be abstract, by RULES."""

    def of(path: tuple, leaf: jax.Array | jax.ShapeDtypeStruct) -> NamedSharding:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        return NamedSharding(mesh, _split(name, leaf.shape, mesh.shape[SHARD]))

    return jax.tree_util.tree_map_with_path(of, state)


def place(state: State, mesh: Mesh) -> State:
    """Returns the state with its arrays where `layout` wants them."""
    return jax.tree.map(put, state, layout(state, mesh))


def _split(name: str, shape: tuple[int, ...], shards: int) -> PartitionSpec:
    rule = next((rule for rule in RULES if re.match(rule.pattern, name)), None)
    sides = [(side, axis) for axis, side in enumerate(shape) if side % shards == 0]
    if shards == 1 or rule is None or not sides or math.prod(shape) < rule.least:
        return PartitionSpec()
    return PartitionSpec(*[None] * max(sides)[1], SHARD)
