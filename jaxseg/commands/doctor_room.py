"""How much memory and disk a run wants, and how much there is: estimates, in bytes."""

import os
import pathlib
import shutil

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding

from jaxseg.core import Batch, PyTree, State, UserError
from jaxseg.data.pipeline import spread
from jaxseg.data.source import Source
from jaxseg.sections import TrainSection
from jaxseg.sharding import layout, over_all
from jaxseg.train import Step, Transforms, compile_step, init_optimiser

_READ = 5  # examples whose size stands for all
_ROOM = 2**26  # of pictures, scores and metrics of a run

# By what it is: (folder, bytes there).
Needs = dict[str, tuple[pathlib.Path, int]]


def step_bytes(step: Step, shapes: State, transforms: Transforms, spec: Batch, mesh: Mesh) -> int:
    """Returns what XLA says that a device holds while it runs a compiled step.

    What the pipeline holds ready, and what other programs (refits, evaluation) take, is not in it.
    """

    def placed(leaf: jax.ShapeDtypeStruct, where: NamedSharding) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where)

    state = jax.eval_shape(lambda s: init_optimiser(s, transforms), shapes)
    state = jax.tree.map(placed, state, layout(state, mesh))
    batch = jax.tree.map(lambda leaf: placed(leaf, over_all(mesh)), spec)
    lowered = compile_step(step, mesh, state).lower(state, batch)  # type: ignore[attr-defined]
    found = lowered.compile().memory_analysis()
    held = found.argument_size_in_bytes + found.output_size_in_bytes + found.temp_size_in_bytes
    return held - found.alias_size_in_bytes


def device_bytes() -> int | None:
    """Returns the memory of a device that is free; None where it does not say."""
    device = jax.devices()[0]
    if device.platform == "cpu":
        host = host_bytes()
        return None if host is None else host // len(jax.devices())
    stats = device.memory_stats() or {}
    limit = stats.get("bytes_limit")
    return None if limit is None else limit - stats.get("bytes_in_use", 0)


def host_bytes() -> int | None:
    """Returns the memory of the machine that is free; None where it does not say."""
    try:
        lines = pathlib.Path("/proc/meminfo").read_text().splitlines()
        (line,) = (line for line in lines if line.startswith("MemAvailable:"))
        return 1024 * int(line.split()[1])
    except (OSError, ValueError):
        return None


def has_idle_gpu() -> bool:
    """Says whether the machine has an NVIDIA GPU though jax computes on the CPU."""
    return jax.default_backend() == "cpu" and pathlib.Path("/proc/driver/nvidia/version").exists()


def decoded_bytes(source: Source) -> int:
    """Returns what the decoded examples of a source take, judged by a few of them."""
    read = [source[index] for index in spread(len(source), _READ)]
    each = [one.image.nbytes + sum(label.size for label in one.label.values()) for one in read]
    return int(np.mean(each) * len(source))


def disk_bytes(
    workdir: pathlib.Path, shapes: State, transforms: Transforms, train: TrainSection
) -> Needs:
    """Returns what checkpoints, the final state and all else in a work directory take."""
    state = jax.eval_shape(lambda s: init_optimiser(s, transforms), shapes)
    learned = tree_bytes((state.params, state.extra))
    whole = learned + tree_bytes(state.opt_state)
    # One more than are kept, for the oldest goes when the newest is written.
    copies = train.keep + 1 + 2 * (train.select == "lowest_loss")
    return {
        f"{train.keep} checkpoints": (workdir, copies * whole),
        "final state": (workdir, learned + _ROOM),
    }


def token_bytes(folder: str, spec: Batch, count: int) -> Needs:
    """Returns what the cached features of `count` images take, where none are kept yet."""
    if spec.tokens is None:
        return {}
    shape = spec.tokens.shape[2:]
    return {"data.tokens": (pathlib.Path(folder).expanduser(), count * 2 * int(np.prod(shape)))}


def tree_bytes(tree: PyTree) -> int:
    """Returns the bytes of abstract arrays."""
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))


def by_disk(needs: Needs) -> dict[pathlib.Path, tuple[int, int, str]]:
    """Returns (bytes needed, bytes free, what for) by a folder of each disk."""
    found: dict[int, tuple[pathlib.Path, int, list[str]]] = {}
    for what, (folder, size) in needs.items():
        place = _existing(folder)
        first, total, parts = found.get(place.stat().st_dev, (place, 0, []))
        found[place.stat().st_dev] = first, total + size, [*parts, what]
    return {
        place: (total, shutil.disk_usage(place).free, ", ".join(parts))
        for place, total, parts in found.values()
    }


def writable(folder: pathlib.Path) -> pathlib.Path:
    """Returns the folder, or the one that it is to be made in; raises UserError without leave."""
    place = _existing(folder)
    if not place.is_dir():
        raise UserError(f"--workdir: {place} is a file; give a folder.")
    if not os.access(place, os.W_OK | os.X_OK):
        raise UserError(f"--workdir: no permission to write in {place}; give another folder.")
    return place


def _existing(folder: pathlib.Path) -> pathlib.Path:
    folder = folder.absolute()
    return next(place for place in (folder, *folder.parents) if place.exists())
