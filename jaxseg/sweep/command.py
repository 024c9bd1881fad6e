"""--mode=sweep_k: look for the number of clusters without labels.

A method without a classifier of its own is probed (`sweep.probing`), one with K among its fields is
trained with each K for a while (`sweep.training`).
"""

import inspect
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from jaxseg.core import UserError
from jaxseg.methods import METHODS
from jaxseg.processes import is_first
from jaxseg.report.sweeps import sweep_figure
from jaxseg.run import Run
from jaxseg.sections import pick
from jaxseg.sweep.measures import Settings
from jaxseg.sweep.probing import can_be_probed, probe_run
from jaxseg.sweep.rule import Sweep, Trial
from jaxseg.sweep.training import train_runs
from jaxseg.writer import write_atomic


def parse_clusters(words: Sequence[str]) -> tuple[int, ...]:
    """Returns the numbers of --sweep_clusters; raises UserError for a word that is none."""
    for word in words:
        if not word.strip().isdecimal():
            raise UserError(f"--sweep_clusters names {word!r}; give numbers, as in 4,8,16.")
    return tuple(sorted({int(word) for word in words}))


def sweep_config(config: ConfigDict, workdir: pathlib.Path, settings: Settings) -> Sweep:
    """Sweeps over K the way that fits; keeps sweep_k.json and report/sweep_k.png in `workdir`.

    Raises:
        UserError: there is nothing to sweep over, or what `probe_run` and `train_runs` raise.
    """

    def report(trial: Trial) -> None:
        print(trial, flush=True)

    method = pick("method.name", config.method.get("name", ""), METHODS)
    if not settings.entry and "clusters" in inspect.signature(method).parameters:
        sweep, protocol = train_runs(config, workdir / "sweep_k", settings, report)
    else:
        run = Run(config, workdir, "sweep_k")
        name = settings.entry or _first_entry(run)
        pick("--sweep_entry", name, run.evaluators)
        sweep, protocol, _ = probe_run(run, name, settings, report)
    if is_first():
        keep(workdir, sweep, protocol)
    return sweep


def _first_entry(run: Run) -> str:
    for name, (section, evaluator) in run.evaluators.items():
        if section.model == "trained" and can_be_probed(evaluator.probe):
            return name
    raise UserError(
        "There is nothing to sweep over: the method has no field `clusters`, and no entry of evals "
        "has probe='cluster', metric='spherical' and model='trained'; add one."
    )


def keep(workdir: pathlib.Path, sweep: Sweep, protocol: Mapping[str, Any]) -> None:
    """Writes sweep_k.json and report/sweep_k.png into a work directory."""
    record = sweep.record() | {"protocol": dict(protocol)}
    (workdir / "report").mkdir(parents=True, exist_ok=True)
    sweep_figure(record).savefig(workdir / "report" / "sweep_k.png", dpi=110)
    write_atomic(workdir / "sweep_k.json", json.dumps(record, indent=2) + "\n")
