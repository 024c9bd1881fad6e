"""Work directories: which config one belongs to, and what a run takes from another's."""

import contextlib
import importlib.metadata
import inspect
import json
import pathlib
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxseg import __version__
from jaxseg.checkpoint import Checkpoints, latest_step
from jaxseg.core import Array, PyTree, State, UserError
from jaxseg.data import SOURCES
from jaxseg.data.disk import locked
from jaxseg.methods import METHODS
from jaxseg.optim import make_optimiser
from jaxseg.processes import is_first
from jaxseg.sections import DataSection, TrainSection, flatten
from jaxseg.writer import write_atomic

_PROGRAMS = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")
# What may differ between the runs that share a work directory: it changes no trained number. (The
# hash of the weights may not, wherever their file lies.)
MAY_CHANGE: tuple[str, ...] = (
    "method.weights", "method.grouping_weights", "data.cache", "data.threads", "data.workers",
    "data.prefetch", "data.test_split", "data.test_resize", "data.test_side", "data.test_scale",
    "data.test_crop", "data.test_pad_multiple", "data.test_interpolation", "train.log_every",
    "train.save_every", "train.keep", "train.monitor_every", "train.evaluate_every",
    "train.samples", "train.shards", "evals",
)  # fmt: skip


@contextlib.contextmanager
def training_in(workdir: pathlib.Path) -> Iterator[None]:
    """Makes a work directory and keeps other runs from training in it meanwhile.

    The first process does so for all. Nobody is kept out where the file system has no locks.

    Raises:
        UserError: another run trains in it, or it cannot be written.
    """
    if any(place.is_file() for place in (workdir, *workdir.parents)):
        raise UserError(f"--workdir: {workdir} is or lies in a file; give a folder.")
    if not is_first():
        yield
        return
    busy = f"--workdir: another run trains in {workdir}; stop it, or give another --workdir."
    with locked(workdir, "--workdir", busy):
        yield


def claim_workdir(
    workdir: pathlib.Path, sections: dict[str, Any], mode: str, unknown: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Writes config.json into a new work directory; checks that an old one was written by this.

    Evaluation reads the trained state, so that only the method must be the same; training goes on
    only where all that changes its numbers is. A directory without a checkpoint is as good as new.
    Fields that are `unknown` yet are not compared.

    Returns:
        The sections that the run in the directory was or will be trained with.

    Raises:
        UserError: the directory belongs to another config, or evaluation finds none.
    """
    path = workdir / "config.json"
    if not has_begun(workdir):
        if mode != "train":
            raise UserError(f"{workdir} holds no run to evaluate; train first (--mode=train).")
        workdir.mkdir(parents=True, exist_ok=True)
        if is_first():
            write_atomic(path, json.dumps(sections, indent=2, default=list) + "\n")
        return sections
    stored = json.loads(path.read_text())
    # Through JSON, so that tuples compare with the lists they are stored as.
    now, before = (
        flatten(json.loads(json.dumps(with_defaults(tree), default=list)))
        for tree in (sections, stored)
    )
    ignored = MAY_CHANGE + unknown
    if mode != "train":
        ignored += ("data", "optim", "train", "evals", "method.flip_average")
    changed = [
        f"  {key}: {before.get(key, 'absent')!r} there, {now.get(key, 'absent')!r} here"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key) and not _below(key, ignored)
    ]
    if changed:
        raise UserError(
            f"{workdir} was written by another config; these fields differ:\n"
            + "\n".join(changed)
            + "\nGive another --workdir, or set them back to go on with that run."
        )
    return stored


def keep_versions(workdir: pathlib.Path) -> None:
    """Writes versions.json: what trains the run, of which versions, on which devices."""
    found = {name: importlib.metadata.version(name) for name in _PROGRAMS}
    found |= {"jaxseg": __version__, "python": platform.python_version()}
    found["devices"] = f"{jax.device_count()} x {jax.devices()[0].device_kind}"
    write_atomic(workdir / "versions.json", json.dumps(found, indent=2) + "\n")


def has_begun(workdir: pathlib.Path) -> bool:
    """Says whether a work directory holds a run with a checkpoint."""
    begun = any(latest_step(workdir / name) is not None for name in ("final", "checkpoints"))
    return begun and (workdir / "config.json").exists()


def with_defaults(sections: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the sections with the defaults of the fields that they leave out.

    A field that came into being after a run was begun so has the value that the run was made with.
    """
    method, data = sections["method"], sections["data"]
    functions: dict[str, list[Callable | None]] = {
        "method": [METHODS.get(method.get("name", ""))],
        "data": [DataSection, SOURCES.get(data.get("name", ""))],
        "optim": [make_optimiser],
        "train": [TrainSection],
    }
    filled = dict(sections)
    for section, makers in functions.items():
        parameters = [p for f in makers if f for p in inspect.signature(f).parameters.values()]
        defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
        filled[section] = defaults | dict(sections.get(section, {}))
    return filled


def _below(key: str, prefixes: Iterable[str]) -> bool:
    return any(key == prefix or key.startswith(prefix + ".") for prefix in prefixes)


def init_from(state: State, workdir: str, groups: tuple[str, ...]) -> tuple[State, list[str]]:
    """Returns the state with parameters (and `extra`) of another run, and what was done, in lines.

    Args:
        state: as the method's `init` made it.
        workdir: of the other run; its final state is taken, or else its latest checkpoint.
        groups: which groups of parameters, and "extra"; () = all that both runs have.

    Raises:
        UserError: no such run, or a group that one of the two does not have.
    """
    path = pathlib.Path(workdir)
    places = [
        path / name for name in ("final", "checkpoints") if latest_step(path / name) is not None
    ]
    if not places:
        raise UserError(
            f"train.init_from: {workdir} holds no trained state; give the work directory of a run."
        )
    found = Checkpoints(places[0]).read()
    theirs = {**found["params"], "extra": found["extra"]}
    ours = {**state.params, "extra": state.extra}
    for group in groups:
        if group not in theirs or group not in ours:
            raise UserError(
                f"train.init_groups names {group!r}; {workdir} has {sorted(theirs)}, this method "
                f"{sorted(ours)}."
            )
    wanted = groups or tuple(name for name in ours if name in theirs)
    lines = [f"left as drawn: {name}" for name in ours if name not in wanted]
    merged = dict(ours)
    for group in wanted:
        merged[group], taken, unfit = _take_fitting(ours[group], theirs[group])
        lines.append(f"taken from {workdir}: {group}, {taken} arrays")
        lines += [f"did not fit: {group}{name}" for name in unfit]
    extra = merged.pop("extra")
    return state.replace(params=merged, extra=extra), lines


def read_state(like: State, directory: pathlib.Path) -> State:
    """Returns the state of a run's newest checkpoint, as host arrays, without its optimiser's.

    Args:
        like: as the method's `init` makes it; its leaves may be abstract. Its `frozen` is kept.
        directory: of the checkpoints, such as WORKDIR/final.

    Raises:
        UserError: there is none, or its arrays are not those of `like`.
    """
    found = Checkpoints(directory).read()
    parts = {}
    for part in ("params", "extra"):
        parts[part], _, unfit = _take_fitting(getattr(like, part), found[part])
        if unfit:
            raise UserError(
                f"The checkpoint in {directory} does not fit the config beside it: {part}"
                f"{unfit[0]}. Both have to be of one run."
            )
    return like.replace(step=jnp.asarray(found["step"]), **parts)


def _take_fitting(ours: PyTree, theirs: PyTree) -> tuple[PyTree, int, list[str]]:
    """Replaces the leaves of `ours` by those of equal path and shape: (tree, taken, unfit)."""
    there = {jax.tree_util.keystr(p): x for p, x in jax.tree_util.tree_leaves_with_path(theirs)}
    taken, unfit = 0, []

    def choose(path: Any, leaf: Array) -> Array:
        nonlocal taken
        name = jax.tree_util.keystr(path)
        other = there.get(name)
        if other is None or other.shape != leaf.shape:
            shape = "absent" if other is None else other.shape
            unfit.append(f"{name}: here {leaf.shape}, there {shape}")
            return leaf
        taken += 1
        return jnp.asarray(other, leaf.dtype)

    return jax.tree_util.tree_map_with_path(choose, ours), taken, unfit
