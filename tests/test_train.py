"""The step and the loop, on a toy method."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxseg.checkpoint import Checkpoints
from jaxseg.core import Batch, UserError
from jaxseg.sharding import make_mesh
from jaxseg.train import Hook, Loop, conclude, init_optimiser
from jaxseg.writer import Writer, read_metrics
from tests.toy import Toy

STEPS_PER_EPOCH = 4


def batch_at(step: int) -> Batch:
    image = np.random.default_rng(step).integers(0, 256, (4, 1, 4, 4, 3), np.uint8)
    return Batch(index=jnp.arange(4), seed=jnp.arange(4, dtype=jnp.uint32), image=image)


def batches(start):
    step = start
    while True:
        yield batch_at(step)
        step += 1


def stream(step):
    return lambda batch_size=None, limit=None: [batch_at(step // STEPS_PER_EPOCH)]


def make_loop(tmp_path, method=None, steps=8, **fields) -> Loop:
    method = method or Toy(noise=0.1)
    fields = {"save_every": 3, "log_every": 1} | fields
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=5)
    return Loop(
        method=method,
        transforms={"a": optax.adam(0.1), "b": optax.adam(0.1)},
        key=jax.random.key(0),
        mesh=make_mesh(jax.devices()[:1]),
        batches=batches,
        stream=stream,
        steps=steps,
        steps_per_epoch=STEPS_PER_EPOCH,
        batch_size=4,
        checkpoints=checkpoints,
        writer=Writer(tmp_path, resume=checkpoints.latest() or 0),
        **fields,
    )


def start(method=None):
    return (method or Toy()).init(jax.random.key(3), batch_at(0))


def values(state):
    return [np.asarray(x) for x in jax.tree.leaves((state.params, state.extra, state.opt_state))]


def assert_same(a, b):
    for x, y in zip(values(a), values(b), strict=True):
        np.testing.assert_array_equal(x, y)


def test_stopped_and_resumed_equals_unbroken(tmp_path):
    refits = {"refit_every": 4}
    whole = make_loop(tmp_path / "whole", **refits).run(start())
    calls = iter([False] * 5 + [True])
    half = make_loop(tmp_path / "half", stop=lambda: next(calls), **refits).run(start())
    assert int(half.step) == 6
    resumed = make_loop(tmp_path / "half", **refits).run(start())
    assert int(resumed.step) == 8
    assert_same(whole, resumed)
    steps = [row["step"] for row in read_metrics(tmp_path / "half" / "metrics.jsonl")]
    assert steps == list(range(1, 9))


def test_a_refit_runs_before_its_steps_and_restarts_its_group(tmp_path):
    state = make_loop(tmp_path, steps=9, refit_every=4).run(start())
    assert int(state.extra["refits"]) == 3  # before steps 0, 4 and 8
    # Group "b" was restarted before step 8, which is even, so that it has not moved since.
    assert int(state.opt_state["b"][0].count) == 0
    assert int(state.opt_state["a"][0].count) == 9
    lines = read_metrics(tmp_path / "metrics.jsonl")
    assert [r["step"] for r in lines if r.get("train/refit_seconds", 0) > 0] == [1, 5, 9]


def test_a_refit_each_epoch(tmp_path):
    steps = 2 * STEPS_PER_EPOCH + 1
    state = make_loop(tmp_path, steps=steps, refit_every=-1, save_every=100).run(start())
    assert int(state.extra["refits"]) == 3


def test_a_refit_may_keep_a_snapshot_of_the_parameters(tmp_path):
    before = make_loop(tmp_path / "a", steps=4, refit_every=4).run(start())
    after = make_loop(tmp_path / "b", steps=6, refit_every=4).run(start())
    np.testing.assert_array_equal(after.extra["snapshot"], before.params["a"]["w"])


def test_the_best_state_is_on_disk_before_a_checkpoint_says_so(tmp_path):
    order = []

    class Watched(Checkpoints):
        def save(self, state, notes=None):
            order.append((self.directory.name, "save"))
            super().save(state, notes)

        def wait(self):
            order.append((self.directory.name, "wait"))
            super().wait()

    loop = make_loop(tmp_path, steps=4, best=Watched(tmp_path / "best", keep=1))
    loop.checkpoints = Watched(tmp_path / "checkpoints")
    loop.run(start())
    saved = order.index(("best", "save"))
    assert ("best", "wait") in order[saved : order.index(("checkpoints", "save"), saved)]


def test_resuming_at_a_refit_repeats_it(tmp_path):
    whole = make_loop(tmp_path / "whole", refit_every=4).run(start())
    calls = iter([False] * 3 + [True])
    make_loop(tmp_path / "half", refit_every=4, stop=lambda: next(calls)).run(start())
    assert_same(whole, make_loop(tmp_path / "half", refit_every=4).run(start()))


def test_a_time_budget_ends_the_run_for_good(tmp_path):
    loop = make_loop(tmp_path, seconds=1e-6)
    state = loop.run(start())
    assert int(state.step) == 1
    assert loop.ended(state)
    again = make_loop(tmp_path, seconds=1e-6)
    assert int(again.run(start()).step) == 1
    longer = make_loop(tmp_path, seconds=1e6)
    assert longer.ended(longer.run(start()))
    assert longer.checkpoints.latest() == 8


def test_inactive_groups_stay_as_they_are(tmp_path):
    state = make_loop(tmp_path, steps=1).run(start())
    assert not np.asarray(state.params["b"]["w"]).any()
    assert int(state.opt_state["b"][0].count) == 0


def test_a_non_finite_step_changes_nothing_but_the_count(tmp_path):
    method = Toy(broken=(2,))
    before = make_loop(tmp_path / "a", method, steps=2).run(start())
    after = make_loop(tmp_path / "b", method, steps=3).run(start())
    assert int(after.step) == 3
    assert_same(before, after)
    rows = read_metrics(tmp_path / "b" / "metrics.jsonl")
    assert [row["train/skipped_steps"] for row in rows] == [0, 0, 1]
    assert "train/loss" not in rows[2]


def test_several_non_finite_steps_in_a_row_stop_the_run(tmp_path):
    method = Toy(broken=(1, 3, 4, 5))
    with pytest.raises(UserError, match=r"3 steps in a row up to step 6 .*loss, term"):
        make_loop(tmp_path, method, max_nonfinite=3).run(start())


def test_frozen_is_untouched_and_not_written(tmp_path):
    loop = make_loop(tmp_path, steps=3)
    state = loop.run(start())
    np.testing.assert_array_equal(state.frozen["table"], np.arange(3.0))
    assert set(loop.checkpoints.read()) == {"step", "params", "extra", "opt_state"}


def test_hooks_run_when_due_and_are_written(tmp_path):
    seen = []

    def hook(state):
        seen.append(int(state.step))
        return {"steps": len(seen)}

    make_loop(tmp_path, hooks=(Hook(3, hook), Hook(0, hook))).run(start())
    assert seen == [3, 6]
    rows = [r for r in read_metrics(tmp_path / "metrics.jsonl") if "steps" in r]
    assert [(r["step"], r["steps"]) for r in rows] == [(3, 1), (6, 2)]


def test_the_epoch_of_lowest_loss_is_kept_across_a_stop(tmp_path):
    def run(name, stops):
        path = tmp_path / name
        for stop_after in stops:
            calls = iter([False] * (stop_after - 1) + [True] * 99)
            loop = make_loop(
                path,
                steps=12,
                best=Checkpoints(path / "best", keep=1),
                stop=lambda c=calls: next(c),
            )
            state = loop.run(start())
        return loop, state

    loop, state = run("whole", [99])
    losses = [r["train/loss"] for r in read_metrics(tmp_path / "whole" / "metrics.jsonl")]
    means = np.reshape(losses, (3, STEPS_PER_EPOCH)).mean(1)
    assert loop.best.latest() == 4 * (int(means.argmin()) + 1)
    again, _ = run("stopped", [3, 4, 99])
    assert again.best.latest() == loop.best.latest()
    final = Checkpoints(tmp_path / "final", keep=1)
    chosen = conclude(loop, state, final)
    assert int(chosen.step) == loop.best.latest() == final.latest()
    assert int(chosen.extra["refits"]) == -1  # what finish does
    assert final.read()["opt_state"] in ((), [], {}, None)


def test_groups_must_match_the_parameters():
    with pytest.raises(UserError, match=r"\['a'\].*\['a', 'b'\]"):
        init_optimiser(start(), {"a": optax.adam(0.1)})


def test_accumulating_two_half_batches_is_one_step(tmp_path):
    """Two steps of MultiSteps move the parameters once, by the mean gradient."""
    from jaxseg.optim import make_optimiser

    transform = make_optimiser(4, "sgd", 0.1, momentum=0.0, accumulate=2)
    state = transform.init(jnp.zeros(2))
    first, state = transform.update(jnp.asarray([1.0, 3.0]), state, jnp.zeros(2))
    second, _ = transform.update(jnp.asarray([3.0, 5.0]), state, jnp.zeros(2))
    np.testing.assert_allclose(first, 0)
    np.testing.assert_allclose(second, [-0.2, -0.4], rtol=1e-6)
