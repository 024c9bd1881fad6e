"""SmooSeg's thresholds without labels: a grid of short runs, judged by what needs none.

beta_within and beta_across decide between segments and a collapse, and the published values suit
the published features alone. Lan et al. 2023 suggest to look at the penalties delta between the
cells of an image: they should be either small or large. Sarle's bimodality coefficient says how
much they are; but it is near 1 as well where almost everything has become one cluster, for then
there are only two values. So the pair of the highest coefficient is taken among the runs that keep
enough of their clusters in use.
"""

import dataclasses
import itertools
import math
import pathlib
from collections.abc import Callable, Mapping, Sequence

from ml_collections import ConfigDict

from jaxseg.core import UserError
from jaxseg.run import Run
from jaxseg.short_runs import short_run
from jaxseg.writer import read_metrics

# The released values lie on the grid: (-0.02, 0.5) COCO and Cityscapes, (0.1, 0.5) Potsdam, and
# near (0.3, 0.5) for DINOv2.
WITHIN = (-0.02, 0.1, 0.3)
ACROSS = (0.35, 0.5, 0.65, 0.8)

# (beta_within, beta_across) -> {"bimodality", "effective_clusters", "clusters"}, more if it likes.
Trainer = Callable[[float, float], Mapping[str, float]]


@dataclasses.dataclass(frozen=True)
class Trial:
    """What a short run with one pair of thresholds came to.

    Attributes:
        beta_within, beta_across: the pair.
        bimodality: Sarle's coefficient of the penalties within images, in [0, 1].
        effective_clusters: exp of the entropy of the predicted labels; clusters: K.
        collapsed: too few clusters are in use, or a number is not finite.
    """

    beta_within: float
    beta_across: float
    bimodality: float
    effective_clusters: float
    clusters: float
    collapsed: bool


@dataclasses.dataclass(frozen=True)
class Suggestion:
    """The trials of a grid, and the best of them; None where all collapsed."""

    trials: tuple[Trial, ...]
    best: Trial | None

    def table(self) -> str:
        """Returns the trials as lines for the terminal, the best first, collapsed ones last."""
        lines = ["beta_within  beta_across  bimodality  clusters in use"]
        for trial in sorted(self.trials, key=_rank):
            note = "  collapsed" if trial.collapsed else ""
            note = "  <- suggested" if trial is self.best else note
            used = f"{trial.effective_clusters:.1f} of {trial.clusters:.0f}"
            lines.append(
                f"{trial.beta_within:11.3f}  {trial.beta_across:11.3f}  {trial.bimodality:10.3f}  "
                f"{used:>15}{note}"
            )
        if self.best is None:
            lines.append(
                "Every pair collapsed: lower method.tau, train each trial for longer, or search "
                "other thresholds."
            )
        return "\n".join(lines)


def suggest(
    train: Trainer,
    within: Sequence[float] = WITHIN,
    across: Sequence[float] = ACROSS,
    least_entropy: float = 0.5,
    report: Callable[[Trial], None] = lambda _: None,
) -> Suggestion:
    """Trains once for every pair of the grid and returns the trials with the best of them.

    Args:
        train: a short run with these thresholds (within, across); what it measures is listed at
            `Trainer`.
        within, across: the grid.
        least_entropy: a run has collapsed where the entropy of its labels is below this share of
            log K, the entropy of K equal clusters: where it has fewer effective clusters than
            sqrt(K), by default. Classes of natural size leave even a perfect labelling well below
            K: CamVid's 11 classes are 6.0 effective ones (0.75 of log K).
        report: told of each trial when it is done.

    Raises:
        UserError: an empty grid, or `least_entropy` outside [0, 1].
    """
    if not within or not across:
        raise UserError("The grid of thresholds is empty; give one or more values of each.")
    if not 0 <= least_entropy <= 1:
        raise UserError(f"The least share of the entropy is {least_entropy}; it lies in [0, 1].")
    trials = []
    for beta_within, beta_across in itertools.product(within, across):
        found = train(beta_within, beta_across)
        numbers = [float(found[k]) for k in ("bimodality", "effective_clusters", "clusters")]
        bimodality, effective, clusters = numbers
        sound = all(map(math.isfinite, numbers)) and effective >= clusters**least_entropy
        trials.append(
            Trial(beta_within, beta_across, bimodality, effective, clusters, collapsed=not sound)
        )
        report(trials[-1])
    first = min(trials, key=_rank)
    return Suggestion(tuple(trials), None if first.collapsed else first)


def _rank(trial: Trial) -> tuple[bool, float]:
    """Sorts trials from best to worst; of equals the first in the grid stays first."""
    bimodality = trial.bimodality if math.isfinite(trial.bimodality) else -1.0
    return trial.collapsed, -bimodality


def search(
    config: ConfigDict,
    workdir: pathlib.Path,
    steps: int,
    within: Sequence[float] = WITHIN,
    across: Sequence[float] = ACROSS,
) -> Suggestion:
    """Suggests thresholds for a SmooSeg config by `steps` steps of training with each pair.

    The runs lie below `workdir`; those that are there already are not repeated. They share the
    features in `data.tokens`, or in `workdir` where the config names no folder.

    Raises:
        UserError: the config is not one of SmooSeg, or what `Run` raises.
    """
    if config.method.name != "smooseg":
        raise UserError(
            f"--mode=suggest_thresholds is for the method smooseg, not {config.method.name!r}."
        )

    def train(beta_within: float, beta_across: float) -> Mapping[str, float]:
        place = trial_place(workdir, beta_within, beta_across)
        Run(trial_config(config, workdir, steps, beta_within, beta_across), place).fit()
        return _measured(place)

    return suggest(train, within, across, report=lambda trial: print(f"tried {trial}", flush=True))


def trial_place(workdir: pathlib.Path, beta_within: float, beta_across: float) -> pathlib.Path:
    """Returns the work directory of one pair of thresholds."""
    return workdir / f"within{beta_within:g}_across{beta_across:g}"


def trial_config(
    config: ConfigDict, workdir: pathlib.Path, steps: int, beta_within: float, beta_across: float
) -> ConfigDict:
    """Returns the config of one short run: nothing of it reads labels."""
    trial = short_run(config, steps)
    trial.method.update(beta_within=beta_within, beta_across=beta_across)
    trial.data.tokens = config.data.tokens or str(workdir / "tokens")
    return trial


def _measured(place: pathlib.Path) -> Mapping[str, float]:
    """Returns what a finished run's metrics say at the end of it."""
    rows = read_metrics(place / "metrics.jsonl")

    def last(name: str) -> float:
        found = [row[name] for row in rows if name in row]
        return math.nan if not found or found[-1] is None else found[-1]

    return {
        "bimodality": last("train/bimodality"),
        "effective_clusters": last("monitor/effective_clusters"),
        "clusters": last("monitor/clusters"),
    }
