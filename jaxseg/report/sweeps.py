"""The picture of a sweep over K."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure


def sweep_figure(record: Mapping[str, Any]) -> Figure:
    """Each criterion by K beside clouds without clusters, and what the rule makes of all three.

    Args:
        record: what sweep_k.json holds, as `Sweep.record` returns it.
    """
    names = list(record["criteria"])
    figure = Figure(figsize=(3.3 * (len(names) + 1), 3.4), layout="constrained")
    *axes, last = figure.subplots(1, len(names) + 1)
    for axis, name in zip(axes, names, strict=True):
        _criterion(axis, record, name)
    trials = record["trials"]
    last.plot([t["clusters"] for t in trials], _values(trials, "score"), "o-", color="C2", ms=4)
    last.set_title("mean share of largest excess", fontsize=10)
    last.set_ylim(top=1.05)
    best = record["recommended"]
    for axis in (*axes, last):
        axis.set_xscale("log")
        axis.set_xticks([t["clusters"] for t in trials], [str(t["clusters"]) for t in trials])
        axis.minorticks_off()
        axis.tick_params(labelsize=7)
        axis.set_xlabel("K", fontsize=9)
        axis.grid(alpha=0.3)
        if best:
            axis.axvline(best, color="C3", linestyle="--", linewidth=1)
    figure.suptitle(record["verdict"], fontsize=10)
    return figure


def _criterion(axis: Axes, record: Mapping[str, Any], name: str) -> None:
    """Draws a criterion and its values on clouds without clusters, from least to greatest."""
    trials = record["trials"]
    numbers = [t["clusters"] for t in trials]
    references = np.array([t["references"][name] for t in trials], np.float64)
    axis.fill_between(
        numbers, references.min(axis=1), references.max(axis=1), color="0.6", alpha=0.4
    )
    axis.plot(numbers, references.mean(axis=1), color="0.5", label="without clusters")
    axis.plot(numbers, _values(trials, name), "o-", ms=4, label="measured")
    axis.set_title(name if name in record["voters"] else f"{name} (no structure)", fontsize=10)
    axis.legend(fontsize=7)


def _values(trials: list[Mapping[str, Any]], name: str) -> np.ndarray:
    return np.array([t[name] for t in trials], np.float64)  # None becomes nan
