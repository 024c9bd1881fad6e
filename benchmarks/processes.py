"""Trains in several processes of this machine and compares with one process, as JSON.

python benchmarks/processes.py --method=hsg --processes=2
python benchmarks/processes.py --method=picie --steps=20 --signals=TERM,KILL --last-loss=1e-3
python benchmarks/processes.py --method=smooseg --signals=KILL --resume-processes=4

The same run (configs/METHOD_scenes.py with a tiny network, see SMALL) in one process and, by
launch/local.sh, in several, on the CPU: what the losses of the first and of the last step, the
parameters at the end (relative to the largest of their array) and the scores differ by. The first
step must agree to 1e-5. Rounding then grows from step to step as it does with any change in the
order of a sum: how far the last losses and the scores may be apart is for 12 steps, see LAST_LOSS;
give more for longer runs.

With --signals one process of another run gets SIGTERM after the first checkpoint, on which all have
to save and stop; of the same run, started again, one gets SIGKILL after the next; and the run that
then goes on to its end is compared with the unbroken one: no bit of the parameters may differ. With
--resume-processes it goes on in another number of processes, and may be as far from the unbroken
one as that from the run in one process. Exits with 1 where something is not as it must be.
"""

import argparse
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any

import jax
import numpy as np

from jaxseg.checkpoint import Checkpoints, latest_step
from jaxseg.record import load_results
from jaxseg.writer import read_metrics

ROOT = pathlib.Path(__file__).parents[1]
SMALL = {
    "infoseg": {"features": 8, "patch_widths": (4,) * 5, "global_widths": (4,) * 3},
    "hsg": {
        "backbone": "resnet_tiny", "dim": 16, "train_stride": 8, "grid": (2, 2), "slots": 16,
        "test_grid": (2, 2), "sizes": (4, 2), "heads": 2, "hidden": 16, "layers": (1, 1),
        "positions": 4, "trained_cells": 4,
    },
    "smooseg": {"backbone": "vit_test", "dim": 16},
    "picie": {"backbone": "resnet_tiny", "dim": 16, "size": 32, "sample_rounds": 2},
}  # fmt: skip
KEPT = {"hsg": ("hsg_kmeans", "hsg_retrieval"), "picie": ("picie",)}  # others: their own entry
FIRST_LOSS = 1e-5
# How far the last losses may be apart after 12 steps. Measured: SmooSeg 4e-7, InfoSeg 5e-7, PiCIE
# and HSG 1e-6; other machines add up in other orders.
LAST_LOSS = {"infoseg": 1e-4, "hsg": 1e-4, "smooseg": 1e-5, "picie": 1e-4}
SCORES = 0.01  # accuracies and mIoU
CONFIG = """
from configs import {method}_scenes

def get_config():
    config = {method}_scenes.get_config()
    config.method.update({small})
    config.data.update(size=32, resize=0, crop=32, test_resize=0, test_crop=32, batch_size=8)
    config.data.update(count=20)
    config.train.update(samples=2, save_every=5, log_every=1, steps={steps}, epochs=0)
    for name in list(config.evals):
        if name not in {kept}:
            del config.evals[name]
    return config
"""


def start(root: pathlib.Path, name: str, processes: int) -> subprocess.Popen:
    """Starts a run."""
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": "",
        "JAX_PLATFORMS": "cpu",
        "PYTHON": sys.executable,
        "PYTHONPATH": str(ROOT),
    }
    flags = [f"--config={root}/config.py", f"--workdir={root / name}"]
    launch = [str(ROOT / "launch/local.sh"), str(processes)]
    return subprocess.Popen(
        (launch if processes > 1 else [sys.executable, "-m", "jaxseg.main"]) + flags,
        cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, text=True,
        stderr=(root / f"{name}.log").open("w"),
    )  # fmt: skip


def finish(root: pathlib.Path, name: str, processes: int) -> float:
    """Runs to the end; returns the seconds that it took."""
    began = time.perf_counter()
    if start(root, name, processes).wait():
        sys.exit(f"the run {name} failed: {(root / f'{name}.log').read_text()}")
    return round(time.perf_counter() - began, 1)


def interrupt(root: pathlib.Path, name: str, processes: int, number: int) -> dict[str, int]:
    """Sends the last process a signal after the next checkpoint; returns how and where it ended."""
    folder = root / name / "checkpoints"
    before = latest_step(folder) or 0
    run = start(root, name, processes)
    while run.poll() is None and (latest_step(folder) or 0) <= before:
        time.sleep(0.02)
    log = (root / f"{name}.log").read_text()
    if run.poll() is not None:
        sys.exit(f"the run {name} ended with {run.returncode} before it could be signalled: {log}")
    pids = re.findall(r"has PID (\d+)", log)
    os.kill(int(pids[-1]), number)
    return {"signal": number, "exit": run.wait(), "step": latest_step(folder) or 0}


def arrays(workdir: pathlib.Path) -> dict[str, np.ndarray]:
    """Returns the arrays of the final state by their paths."""
    leaves, _ = jax.tree.flatten_with_path(Checkpoints(workdir / "final").read())
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def differing(one: pathlib.Path, other: pathlib.Path) -> int:
    """Returns how many arrays of the final states of two runs differ in a bit."""
    right = arrays(other)
    return sum(a.tobytes() != right[path].tobytes() for path, a in arrays(one).items())


def compare(one: pathlib.Path, several: pathlib.Path) -> dict[str, Any]:
    """Returns what two runs differ by."""
    rows = [
        [row["train/loss"] for row in read_metrics(place / "metrics.jsonl") if "train/loss" in row]
        for place in (one, several)
    ]
    losses = np.abs(np.subtract(*rows))
    left, right = arrays(one), arrays(several)
    apart = {
        path: float(np.abs(a.astype(np.float64) - right[path]).max() / max(np.abs(a).max(), 1e-6))
        for path, a in left.items()
    }
    largest = max(apart, key=apart.__getitem__)
    scores = [
        {
            f"{result.name}/{score}": value
            for result in load_results(place / "evaluation")
            for score, value in result.scalars.items()
        }
        for place in (one, several)
    ]
    return {
        "steps": len(losses),
        "first_loss_difference": float(losses[0]),
        "last_loss_difference": float(losses[-1]),
        "largest_parameter_difference": apart[largest],
        "median_parameter_difference": float(np.median(list(apart.values()))),
        "of": f"{largest}, whose largest value is {np.abs(left[largest]).max():.1e}",
        "score_differences": {k: round(abs(scores[1][k] - v), 5) for k, v in scores[0].items()},
    }


def too_far(found: dict[str, Any], last_loss: float, scores: float) -> bool:
    """Says whether two runs that `compare` compared are further apart than they may be."""
    fractions = [
        value
        for name, value in found["score_differences"].items()
        if name.endswith(("accuracy", "miou"))
    ]
    return not (  # as a nan is
        found["first_loss_difference"] <= FIRST_LOSS
        and found["last_loss_difference"] <= last_loss
        and all(value <= scores for value in fractions)
    )


def parse() -> argparse.Namespace:
    """Returns the flags."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--method", required=True, choices=SMALL)
    add("--processes", type=int, default=2)
    add("--steps", type=int, default=12)
    add("--signals", default="", help="TERM, KILL or TERM,KILL; default: none")
    add("--resume-processes", type=int, help="after the signals; default: as many as before")
    add("--last-loss", type=float, help="how far it may be apart; default: see LAST_LOSS")
    add("--scores", type=float, default=SCORES, help="how far they may be apart (%(default)s)")
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    method, processes = arguments.method, arguments.processes
    last_loss = LAST_LOSS[method] if arguments.last_loss is None else arguments.last_loss
    allowed = last_loss, arguments.scores
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        kept = KEPT.get(method, (method,))
        config = CONFIG.format(method=method, small=SMALL[method], kept=kept, steps=arguments.steps)
        (root / "config.py").write_text(config)
        found: dict[str, Any] = {"method": method, "processes": processes}
        found["seconds"] = [finish(root, "one", 1), finish(root, "several", processes)]
        found |= compare(root / "one", root / "several")
        failed = too_far(found, *allowed)
        if arguments.signals:
            signals = [getattr(signal, f"SIG{name}") for name in arguments.signals.split(",")]
            kills = [interrupt(root, "killed", processes, number) for number in signals]
            found["kills"] = kills
            failed |= [kill["exit"] for kill in kills] != [128 + number for number in signals]
            resume = arguments.resume_processes or processes
            finish(root, "killed", resume)
            if resume == processes:
                found["differing_arrays"] = differing(root / "several", root / "killed")
                failed |= found["differing_arrays"] > 0
            else:
                found["resumed"] = compare(root / "several", root / "killed")
                failed |= too_far(found["resumed"], *allowed)
        print(json.dumps(found, indent=2))
        sys.exit(int(failed))


if __name__ == "__main__":
    main()
