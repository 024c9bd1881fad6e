"""PiCIE, MDC and IIC against the supervised ceiling, an untrained network and colour, as JSON.

python benchmarks/clustering.py --data=scenes --workdir=RUNS --seeds=0,1,2
python benchmarks/clustering.py --data=camvid --root=DIR --workdir=RUNS --seeds=0

Uses configs/METHOD_DATA.py as they are. Below RUNS lies one run for each method and seed; finished
ones are not repeated. K-means on the untrained network of PiCIE and on colour is scored beside
PiCIE alone. Times are those of training as its metrics.jsonl has them: `train_seconds` from the
first line to the last, `refit_share` the median refit after the first (which compiles) relative to
the median training pass between them. The supervised ceiling READS LABELS.

python benchmarks/clustering.py --data=scenes --workdir=RUNS --snapshot

Trains nothing: what the copy of the network that labels the views costs, on one batch, its size and
the time of its forward pass (of both views for PiCIE) relative to a whole step.

python benchmarks/clustering.py --data=scenes --workdir=RUNS --seeds=0,1 --transfer --steps=62

The network trained WITH LABELS for so many steps, from PiCIE's run of the same seed in RUNS and
from scratch, on the same batches.
"""

import argparse
import importlib
import itertools
import json
import pathlib
import statistics

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
from throughput import seconds

from configs import supervised_base
from jaxseg.record import load_results
from jaxseg.run import Run
from jaxseg.train import compile_step, init_optimiser, make_step
from jaxseg.writer import read_metrics

METHODS = ("picie", "mdc", "iic", "supervised")
SCORES = ("accuracy", "miou", "many_to_one_accuracy", "effective_clusters")


def config_of(method: str, arguments: argparse.Namespace, seed: int) -> ConfigDict:
    """Returns the config of one run."""
    config = importlib.import_module(f"configs.{method}_{arguments.data}").get_config()
    if arguments.root:
        config.data.root = arguments.root
    config.train.seed = seed
    if method != "picie":
        for name in ("untrained", "colour_kmeans"):
            del config.evals[name]
    return config


def finished(config: ConfigDict, workdir: pathlib.Path) -> Run:
    """Returns the run in a work directory, trained and scored if it was not."""
    run = Run(config, workdir)
    if not all((workdir / "evaluation" / f"{name}.json").exists() for name in run.evaluators):
        run.fit()
        run.evaluate()
    return run


def transfer(arguments: argparse.Namespace) -> None:
    """Prints the scores of supervised runs that begin with PiCIE's network, and from scratch."""
    found: dict[str, dict[str, list[float]]] = {}
    for seed, start in itertools.product(seeds_of(arguments), ("scratch", "picie")):
        config = config_of("supervised", arguments, seed)
        config.train.epochs = 0
        config.train.steps = arguments.steps
        if start != "scratch":
            before = arguments.workdir / f"{start}_{arguments.data}_{seed}"
            supervised_base.transfer(config, str(before))
        name = f"supervised_from_{start}_{arguments.data}_{arguments.steps}_{seed}"
        run = finished(config, arguments.workdir / name)
        for result in load_results(run.workdir / "evaluation"):
            scores = found.setdefault(f"from {start}", {name: [] for name in SCORES})
            for measure in SCORES:
                scores[measure].append(round(result.scalars[measure], 4))
    print(json.dumps({"steps": arguments.steps, "seeds": arguments.seeds, "scores": found}))


def seeds_of(arguments: argparse.Namespace) -> list[int]:
    """Returns the seeds that the command line names."""
    return [int(seed) for seed in arguments.seeds.split(",")]


def times(run: Run) -> dict[str, float]:
    """Returns the times of a finished run."""
    rows = read_metrics(run.workdir / "metrics.jsonl")
    found = {"train_seconds": round(rows[-1]["time"] - rows[0]["time"])}
    lines, pipeline = [row for row in rows if "train/loss" in row], run.data.pipeline
    refits = []
    for before, row in itertools.pairwise(lines):
        # A refit comes before each step that begins an epoch; a line tells of all since the last.
        epochs = [-(-r["step"] // pipeline.steps_per_epoch) for r in (before, row)]
        if "train/refit_seconds" in row:
            refits.append(row["train/refit_seconds"] / (epochs[1] - epochs[0]))
    if refits:
        rate = statistics.median(row["train/images_per_second"] for row in lines)
        found["pass_seconds"] = round(pipeline.steps_per_epoch * pipeline.batch_size / rate, 2)
        found["refit_seconds"] = round(statistics.median(refits), 2)
        found["refit_share"] = round(found["refit_seconds"] / found["pass_seconds"], 2)
    return found


def snapshot_cost(run: Run) -> dict[str, float]:
    """Returns what the snapshot of an untrained run costs."""
    batches = run.data.pipeline.batches(0)
    batch = next(batches)
    batches.close()
    side, views = run.method.size, {"PiCIE": 2, "DeepCluster": 1}[type(run.method).__name__]
    images = jnp.zeros((views * len(batch.index), side, side, 3), jnp.uint8)
    label = jax.jit(lambda image: run.method.predict(run.untrained, image).features)
    label_seconds = [seconds(lambda: label(images), 5) for _ in range(2)][1]
    size = sum(x.nbytes for x in jax.tree.leaves(run.untrained.extra["snapshot"]))
    state = init_optimiser(jax.tree.map(jnp.copy, run.untrained), run.transforms)
    step = compile_step(make_step(run.method, run.transforms, run.key), run.mesh, state)

    def one_step() -> object:
        nonlocal state
        state, metrics = step(state, batch)
        return metrics

    step_seconds = [seconds(one_step, 5) for _ in range(2)][1]
    return {
        "bytes": size,
        "forward_seconds": round(label_seconds, 4),
        "step_seconds": round(step_seconds, 4),
        "share": round(label_seconds / step_seconds, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", required=True, choices=["scenes", "camvid", "dubai"])
    parser.add_argument("--root", help="data.root, for data sets on disk")
    parser.add_argument("--workdir", required=True, type=pathlib.Path)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--snapshot", action="store_true")
    parser.add_argument("--transfer", action="store_true")
    parser.add_argument("--steps", type=int, default=62, help="of --transfer")
    arguments = parser.parse_args()
    if arguments.transfer:
        transfer(arguments)
        return
    if arguments.snapshot:
        for method in [m for m in arguments.methods.split(",") if m in ("picie", "mdc")]:
            run = Run(config_of(method, arguments, 0), arguments.workdir / f"snapshot_{method}")
            print(json.dumps({method: snapshot_cost(run)}), flush=True)
        return
    found: dict[str, dict[str, list[float]]] = {}
    spent: dict[str, list[dict[str, float]]] = {}
    for seed in seeds_of(arguments):
        for method in arguments.methods.split(","):
            place = arguments.workdir / f"{method}_{arguments.data}_{seed}"
            run = finished(config_of(method, arguments, seed), place)
            spent.setdefault(method, []).append(times(run))
            for result in load_results(run.workdir / "evaluation"):
                scores = found.setdefault(result.name, {name: [] for name in SCORES})
                for name in SCORES:
                    scores[name].append(round(result.scalars[name], 4))
        print(json.dumps({"seeds_done": seed + 1, "scores": found, "times": spent}), flush=True)


if __name__ == "__main__":
    main()
