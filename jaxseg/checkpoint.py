"""Checkpoints: Orbax save and restore of what a run cannot rebuild."""

import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from jaxseg.core import PyTree, State, UserError


def _saved(state: State) -> dict[str, PyTree]:
    """What goes to disk; `frozen` is rebuilt from its file."""
    return {
        "step": state.step,
        "params": state.params,
        "extra": state.extra,
        "opt_state": state.opt_state,
    }


def latest_step(directory: pathlib.Path) -> int | None:
    """Returns the step of the newest complete checkpoint below `directory`, without opening it."""
    # Orbax gives a checkpoint its number for a name when it is complete.
    steps = [int(path.name) for path in directory.glob("*") if path.name.isdigit()]
    return max(steps, default=None)


class Checkpoints:
    """Numbered checkpoints in one directory, written in the background, the newest `keep` kept.

    A checkpoint appears under its final name only when it is complete, so that a process killed
    while writing leaves the one before it as the latest.
    """

    def __init__(self, directory: pathlib.Path | str, keep: int = 2):
        self.directory = pathlib.Path(directory).absolute()
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True)
        self._manager = ocp.CheckpointManager(self.directory, options=options)

    def latest(self) -> int | None:
        """Returns the step of the newest complete checkpoint, None where there is none."""
        return self._manager.latest_step()

    def save(self, state: State, notes: Mapping[str, Any] | None = None) -> None:
        """Saves the state at its step, with `notes` (JSON values); a step already there is kept."""
        step = int(state.step)
        if step == self.latest():
            return
        # The loop donates its state to the next step, and on the CPU the writer may hold a view of
        # the very buffers; it gets copies.
        tree = jax.tree.map(jnp.copy, _saved(state))
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(tree), notes=ocp.args.JsonSave(dict(notes or {}))
            ),
        )

    def restore(self, like: State, step: int | None = None) -> tuple[State, dict[str, Any]]:
        """Returns (state, notes) of `step` (default: the latest).

        Args:
            like: a state with the structure, shapes and shardings to restore into; its `frozen` is
                taken over as it is.

        Raises:
            UserError: there is no checkpoint, or it does not fit `like`.
        """
        step = self.latest() if step is None else step
        if step is None:
            raise UserError(f"{self.directory} holds no checkpoint; train first (--mode=train).")
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, _saved(like))
        try:
            found = self._manager.restore(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardRestore(abstract), notes=ocp.args.JsonRestore()
                ),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"The checkpoint {self.directory / str(step)} does not fit this configuration: "
                f"{error}. Use the configuration that wrote it, or another --workdir."
            ) from error
        return like.replace(**found["state"]), found["notes"] or {}

    def read(self) -> dict[str, PyTree]:
        """Returns what the latest checkpoint holds as host arrays, whatever its structure.

        Raises:
            UserError: there is no checkpoint.
        """
        step = self.latest()
        if step is None:
            raise UserError(f"{self.directory} holds no checkpoint.")
        path = self.directory / str(step) / "state"
        # The handler itself, for a checkpointer warns of notes that it does not find below `state`.
        handler = ocp.PyTreeCheckpointHandler()
        # As NumPy arrays, for the devices that wrote them need not be here.
        as_numpy = jax.tree.map(
            lambda _: ocp.RestoreArgs(restore_type=np.ndarray), handler.metadata(path).tree
        )
        return handler.restore(path, args=ocp.args.PyTreeRestore(restore_args=as_numpy))

    def wait(self) -> None:
        """Blocks until everything saved so far is on disk."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits for pending writes and releases the directory."""
        self._manager.close()
