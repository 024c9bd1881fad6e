"""SmooSeg, STEGO and k-means on one frozen backbone, with and without CRF, as JSON.

python benchmarks/frozen.py --data=camvid --root=DIR --weights=FILE --workdir=RUNS --seeds=0,1,2

Uses configs/smooseg_tiny_DATA.py and configs/stego_tiny_DATA.py, SmooSeg with the thresholds of
--thresholds=WITHIN,ACROSS (of --mode=suggest_thresholds, say). Below RUNS lie one run for each
method and seed, with pictures of seed 0, and the features that they share; finished ones are not
repeated. K-means on the features and on colour is scored beside SmooSeg alone: it does not depend
on the method. `minutes` are those that training and evaluation of the runs that were not there yet
took, by method.
"""

import argparse
import importlib
import json
import pathlib
import time

from ml_collections import ConfigDict

from jaxseg.record import load_results
from jaxseg.run import Run

SCORES = ("accuracy", "miou", "many_to_one_accuracy", "effective_clusters")


def config_of(method: str, arguments: argparse.Namespace, seed: int) -> ConfigDict:
    """Returns the config of one run."""
    config = importlib.import_module(f"configs.{method}_tiny_{arguments.data}").get_config()
    config.data.root = arguments.root
    config.data.tokens = str(arguments.workdir / "features")
    config.method.weights = arguments.weights
    config.train.seed = seed
    config.train.steps = arguments.steps or config.train.steps
    config.train.save_every = config.train.steps
    if method == "smooseg" and arguments.thresholds:
        within, across = map(float, arguments.thresholds.split(","))
        config.method.update(beta_within=within, beta_across=across)
    for name in ("backbone_kmeans", "backbone_kmeans_crf", "colour_kmeans"):
        config.evals[name].fit_limit = 100
    if method == "stego":
        config.evals = ConfigDict({name: config.evals[name] for name in ("stego", "stego_crf")})
    return config


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", required=True, choices=["camvid", "dubai"])
    for name in ("root", "weights"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--workdir", required=True, type=pathlib.Path)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--steps", type=int, default=0, help="0 = as the configs say")
    parser.add_argument("--thresholds", default="")
    arguments = parser.parse_args()
    found: dict[str, dict[str, list[float]]] = {}
    minutes: dict[str, list[float]] = {}
    for seed in map(int, arguments.seeds.split(",")):
        for method in ("smooseg", "stego"):
            place = arguments.workdir / f"{method}_{arguments.data}_{seed}"
            config = config_of(method, arguments, seed)
            if not all((place / "evaluation" / f"{name}.json").exists() for name in config.evals):
                began = time.perf_counter()
                run = Run(config, place)
                run.fit()
                run.evaluate(pictures=seed == 0)
                took = (time.perf_counter() - began) / 60
                minutes.setdefault(method, []).append(round(took, 1))
            for result in load_results(place / "evaluation"):
                scores = found.setdefault(result.name, {name: [] for name in SCORES})
                for name in SCORES:
                    scores[name].append(round(result.scalars[name], 4))
        print(json.dumps({"seed": seed, "minutes": minutes, "scores": found}), flush=True)


if __name__ == "__main__":
    main()
