"""Several runs on one page: scores side by side, curves over each other, the same test images."""

import dataclasses
from collections.abc import Mapping, Sequence

from jaxseg.record import Result, Table
from jaxseg.report import figures
from jaxseg.report.contents import (
    MONITORED,
    NOT_COMPARED,
    as_text,
    classes_of,
    metric_names,
    tables_of,
    training_curves,
)  # fmt: skip
from jaxseg.report.parts import Facts, Folded, Part, Picture, Section
from jaxseg.report.recorded import Recorded, is_baseline
from jaxseg.report.viewer import Named, viewers
from jaxseg.sections import flatten


def sections(runs: Mapping[str, Recorded]) -> list[Section]:
    """Returns the sections of the page that compares runs, by name."""
    named = _named(runs)
    trained = [one for one in named if not is_baseline(one.result)]
    note = "Those that several of the runs show, at the same size."
    return [
        _scores([_renamed(one) for one in named]),
        Section("Test images", viewers(trained, runs=2), note),
        classes_of([_renamed(one) for one in trained]),
        _curves(runs),
        _differences(runs),
    ]


def summary(runs: Mapping[str, Recorded]) -> Facts:
    """What the page says of the runs in front of all: where each of them lies."""
    return Facts([(name, str(run.workdir)) for name, run in runs.items()])


def names_of(runs: Sequence[Recorded]) -> list[str]:
    """Returns what the runs are called: folders, or paths where two folders have one name."""
    names = [run.name for run in runs]
    return names if len(set(names)) == len(names) else [str(run.workdir) for run in runs]


def _named(runs: Mapping[str, Recorded]) -> list[Named]:
    """Returns all results under the names of run and result, those of trained models first."""
    found = [
        Named(f"{name}: {result.name}", result, name)
        for name, run in runs.items()
        for result in run.results
    ]
    return sorted(found, key=lambda one: is_baseline(one.result))


def _renamed(one: Named) -> Result:
    return dataclasses.replace(one.result, name=one.name)


def _scores(results: Sequence[Result]) -> Section:
    note = NOT_COMPARED
    splits = sorted({_scored_on(result) for result in results} - {""})
    if len(splits) > 1:
        note += f" Nor are those on other images; here are some on {' and on '.join(splits)}."
    return Section("Scores", tables_of(results), note)


def _scored_on(result: Result) -> str:
    told = result.protocol
    return f"{told['data']} {told['test_split']}" if "test_split" in told else ""


def _curves(runs: Mapping[str, Recorded]) -> Section:
    rows = {name: run.metrics for name, run in runs.items() if run.metrics}
    parts: list[Part] = []
    everything = [row for some in rows.values() for row in some]
    if terms := training_curves(everything):
        parts.append(Picture.drawn("curves", figures.curves(rows, terms), "loss terms by step"))
    if names := [name for name in MONITORED if name in metric_names(everything)]:
        figure = figures.curves(rows, names)
        parts.append(Picture.drawn("monitor", figure, "clusters in use by step"))
    return Section("Training", parts)


def _differences(runs: Mapping[str, Recorded]) -> Section:
    flat = {name: flatten(run.config) for name, run in runs.items()}
    parts: list[Part] = []
    keys = list(dict.fromkeys(key for fields in flat.values() for key in fields))
    for folded in (False, True):
        rows = []
        for key in keys:
            values = [as_text(fields.get(key, "-")) for fields in flat.values()]
            if key.startswith("evals.") == folded and len(set(values)) > 1:
                rows.append((key, values))
        if rows:
            table = Table(list(flat), rows)
            parts.append(Folded("evals", [table]) if folded else table)
    return Section("What differs in the configs", parts, "- = the config has no such field.")
