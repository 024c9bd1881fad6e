"""Kills a run at random moments until it is done, and compares it with one that was left alone.

python benchmarks/kill_and_resume.py --kills=20

Signals alternate between SIGTERM and SIGKILL. Prints JSON: how the processes ended, at which step
each began again, and how many arrays of the final states differ in any bit, which must be 0. Exits
with 1 where it is not.
"""

import argparse
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np

ROOT = pathlib.Path(__file__).parents[1]
FLAGS = (
    "--config=configs/infoseg_scenes.py", "--config.method.features=8",
    "--config.method.patch_widths=(4,4,4,4,4)", "--config.method.global_widths=(4,4,4)",
    "--config.data.size=32", "--config.data.crop=32", "--config.data.test_crop=32",
    "--config.data.batch_size=8", "--config.data.count=24", "--config.train.samples=2",
    "--config.train.save_every=7", "--config.train.select=lowest_loss",
)  # fmt: skip


def start(workdir: pathlib.Path, steps: int, cache: pathlib.Path) -> subprocess.Popen:
    """Starts the same command every time; compiled programs are kept, to save the waiting."""
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(cache), "JAX_PLATFORMS": "cpu"}
    return subprocess.Popen(
        [sys.executable, "-m", "jaxseg.main", *FLAGS, f"--config.train.steps={steps}",
         f"--workdir={workdir}"],
        cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def latest_step(workdir: pathlib.Path) -> int:
    """Returns the newest complete checkpoint's step, 0 without one."""
    steps = [int(p.name) for p in (workdir / "checkpoints").glob("*") if p.name.isdigit()]
    return max(steps, default=0)


def finish(process: subprocess.Popen) -> None:
    """Waits for a run that nobody kills."""
    _, errors = process.communicate()
    if process.returncode:
        sys.exit(f"the run failed by itself: {errors}")


def final_arrays(workdir: pathlib.Path) -> list[np.ndarray]:
    """Returns the arrays of the final state and of the last checkpoint, in a fixed order."""
    import jax

    from jaxseg.checkpoint import Checkpoints

    trees = [Checkpoints(workdir / name).read() for name in ("final", "checkpoints")]
    return [np.asarray(leaf) for leaf in jax.tree.leaves(trees)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        cache = root / "compiled"
        began = time.perf_counter()
        finish(start(root / "whole", arguments.steps, cache))
        again = time.perf_counter()
        finish(start(root / "warm", arguments.steps, cache))
        whole_seconds = time.perf_counter() - again
        kills = []
        for number in range(arguments.kills):
            process = start(root / "killed", arguments.steps, cache)
            # Anywhere in a run of full length: imports, compilation, steps, saves, evaluation.
            time.sleep(rng.uniform(0, whole_seconds))
            name = ("SIGTERM", "SIGKILL")[number % 2]
            process.send_signal(getattr(signal, name))
            _, errors = process.communicate()
            kills.append(
                {"signal": name, "exit": process.returncode, "step": latest_step(root / "killed")}
            )
            if process.returncode not in (0, 143, -signal.SIGTERM, -signal.SIGKILL):
                sys.exit(f"a killed run ended with {process.returncode}: {errors}")
        finish(start(root / "killed", arguments.steps, cache))
        pairs = zip(final_arrays(root / "whole"), final_arrays(root / "killed"), strict=True)
        differing = [bool(np.array_equal(a, b)) for a, b in pairs].count(False)
        result = {
            "kills": kills,
            "steps": arguments.steps,
            "differing_arrays": differing,
            "seconds": round(time.perf_counter() - began, 1),
        }
        print(json.dumps(result, indent=2))
        sys.exit(1 if differing else 0)


if __name__ == "__main__":
    main()
