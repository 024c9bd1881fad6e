"""How far the thresholds that are suggested without labels lie from the best by labels, as JSON.

python benchmarks/thresholds.py --data=camvid --root=DIR --weights=FILE --workdir=RUNS

Searches SmooSeg's thresholds as --mode=suggest_thresholds does with configs/smooseg_tiny_DATA.py
(runs that are in RUNS already are not repeated), then scores every trial on the validation split,
without CRF and without averaging over mirror images.
"""

import argparse
import importlib
import json
import pathlib

from ml_collections import ConfigDict

from jaxseg import thresholds
from jaxseg.run import Run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", required=True, choices=["camvid", "dubai"])
    for name in ("root", "weights"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--workdir", required=True, type=pathlib.Path)
    parser.add_argument("--steps", type=int, default=300)
    arguments = parser.parse_args()
    config = importlib.import_module(f"configs.smooseg_tiny_{arguments.data}").get_config()
    config.data.root = arguments.root
    config.method.weights = arguments.weights
    found = thresholds.search(config, arguments.workdir, arguments.steps)
    rows = []
    for trial in found.trials:
        pair = trial.beta_within, trial.beta_across
        scored = thresholds.trial_config(config, arguments.workdir, arguments.steps, *pair)
        scored.method.flip_average = False
        scored.train.samples = 1
        scored.evals = ConfigDict({"smooseg": config.evals.smooseg})
        place = thresholds.trial_place(arguments.workdir, *pair)
        (result,) = Run(scored, place, "evaluate").evaluate(pictures=False)
        scores = {name: round(result.scalars[name], 4) for name in ("accuracy", "miou")}
        rows.append(vars(trial) | scores)
    chosen = next(
        (row for row in rows if found.best and row.items() >= vars(found.best).items()), None
    )
    best = max(rows, key=lambda row: row["accuracy"])
    print(json.dumps({"trials": rows, "suggested": chosen, "best_accuracy": best}, indent=2))


if __name__ == "__main__":
    main()
