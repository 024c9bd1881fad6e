"""The step and the loop. They hold no method's name: the loop owns time, the method meaning."""

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import logging
from clu import metrics as clu_metrics
from jax.sharding import Mesh

from jaxseg.checkpoint import Checkpoints
from jaxseg.core import Array, Batch, Method, PyTree, State, Stream, UserError
from jaxseg.processes import agreed, is_first
from jaxseg.sharding import layout, place, whole
from jaxseg.writer import Progress, Writer

Transforms = Mapping[str, optax.GradientTransformation]  # by optimiser group
Step = Callable[[State, Batch], tuple[State, dict[str, Array]]]


def init_optimiser(state: State, transforms: Transforms) -> State:
    """Returns the state with a fresh optimiser state, a dict by group.

    Raises:
        UserError: a transformation is missing for a group, or names none.
    """
    if transforms.keys() != state.params.keys():
        raise UserError(
            f"The optimiser has the groups {sorted(transforms)}, the method's parameters "
            f"{sorted(state.params)}; they must be the same."
        )
    return state.replace(
        opt_state={group: transforms[group].init(state.params[group]) for group in transforms}
    )


def _all_finite(tree: PyTree) -> Array:
    leaves = [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]
    return jnp.stack([jnp.bool_(True), *leaves]).all()


def _choose(condition: Array, new: PyTree, old: PyTree) -> PyTree:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)


def make_step(method: Method, transforms: Transforms, key: Array) -> Step:
    """Returns the train step: gradient of the loss, one optimiser update, the non-finite guard.

    A group moves only where `method.active_groups` says so. Where the loss or a gradient is not
    finite, parameters, extra and optimiser state stay as they were; the step still counts, so that
    the next one draws another batch. Metrics: the method's own, "loss", "grad_norm", and
    "nonfinite" (1 where the step was skipped).

    Args:
        method: what is learned.
        transforms: optax transformation by optimiser group.
        key: root of the steps' keys; step s uses fold_in(key, s).
    """

    def loss_of(params, state, batch, step_key):
        return method.loss(state.replace(params=params), batch, step_key)

    def step(state: State, batch: Batch) -> tuple[State, dict[str, Array]]:
        step_key = jax.random.fold_in(key, state.step)
        (loss, (extra, metrics)), grads = jax.value_and_grad(loss_of, has_aux=True)(
            state.params, state, batch, step_key
        )
        finite = jnp.isfinite(loss) & _all_finite(grads)
        active = method.active_groups(state.step) or {}
        params, opt_state = {}, {}
        for group, transform in transforms.items():
            old = (state.params[group], state.opt_state[group])
            updates, new_opt = transform.update(grads[group], old[1], old[0])
            new = (optax.apply_updates(old[0], updates), new_opt)
            move = finite & active.get(group, jnp.bool_(True))
            params[group], opt_state[group] = _choose(move, new, old)
        metrics = metrics | {
            "loss": loss,
            "grad_norm": optax.tree.norm(grads),
            "nonfinite": 1.0 - finite,
        }
        new_state = state.replace(
            step=state.step + 1,
            params=params,
            opt_state=opt_state,
            extra=_choose(finite, extra, state.extra),
        )
        return new_state, metrics

    return step


def compile_step(step: Step, mesh: Mesh, state: State) -> Step:
    """Returns the jitted step; it is given `state`, or one like it, and keeps its layout."""
    return jax.jit(step, donate_argnums=0, out_shardings=(layout(state, mesh), whole(mesh)))


class NonFiniteGuard:
    """Stops a run whose steps are skipped several times in a row."""

    def __init__(self, limit: int):
        self._limit = limit
        self._in_a_row = 0
        self.skipped = 0

    def check(self, step: int, metrics: Mapping[str, float]) -> None:
        """Takes the metrics of one step.

        Raises:
            UserError: `limit` steps in a row were not finite; names the terms that were not.
        """
        if not metrics["nonfinite"]:
            self._in_a_row = 0
            return
        self.skipped += 1
        self._in_a_row += 1
        terms = [name for name, value in metrics.items() if not np.isfinite(value)]
        named = (
            ", ".join(t for t in terms if t != "grad_norm") or "the gradient (the loss is finite)"
        )
        logging.warning("Step %d skipped: not finite: %s.", step, named)
        if self._in_a_row >= self._limit:
            raise UserError(
                f"{self._in_a_row} steps in a row up to step {step} were not finite: {named}. "
                "Lower optim.learning_rate, set optim.clip or use method.dtype='float32', in "
                "another --workdir."
            )


@dataclasses.dataclass(frozen=True)
class Hook:
    """An action of the loop: `run(state)` after every `every` steps; 0 = never.

    It may return scalars to write.
    """

    every: int
    run: Callable[[State], Mapping[str, float] | None]

    def due(self, step: int) -> bool:
        """Says whether the hook runs when `step` steps are done."""
        return self.every > 0 and step % self.every == 0


class _EpochLoss:
    """The mean training loss of the epoch so far, and the lowest of the epochs before.

    It travels with the checkpoints, so that a resumed run selects what an unbroken one would.
    """

    def __init__(self, steps_per_epoch: int, notes: Mapping[str, float]):
        self._steps_per_epoch = steps_per_epoch
        self._sum = notes.get("loss_sum", 0.0)
        self._count = notes.get("loss_count", 0)
        self.lowest = notes.get("lowest_loss", float("inf"))

    def notes(self) -> dict[str, float]:
        # JSON has no infinity; its absence means the same.
        lowest = {"lowest_loss": self.lowest} if np.isfinite(self.lowest) else {}
        return {"loss_sum": self._sum, "loss_count": self._count, **lowest}

    def add(self, step: int, metrics: Mapping[str, float]) -> bool:
        """Takes one step's metrics; says whether it ends the epoch of the lowest mean loss."""
        if not metrics["nonfinite"]:
            self._sum += float(metrics["loss"])
            self._count += 1
        if step % self._steps_per_epoch:
            return False
        mean = self._sum / self._count if self._count else float("inf")
        self._sum, self._count = 0.0, 0
        best = mean < self.lowest
        self.lowest = min(mean, self.lowest)
        return best


@dataclasses.dataclass
class Loop:
    """Trains a method from the latest checkpoint, or from the start, to `steps`.

    Attributes:
        method, transforms, key: as for `make_step`; refit draws from keys of its own.
        mesh: where it runs.
        batches: start step -> endless batches, a function of the step alone.
        stream: step -> the epoch of that step as a re-iterable stream, for refit and finish.
        steps: how many to take in all; steps_per_epoch: to average the loss over.
        refit_every: steps between refits, the first before step 0; 0 = never, -1 = an epoch.
        checkpoints: where states are kept; save_every: steps between them.
        best: where the state after the epoch of lowest mean training loss is kept; None = not.
        log_every: steps between lines of metrics; hooks: what else happens now and then.
        max_nonfinite: skipped steps in a row that stop the run.
        stop: asked after every step; true = save and return early (a signal has come).
        seconds: of training after which the run ends before `steps`; 0 = no limit. They count from
            the end of the first step on, over all resumptions.
    """

    method: Method
    transforms: Transforms
    key: Array
    mesh: Mesh
    batches: Callable[[int], Iterator[Batch]]
    stream: Callable[[int], Stream]
    steps: int
    steps_per_epoch: int
    batch_size: int
    checkpoints: Checkpoints
    writer: Writer
    best: Checkpoints | None = None
    refit_every: int = 0
    save_every: int = 1000
    log_every: int = 20
    max_nonfinite: int = 5
    hooks: tuple[Hook, ...] = ()
    stop: Callable[[], bool] = lambda: False
    seconds: float = 0

    def run(self, state: State) -> State:
        """Returns the state after the last step taken; `state` is donated.

        Raises:
            UserError: the run became non-finite.
        """
        state = place(init_optimiser(state, self.transforms), self.mesh)
        notes: Mapping[str, float] = {}
        if self.checkpoints.latest() is not None:
            state, notes = self.checkpoints.restore(state)
        self._epoch = _EpochLoss(self.steps_per_epoch, notes)
        self._guard = NonFiniteGuard(self.max_nonfinite)
        self._window: dict[str, clu_metrics.Average] = {}
        self._refit_seconds = 0.0  # since the last line of metrics
        self._spent = notes.get("seconds", 0.0)  # by the processes before this one
        self._began: float | None = None
        start = int(state.step)
        self._progress = Progress(self.steps, start, self.batch_size, shown=is_first())
        try:
            state = self._run_from(start, state)
        finally:
            self._progress.close()
            self.checkpoints.wait()
            if self.best:
                self.best.wait()
        return state

    @property
    def spent(self) -> float:
        """Seconds of training so far, without what came before each process's first step."""
        return self._spent + (time.perf_counter() - self._began if self._began else 0.0)

    def ended(self, state: State) -> bool:
        """Says whether a state that `run` returned is that of the end of training."""
        return int(state.step) == self.steps or 0 < self.seconds <= self.spent

    def _run_from(self, start: int, state: State) -> State:
        keys = jax.random.fold_in(self.key, 0), jax.random.fold_in(self.key, 1)
        step_fn = compile_step(make_step(self.method, self.transforms, keys[0]), self.mesh, state)
        batches = self.batches(start) if start < self.steps else iter(())
        pending = None
        stop = agreed(self.stop, self.mesh)
        refit_every = self.steps_per_epoch if self.refit_every < 0 else self.refit_every
        for step in range(start, start if self.ended(state) else self.steps):
            refit_due = refit_every > 0 and step % refit_every == 0
            save_due = step > start and step % self.save_every == 0
            if refit_due or save_due:
                self._flush(pending, state)
                pending = None
                self._save(state)
            if refit_due:
                state = self._refit(state, step, jax.random.fold_in(keys[1], step))
            state, metrics = step_fn(state, next(batches))
            # The metrics of the step before: reading this step's would wait for it, and the device
            # would stand idle while the host prepares the next.
            self._flush(pending, state)
            pending = (step + 1, metrics)
            if self._began is None:
                jax.block_until_ready(metrics)
                self._began = time.perf_counter()
                self._progress.measure(step + 1)  # compiling slows the first step, not the rest
            if self._boundary(step + 1):
                self._flush(pending, state)
                pending = None
                self._run_hooks(step + 1, state)
            if stop() or 0 < self.seconds <= self.spent:
                break
        self._flush(pending, state)
        self._save(state)
        return state

    def _save(self, state: State) -> None:
        if self.best:
            # The notes say that the best state is on disk, so it has to be there before them.
            self.best.wait()
        self.checkpoints.save(state, self._epoch.notes() | {"seconds": self.spent})

    def _boundary(self, done: int) -> bool:
        """Says whether the state after `done` steps is needed on the host now."""
        epoch_end = self.best is not None and done % self.steps_per_epoch == 0
        return epoch_end or any(hook.due(done) for hook in self.hooks)

    def _refit(self, state: State, step: int, key: Array) -> State:
        began = time.perf_counter()
        state = self.method.refit(state, self.stream(step), key)
        fresh = {g: self.transforms[g].init(state.params[g]) for g in self.method.resets}
        state = state.replace(opt_state=state.opt_state | fresh)
        spent = time.perf_counter() - began
        self._refit_seconds += spent
        self._progress.skip_time(spent)
        # Copies, for a snapshot may share its buffers with the parameters, which the step donates.
        return place(jax.tree.map(jnp.copy, state), self.mesh)

    def _run_hooks(self, done: int, state: State) -> None:
        began = time.perf_counter()
        for hook in self.hooks:
            if hook.due(done):
                scalars = hook.run(state)
                if scalars:
                    self.writer.scalars(done, scalars)
        self._progress.skip_time(time.perf_counter() - began)

    def _flush(self, pending: tuple[int, dict[str, Array]] | None, state: State) -> None:
        """Takes in the metrics of one finished step."""
        if pending is None:
            return
        done, metrics = pending[0], jax.device_get(pending[1])
        self._guard.check(done, metrics)
        # At an epoch's end `state` is the state after `done` steps: `_boundary` saw to that.
        if self._epoch.add(done, metrics) and self.best is not None:
            self.best.save(state)
        if not metrics["nonfinite"]:
            for name, value in metrics.items():
                one = clu_metrics.Average(total=np.float64(value), count=np.int64(1))
                before = self._window.get(name)
                self._window[name] = one if before is None else before.merge(one)
        if done % self.log_every == 0 or done == self.steps:
            means = {k: float(v.total / v.count) for k, v in self._window.items()}
            self._window = {}
            means.pop("nonfinite", None)
            # The loss first; it is missing where every step since the last line was skipped.
            means = {k: means[k] for k in sorted(means, key=lambda name: name != "loss")}
            self._progress.update(done, means)
            rates = {
                "images_per_second": self._progress.images_per_second,
                "skipped_steps": self._guard.skipped,
            }
            if self._refit_seconds:
                rates["refit_seconds"] = self._refit_seconds
                self._refit_seconds = 0.0
            self.writer.scalars(done, {f"train/{k}": v for k, v in (means | rates).items()})


def conclude(loop: Loop, state: State, final: Checkpoints) -> State:
    """Returns the state that the run ends with, and keeps it in `final`.

    That is `state`, or the one with the lowest training loss where the loop kept it, after
    `method.finish`; labels have no say in it.
    """
    if loop.best is not None and loop.best.latest() is not None:
        state, _ = loop.best.restore(state)
    step = max(0, int(state.step) - 1)
    state = loop.method.finish(state, loop.stream(step), jax.random.fold_in(loop.key, 2))
    # Nobody goes on from here, so that the optimiser's memory would be dead weight.
    state = place(state.replace(opt_state=()), loop.mesh)
    final.save(state)
    final.wait()
    return state
