"""Several processes that train together, such as one for each machine: JAX's multi-controller mode.

Every process runs the same program, and each array operation on arrays of the whole mesh has to be
asked for by all of them, in the same order. So all of them take every decision alike; the first
one alone writes what is not an array of the mesh. In a single process nothing here does anything.
Source: JAX's guide to multi-process programs.
"""

import contextlib
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding

VARIABLES = ("JAXSEG_COORDINATOR", "JAXSEG_PROCESSES", "JAXSEG_PROCESS")

# After so long without a sign of life JAX takes a process for lost, and aborts the others.
_LOST_SECONDS = 45
# JAX aborts the others as soon as the first process is gone. What is wrong with a config, all find
# a moment apart: each has this time to say so and to end by itself.
_LAST_SECONDS = 3


def join(detect: bool = False) -> None:
    """Joins the processes that the environment tells of; call it before anything uses a device.

    JAXSEG_COORDINATOR=HOST:PORT (of the first process), JAXSEG_PROCESSES=N and JAXSEG_PROCESS=I (I
    in 0..N-1) say who belongs together. Without them there is one process alone, unless `detect`
    asks JAX to find out from Slurm, Open MPI or a Cloud TPU. Where the others do not come within
    five minutes, JAX aborts the process (SIGABRT).

    Raises:
        ValueError: some of the variables are missing, or are no numbers in their range.
        RuntimeError: nothing was detected.
    """
    coordinator, *numbers = (os.environ.get(name, "") for name in VARIABLES)
    # It would take SIGTERM for itself, and nothing here asks it: until training minds the signal, a
    # process would not end by it.
    jax.config.update("jax_enable_preemption_service", False)
    if not coordinator and not any(numbers):
        if detect:
            jax.distributed.initialize(heartbeat_timeout_seconds=_LOST_SECONDS)
        return
    given = ", ".join(f"{n}={os.environ.get(n, '')!r}" for n in VARIABLES)
    if not coordinator or not all(number.isdecimal() for number in numbers):
        raise ValueError(f"{given}: set all three, to HOST:PORT and two numbers.")
    count, own = map(int, numbers)
    if own >= count:
        raise ValueError(f"{given}: processes are numbered from 0 to {count - 1}.")
    jax.distributed.initialize(coordinator, count, own, heartbeat_timeout_seconds=_LOST_SECONDS)


def joined() -> bool:
    """Says whether this process has joined others; it starts no device."""
    return jax.distributed.is_initialized()


def is_first() -> bool:
    """Says whether this is the process that writes files and messages."""
    return jax.process_index() == 0


def end(status: int) -> NoReturn:
    """Ends the process with an exit status; one of several at once, whatever the others do.

    Python's usual end would wait for the others for five minutes, and then abort without the
    status. They end as well: where an operation of all fails under them, or else by JAX, which
    aborts them (SIGABRT) as soon as the first process is gone, or 45 seconds after another is.
    """
    if not joined():
        sys.exit(status)
    for reader in multiprocessing.active_children():
        reader.terminate()
    with contextlib.suppress(OSError):
        sys.stderr.flush()
        sys.stdout.flush()
    time.sleep(_LAST_SECONDS)
    os._exit(status)


def wait_for_all(what: str) -> None:
    """Returns when all processes have come here, with the same `what`."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(what)


def ordered(devices: Iterable[jax.Device]) -> list[jax.Device]:
    """Returns the devices with those of each process side by side, in the order of processes."""
    return sorted(devices, key=lambda device: (device.process_index, device.id))


def put(x: Any, sharding: Sharding) -> jax.Array:
    """Returns an array that every process holds whole, or that lies on the mesh, in a layout."""
    if sharding.is_fully_addressable or (isinstance(x, jax.Array) and not x.is_fully_addressable):
        return jax.device_put(x, sharding)
    # `device_put` would gather the array of every process on each, to see that they are the same.
    host = np.asarray(x)
    return jax.make_array_from_callback(host.shape, sharding, host.__getitem__)


def fetch(tree: Any) -> Any:
    """Returns the tree with NumPy arrays, whole on every process, wherever their parts lie."""

    def whole(x: Any) -> np.ndarray:
        spread = isinstance(x, jax.Array) and not (x.is_fully_addressable or x.is_fully_replicated)
        return np.asarray(multihost_utils.process_allgather(x, tiled=True) if spread else x)

    return jax.tree.map(whole, tree)


def any_of(answer: bool) -> bool:
    """Says whether the answer of any process is true; waits for all."""
    if jax.process_count() == 1:
        return answer
    return bool(np.any(multihost_utils.process_allgather(np.asarray(answer))))


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
