"""Kills a run at random moments until it is done, and compares it with one that was left alone.

python benchmarks/kill_and_resume.py --kills=20

Signals alternate between SIGTERM and SIGKILL. Prints JSON: how the processes ended, at which step
each began again, and how many arrays of the final states differ in any bit, which must be 0. Exits
with 1 where it is not, or where no signal came between the first and the last checkpoint.
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
CONFIG = """
from configs import infoseg_scenes

def get_config():
    config = infoseg_scenes.get_config()
    config.method.update(features=8, patch_widths=(4,) * 5, global_widths=(4,) * 3)
    config.data.update(size=32, crop=32, test_crop=32, batch_size=8, count=24)
    config.train.update(samples=2, save_every=7, select="lowest_loss", steps={steps})
    del config.evals.untrained, config.evals.colour_kmeans
    return config
"""


def start(root: pathlib.Path, name: str) -> subprocess.Popen:
    """Starts the same command every time; compiled programs are kept, to save the waiting."""
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(root / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(ROOT),
    }
    return subprocess.Popen(
        [sys.executable, "-m", "jaxseg.main", f"--config={root}/config.py",
         f"--workdir={root / name}"],
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
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        (root / "config.py").write_text(CONFIG.format(steps=arguments.steps))
        began = time.perf_counter()
        finish(start(root, "whole"))
        again = time.perf_counter()
        process = start(root, "warm")
        while process.poll() is None and not latest_step(root / "warm"):
            time.sleep(0.02)
        startup_seconds = time.perf_counter() - again
        finish(process)
        kills = []
        for number in range(arguments.kills):
            process = start(root, "killed")
            if number % 4 == 3:
                # Anywhere from the imports to the first steps.
                time.sleep(rng.uniform(0, startup_seconds))
            else:
                # Some way further into training, at no particular moment of a step or a save; the
                # kills to come share what is left of it.
                reached = latest_step(root / "killed")
                share = (arguments.steps - reached) / (arguments.kills - number + 1)
                goal = reached + rng.uniform(0, share)
                while process.poll() is None and latest_step(root / "killed") <= goal:
                    time.sleep(0.02)
                time.sleep(rng.uniform(0, 0.1))
            name = ("SIGTERM", "SIGKILL")[number % 2]
            process.send_signal(getattr(signal, name))
            _, errors = process.communicate()
            kills.append(
                {"signal": name, "exit": process.returncode, "step": latest_step(root / "killed")}
            )
            if process.returncode not in (0, 143, -signal.SIGTERM, -signal.SIGKILL):
                sys.exit(f"a killed run ended with {process.returncode}: {errors}")
        finish(start(root, "killed"))
        pairs = zip(final_arrays(root / "whole"), final_arrays(root / "killed"), strict=True)
        differing = sum(a.dtype != b.dtype or a.tobytes() != b.tobytes() for a, b in pairs)
        # Exit status 0 is a run that was done before the signal came.
        within = sum(0 < kill["step"] < arguments.steps for kill in kills if kill["exit"])
        result = {
            "kills": kills,
            "kills_of_live_runs": sum(kill["exit"] != 0 for kill in kills),
            "kills_within_training": within,
            "steps": arguments.steps,
            "differing_arrays": differing,
            "seconds": round(time.perf_counter() - began, 1),
        }
        print(json.dumps(result, indent=2))
        sys.exit(1 if differing or not within else 0)


if __name__ == "__main__":
    main()
