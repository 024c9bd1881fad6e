"""How good the number of clusters is that a sweep recommends, as JSON and as a Markdown table.

python benchmarks/sweep_k.py probe RUN... --out=DIR
python benchmarks/sweep_k.py train --config=infoseg_scenes --clusters=2,4,8,16 --out=DIR

`probe` sweeps as --mode=sweep_k does over each finished run, by the config in its folder, where
nothing is written; then it scores the clusterings of every seed on the test split: mean IoU and
pixel accuracy, clusters matched one to one with classes. `train` does the same with short runs of a
config, which lie below DIR; its fields are set by --set="method.weights='FILE'" and the like. The
labels come in after the recommendation, which knows none of them; both are kept in DIR/NAME.json
with the picture.
"""

import argparse
import ast
import importlib
import json
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from jaxseg.core import Batch, Output
from jaxseg.evaluate import Evaluator
from jaxseg.evaluation import matching, scores
from jaxseg.evaluation.outputs import Predict, label_map
from jaxseg.record import load_results
from jaxseg.report.sweeps import sweep_figure
from jaxseg.run import Run
from jaxseg.sweep.command import parse_clusters
from jaxseg.sweep.measures import CLUSTERS, Settings
from jaxseg.sweep.probing import can_be_probed, probe_run
from jaxseg.sweep.rule import CRITERIA
from jaxseg.sweep.training import train_runs, trial_config, trial_place
from jaxseg.trained import as_tuples
from jaxseg.writer import write_atomic

Logits = Callable[[Output], Any]


def labelled(
    evaluator: Evaluator, predict: Predict, namings: Mapping[tuple[int, int], Logits]
) -> dict[tuple[int, int], dict[str, float]]:
    """Returns accuracy and mean IoU on the test split by (K, seed), of one pass over it."""
    counts = {pair: scores.Confusion.zeros(pair[0], len(evaluator.classes)) for pair in namings}
    for batch, output in _outputs(evaluator, predict):
        size = batch.first_view.shape[1:3]
        for pair, logits in namings.items():
            found = label_map(logits(output), *size, evaluator.upsample)
            counts[pair] = counts[pair].update(found, batch.label[evaluator.label])
    return {
        pair: scores.summarise(one.counts, matching.hungarian(one.counts), evaluator.absent)
        for pair, one in counts.items()
    }


def _outputs(evaluator: Evaluator, predict: Predict) -> Iterator[tuple[Batch, Output]]:
    for batch in evaluator.test_stream():
        yield batch, predict(batch.view(0))


def probe(arguments: argparse.Namespace) -> None:
    """Sweeps over the features of finished runs."""
    settings = Settings(clusters=arguments.clusters, seeds=arguments.seeds)
    for workdir in arguments.runs:
        sections = json.loads((workdir / "config.json").read_text())
        run = Run(ConfigDict(as_tuples(sections)), workdir, "sweep_k")
        models = ("trained", "untrained") if arguments.untrained else ("trained",)
        for name, (section, evaluator) in run.evaluators.items():
            if not can_be_probed(evaluator.probe) or section.model not in models:
                continue
            began = time.perf_counter()
            sweep, protocol, centroids = probe_run(run, name, settings)
            seconds = time.perf_counter() - began
            namings = {
                (k, seed): lambda output, e=evaluator, c=each: e.probe.scores(
                    {"centroids": c}, output
                )
                for k, several in centroids.items()
                for seed, each in enumerate(several)
            }
            scored = labelled(evaluator, run.predictor(section.model), namings)
            title = f"{workdir.name}_{name}"
            conclude(arguments.out, title, sweep, protocol, scored, evaluator.classes, seconds)


def train(arguments: argparse.Namespace) -> None:
    """Sweeps by short runs of a config."""
    config = importlib.import_module(f"configs.{arguments.config}").get_config()
    if arguments.root:
        config.data.root = arguments.root
    for words in arguments.set:
        field, _, value = words.partition("=")
        config.update_from_flattened_dict({field: ast.literal_eval(value)})
    settings = Settings(clusters=arguments.clusters, seeds=arguments.seeds, steps=arguments.steps)
    began = time.perf_counter()
    places = arguments.out / arguments.config
    sweep, protocol = train_runs(config, places, settings, lambda t: print(t, flush=True))
    seconds = time.perf_counter() - began
    scored: dict[tuple[int, int], dict[str, float]] = {}
    classes: tuple[str, ...] = ()
    for k in settings.clusters:
        for seed in range(settings.seeds):
            trial = trial_config(config, settings.steps, k, seed)
            trial.evals = ConfigDict({"own": {"probe": "argmax", "source": "logits"}})
            run = Run(trial, trial_place(places, k, seed), "evaluate")
            run.evaluate(pictures=False)
            (result,) = load_results(run.workdir / "evaluation")
            scored[k, seed], classes = result.scalars, result.classes
    conclude(arguments.out, arguments.config, sweep, protocol, scored, classes, seconds)


def conclude(
    out: pathlib.Path, title: str, sweep, protocol, scored, classes, seconds: float
) -> None:
    """Keeps the sweep beside the labelled scores, and prints a table of both."""
    record = sweep.record() | {"protocol": protocol, "classes": classes}
    record["seconds"] = round(seconds, 1)
    record["labelled"] = {f"{k}/{seed}": found for (k, seed), found in scored.items()}
    out.mkdir(parents=True, exist_ok=True)
    sweep_figure(record).savefig(out / f"{title}.png", dpi=110)
    write_atomic(out / f"{title}.json", json.dumps(record, indent=2) + "\n")
    print(f"\n{title}: {len(classes)} classes, {sweep.verdict} {seconds:.0f} s\n")
    heads = [*CRITERIA, "score", "mIoU", "Acc"]
    print(f"| K | {' | '.join(heads)} |\n|{'---|' * (len(heads) + 1)}")
    for trial in sweep.trials:
        own = [found for (k, _), found in scored.items() if k == trial.clusters]
        cells = [f"{trial.found[c]:.3f} ({trial.excess(c):+.3f})" for c in CRITERIA]
        cells.append(f"{sweep.scores[trial.clusters]:.2f}")
        for score in ("miou", "accuracy"):
            values = [100 * found[score] for found in own]
            cells.append(f"{np.mean(values):.1f} ± {np.std(values, ddof=1):.1f}")
        mark = "**" if trial.clusters == sweep.best else ""
        print(f"| {mark}{trial.clusters}{mark} | {' | '.join(cells)} |")
    print(flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("probe")
    one.set_defaults(run=probe)
    one.add_argument("runs", nargs="+", type=pathlib.Path)
    one.add_argument("--untrained", action="store_true", help="and the network as it was drawn")
    two = commands.add_parser("train")
    two.set_defaults(run=train)
    two.add_argument("--config", required=True, help="a file's name in configs, without .py")
    two.add_argument("--root", default="", help="data.root, for data sets on disk")
    two.add_argument("--set", action="append", default=[], metavar="SECTION.FIELD=VALUE")
    two.add_argument("--steps", type=int, default=300)
    for command in (one, two):
        command.add_argument("--out", required=True, type=pathlib.Path)
        command.add_argument("--seeds", type=int, default=3)
        command.add_argument("--clusters", default=",".join(map(str, CLUSTERS)))
    arguments = parser.parse_args()
    arguments.clusters = parse_clusters(arguments.clusters.split(","))
    arguments.run(arguments)


if __name__ == "__main__":
    main()
