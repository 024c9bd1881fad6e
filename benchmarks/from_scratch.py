"""Everything that needs no pretrained weights, trained for the same time, in one table.

python benchmarks/from_scratch.py --data=scenes --seconds=120 --seeds=0,1,2 --workdir=RUNS
python benchmarks/from_scratch.py --data=camvid --root=DIR --seconds=120 --seeds=0 --workdir=RUNS
python benchmarks/from_scratch.py --data=dubai --root=DIR --seconds=120 --seeds=0 --workdir=RUNS

Trains configs/METHOD_DATA.py (on Dubai, METHOD_camvid.py for methods that have none) for
`--seconds` of training each, compiling not counted, a run a method and seed below RUNS; finished
ones are not repeated. `--set=METHOD.FIELD=VALUE` sets a field of a config, such as
`--set=san.method.features=1024`: how wide the networks are. Writes RUNS/DATA.json, RUNS/DATA.md,
RUNS/DATA.png and RUNS/DATA_samples.png, and prints the table.

Schedules are constant, for nobody knows how many steps fit; HSG and SegSort so lose the fall of
their rate. Methods that name clusters themselves are scored by their own labels; HSG and SegSort,
which do not, by k-means on their features, as the untrained network (InfoSeg's) and colour are.
Labels choose nothing. Test images have the size that each config gives them. Memory is the largest
that the process of a run took.
"""

import argparse
import ast
import dataclasses
import importlib
import importlib.util
import json
import pathlib
import statistics
import subprocess
import sys
import time

import matplotlib
import numpy as np
from ml_collections import ConfigDict

from configs import infoseg_base
from jaxseg import report
from jaxseg.record import load_results
from jaxseg.writer import read_metrics, write_atomic

matplotlib.use("agg")
from matplotlib import pyplot as plt

# Method -> the config that it is trained by, and the entry of `evals` that is its score.
METHODS = {
    "infoseg": ("infoseg", "infoseg"),
    "san": ("san", "san"),
    "iic": ("iic", "iic"),
    "picie": ("picie", "picie"),
    "mdc": ("mdc", "mdc"),
    "segsort": ("segsort", "segsort_kmeans"),
    "hsg": ("hsg", "hsg_kmeans"),
    "untrained": ("infoseg", "untrained"),
    "colour": ("infoseg", "colour_kmeans"),
}
UNTRAINED = ("untrained", "colour")
COLUMNS = {
    "accuracy": "Acc",
    "miou": "mIoU",
    "many_to_one_accuracy": "many-to-one",
    "effective_clusters": "clusters in use",
    "alignment": "alignment",
    "uniformity": "uniformity",
    "prototype_uniformity": "of prototypes",
    "prototype_cosine": "cosine of prototypes",
}
PERCENT = ("accuracy", "miou", "many_to_one_accuracy")
CLUSTERS = {"scenes": 8, "camvid": 11, "dubai": 5}


def config_of(method: str, arguments: argparse.Namespace, seed: int) -> ConfigDict:
    """Returns the config of one run, with the one evaluation that is its score."""
    name, entry = METHODS[method]
    config = _load(name, arguments.data)
    k = CLUSTERS[arguments.data]
    if entry in ("untrained", f"{name}_kmeans"):
        model = "untrained" if method in UNTRAINED else "trained"
        score = infoseg_base.cluster_probe(model, k, "spherical")
    elif entry == "colour_kmeans":
        score = infoseg_base.cluster_probe("colour", k, "euclidean")
    else:
        score = config.evals[entry]
    score.alignment = True
    config.evals = ConfigDict({entry: score})
    config.train.update(
        {"seed": seed, "epochs": 0, "steps": 1_000_000, "seconds": arguments.seconds}
    )
    config.train.update({"monitor_every": 0, "save_every": 1_000_000, "log_every": 5})
    config.optim.schedule = "constant"
    if arguments.root:
        config.data.root = arguments.root
    for words in arguments.set:
        path, _, value = words.partition("=")
        owner, _, field = path.partition(".")
        if owner == method:
            config.update_from_flattened_dict({field: ast.literal_eval(value)})
    return config


def _load(name: str, data: str) -> ConfigDict:
    """Returns configs/NAME_DATA.py; without one for Dubai, CamVid's network with Dubai's data."""
    if importlib.util.find_spec(f"configs.{name}_{data}"):
        return importlib.import_module(f"configs.{name}_{data}").get_config()
    config = importlib.import_module(f"configs.{name}_camvid").get_config()
    if "clusters" in config.method:
        config.method.clusters = CLUSTERS[data]
    config.data.name = data
    config.data.batch_size = 12
    return config


def train(method: str, arguments: argparse.Namespace, seed: int) -> None:
    """Trains and scores one run; writes its time and memory."""
    # Here, so that the process that starts the runs needs no device.
    import resource

    from jaxseg.run import Run

    place = place_of(method, arguments, seed)
    run = Run(config_of(method, arguments, seed), place)
    began = time.perf_counter()
    if method not in UNTRAINED:
        run.fit()
    fitted = time.perf_counter()
    run.evaluate(pictures=False)
    spent = {
        "train_seconds": round(fitted - began, 1),  # with compiling
        "eval_seconds": round(time.perf_counter() - fitted, 1),
        "steps": run.final.latest() or 0,
        "memory_MB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }
    write_atomic(place / "spent.json", json.dumps(spent) + "\n")


def place_of(method: str, arguments: argparse.Namespace, seed: int) -> pathlib.Path:
    """Returns the work directory of a run."""
    return arguments.workdir / f"{method}_{arguments.data}_{arguments.seconds}s_{seed}"


def rows(arguments: argparse.Namespace) -> dict[str, list[dict[str, float]]]:
    """Returns the scores of the finished runs, by method."""
    found: dict[str, list[dict[str, float]]] = {}
    for method in arguments.methods.split(","):
        for seed in map(int, arguments.seeds.split(",")):
            place = place_of(method, arguments, seed)
            if (place / "spent.json").exists():
                (result,) = load_results(place / "evaluation")
                spent = json.loads((place / "spent.json").read_text())
                row = {"seed": seed} | result.scalars | spent
                found.setdefault(method, []).append(row)
    return found


def table(found: dict[str, list[dict[str, float]]]) -> str:
    """Returns a Markdown table, the mean over seeds and behind it the sample deviation."""

    def cell(some: list[dict[str, float]], name: str) -> str:
        factor = 100 if name in PERCENT else 1
        values = [factor * row[name] for row in some]
        digits = 1 if name in PERCENT or name == "effective_clusters" else 2
        shown = f"{statistics.mean(values):.{digits}f}"
        return shown + (f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else "")

    heads = ["", *COLUMNS.values(), "steps", "train s", "eval s", "memory MB", "seeds"]
    lines = [heads, ["---"] * len(heads)]
    for method, some in found.items():
        means = [
            f"{statistics.mean(row[name] for row in some):.0f}"
            for name in ("steps", "train_seconds", "eval_seconds", "memory_MB")
        ]
        seeds = ", ".join(str(row["seed"]) for row in some)
        lines.append([method, *(cell(some, name) for name in COLUMNS), *means, seeds])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def figure(found: dict[str, list[dict[str, float]]], arguments: argparse.Namespace) -> None:
    """Draws accuracy by method, alignment against uniformity, and the losses."""
    plot, axes = plt.subplots(1, 3, figsize=(15, 4))
    for i, (method, some) in enumerate(found.items()):
        style = {"color": f"C{i}", "label": method}
        axes[0].plot([i] * len(some), [100 * row["accuracy"] for row in some], "o", **style)
        aligned = [row["alignment"] for row in some]
        axes[1].plot([row["uniformity"] for row in some], aligned, "o", **style)
        if method not in UNTRAINED:
            lines = read_metrics(place_of(method, arguments, some[0]["seed"]) / "metrics.jsonl")
            points = np.array([(r["step"], r["train/loss"]) for r in lines if "train/loss" in r])
            if len(points):
                steps, losses = points.T
                axes[2].plot(steps, (losses - losses.min()) / np.ptp(losses), **style)
    axes[0].set_xticks(range(len(found)), found, rotation=45)
    axes[0].set_ylabel("Hungarian accuracy, %")
    axes[1].set(xlabel="uniformity of pixels", ylabel="alignment with prototypes")
    axes[2].set(xlabel="step", ylabel="loss, from its lowest to its highest")
    for axis in axes[1:]:
        axis.legend(fontsize=8)
    plot.tight_layout()
    plot.savefig(arguments.workdir / f"{arguments.data}.png", dpi=110)


def pictures(arguments: argparse.Namespace) -> None:
    """Draws the same test images as each method segments them, first seed."""
    seed = int(arguments.seeds.partition(",")[0])
    results = [
        dataclasses.replace(result, name=method)
        for method in arguments.methods.split(",")
        for result in load_results(place_of(method, arguments, seed) / "evaluation")
    ]
    plot = report.figures.sample_grid(results, 6)
    plot.savefig(arguments.workdir / f"{arguments.data}_samples.png", dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", required=True, choices=list(CLUSTERS))
    parser.add_argument("--root", default="", help="data.root, for data sets on disk")
    parser.add_argument("--workdir", required=True, type=pathlib.Path)
    parser.add_argument("--seconds", type=int, default=120)
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--set", action="append", default=[], metavar="METHOD.FIELD=VALUE")
    parser.add_argument("--one", action="store_true", help="this method and seed, in this process")
    arguments = parser.parse_args()
    if arguments.one:
        train(arguments.methods, arguments, int(arguments.seeds))
        return
    for seed in arguments.seeds.split(","):
        for method in arguments.methods.split(","):
            if not (place_of(method, arguments, int(seed)) / "spent.json").exists():
                # A process each, for the memory is that of a process.
                words = [f"--methods={method}", f"--seeds={seed}", "--one"]
                subprocess.run([sys.executable, *sys.argv, *words], check=True)
    found = rows(arguments)
    write_atomic(arguments.workdir / f"{arguments.data}.json", json.dumps(found, indent=1) + "\n")
    shown = table(found)
    write_atomic(arguments.workdir / f"{arguments.data}.md", shown)
    figure(found, arguments)
    pictures(arguments)
    print(shown)


if __name__ == "__main__":
    main()
