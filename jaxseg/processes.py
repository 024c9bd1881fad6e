"""Several processes that train together, such as one for each machine: JAX's multi-controller mode.

Every process runs the same program, and each array operation on arrays of the whole mesh has to be
asked for by all of them, in the same order. So all of them take every decision alike; the first
one alone writes what is not an array of the mesh. In a single process nothing here does anything.
Source: JAX's guide to multi-process programs.
"""

import os
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

VARIABLES = ("JAXSEG_COORDINATOR", "JAXSEG_PROCESSES", "JAXSEG_PROCESS")


def join(detect: bool = False) -> None:
    """Joins the processes that the environment tells of; call it before anything uses a device.

    JAXSEG_COORDINATOR=HOST:PORT (of the first process), JAXSEG_PROCESSES=N and JAXSEG_PROCESS=I (I
    in 0..N-1) say who belongs together. Without them there is one process alone, unless `detect`
    asks JAX to find out from Slurm, Open MPI or a Cloud TPU.

    Raises:
        ValueError: some of the variables are missing, or are no numbers in their range.
        RuntimeError: the others did not come within JAX's time, or nothing was detected.
    """
    coordinator, *numbers = (os.environ.get(name, "") for name in VARIABLES)
    if not coordinator and not any(numbers):
        if detect:
            jax.distributed.initialize()
        return
    given = ", ".join(f"{n}={os.environ.get(n, '')!r}" for n in VARIABLES)
    if not coordinator or not all(number.isdecimal() for number in numbers):
        raise ValueError(f"{given}: set all three, to HOST:PORT and two numbers.")
    count, own = map(int, numbers)
    if own >= count:
        raise ValueError(f"{given}: processes are numbered from 0 to {count - 1}.")
    jax.distributed.initialize(coordinator, count, own)


def is_first() -> bool:
    """Says whether this is the process that writes files and messages."""
    return jax.process_index() == 0


def wait_for_all(what: str) -> None:
    """Returns when all processes have come here, with the same `what`."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(what)


def fetch(tree: Any) -> Any:
    """Returns the tree with NumPy arrays, whole on every process, wherever their parts lie."""

    def whole(x: Any) -> np.ndarray:
        spread = isinstance(x, jax.Array) and not (x.is_fully_addressable or x.is_fully_replicated)
        return np.asarray(multihost_utils.process_allgather(x, tiled=True) if spread else x)

    return jax.tree.map(whole, tree)


def agreed(ask: Callable[[], bool], mesh: Mesh) -> Callable[[], bool]:
    """Returns a function for all processes to call in step: has any process's `ask` been true?

    With several processes it tells of the votes of the call before, which have arrived by now, so
    that no step waits for them; all get the same answer.
    """
    if jax.process_count() == 1:
        return ask
    sharding = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
    count = jax.jit(lambda votes: votes.sum(), out_shardings=NamedSharding(mesh, PartitionSpec()))
    before: list[jax.Array] = []

    def any_said_so() -> bool:
        own = np.full(len(mesh.local_devices), ask(), np.int32)
        before.append(count(jax.make_array_from_process_local_data(sharding, own)))
        return len(before) > 1 and int(before.pop(0)) > 0

    return any_said_so
