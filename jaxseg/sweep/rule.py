"""How many clusters, where nobody knows: what a sweep over K found, and the rule that picks one.

No criterion that needs no labels can be taken at its word. The silhouette likes two clusters, for
few and far ones are easily told apart; the agreement of several runs likes few as well, because
there is less to disagree about; and the modularity of a graph of nearest neighbours has a favourite
of its own, some four to six, where there is nothing to find. So each is compared with what k-means
makes, with as many clusters, of points that have none: one cloud with the mean and the covariance
of the features, a Gaussian on the sphere. What is left above that, the excess, is what is read:

    A criterion shows structure where its largest excess over all K is above three times its noise,
    the standard deviation of the criterion over the clouds without clusters. Unless two of the
    three criteria do, nothing is recommended. Otherwise each criterion that does is divided by its
    largest excess, and the K with the highest mean of these shares is recommended, of equals the
    smallest. Runs that collapsed take no part.

The rule was settled on synthetic clusters, before any of it was compared with labels. It adapts the
gap statistic (Tibshirani et al. 2001) to three criteria.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxseg.core import UserError

CRITERIA = {
    "silhouette": "mean silhouette by cosine distance (Rousseeuw 1987), mean over seeds",
    "stability": "mean adjusted Rand index (Hubert & Arabie 1985) of pairs of seeds, same cells",
    "modularity": "of the graph of nearest cells by cosine (Newman & Girvan 2004), mean over seeds",
}
RULE = (
    "excess = criterion - its mean over clouds without clusters (a Gaussian on the sphere with the "
    "features' mean and covariance, k-means with as many clusters); a criterion shows structure "
    "where its largest excess is above 3 times its standard deviation over such clouds; unless 2 "
    "of 3 do, nothing is recommended; else the K of the highest mean of excess / largest excess "
    "over those that do, of equals the smallest; runs that collapsed take no part"
)
_NOISES = 3.0  # a largest excess of so many standard deviations is structure
_VOTES = 2  # of the criteria have to show it
_NEAR = 0.1  # a score so little below the best is said to be nearly as good


@dataclasses.dataclass(frozen=True)
class Trial:
    """What one K came to.

    Attributes:
        clusters: K.
        found: by criterion, its value, or nan where it has none.
        references: by criterion, its values on clouds without clusters.
        effective_clusters: exp of the entropy of the clusters' sizes, the mean over seeds.
        collapsed: the runs keep too few of their clusters in use.
    """

    clusters: int
    found: Mapping[str, float]
    references: Mapping[str, tuple[float, ...]]
    effective_clusters: float
    collapsed: bool = False

    def excess(self, criterion: str) -> float:
        """Returns how far the criterion is above its mean on clouds without clusters."""
        return self.found[criterion] - float(np.mean(self.references[criterion]))

    def __str__(self) -> str:
        """In a line: each criterion, and in brackets its excess."""
        cells = [f"{c} {self.found[c]:.3f} ({self.excess(c):+.3f})" for c in CRITERIA]
        return f"K = {self.clusters}: {', '.join(cells)}"

    @property
    def sound(self) -> bool:
        """Whether it takes part: it did not collapse, and every criterion has a value."""
        return not self.collapsed and all(math.isfinite(self.excess(c)) for c in CRITERIA)


@dataclasses.dataclass(frozen=True)
class Sweep:
    """The trials of a sweep in the order of K, and what the rule makes of them.

    Attributes:
        noise: by criterion, the standard deviation over the clouds, pooled over all K.
        voters: the criteria that show structure.
        scores: by K, the mean share of the voters; nan for a trial that takes no part.
        best: the recommended K; None: there is none.
    """

    trials: tuple[Trial, ...]
    noise: Mapping[str, float]
    voters: tuple[str, ...]
    scores: Mapping[int, float]
    best: int | None

    @property
    def near(self) -> tuple[int, ...]:
        """The other K whose score is hardly below that of the best."""
        least = self.scores.get(self.best or 0, math.nan) - _NEAR
        return tuple(k for k, score in self.scores.items() if k != self.best and score >= least)

    @property
    def verdict(self) -> str:
        """What is recommended, in a sentence or two."""
        if not any(trial.sound for trial in self.trials):
            return "No K is recommended: every one of them collapsed or could not be measured."
        if self.best is None:
            return (
                "No K is recommended: fewer than two of the three criteria are clearly above those "
                "of a cloud without clusters."
            )
        near = ", ".join(str(k) for k in self.near)
        hint = f" Nearly as good: {near}." if near else ""
        ends = {self.trials[0].clusters: "smaller", self.trials[-1].clusters: "larger"}
        if more := ends.get(self.best):
            hint += f" It is an end of the sweep: try {more} numbers as well."
        return f"K = {self.best} is recommended, by {', '.join(self.voters)}.{hint}"

    def table(self) -> str:
        """Returns the trials as lines for the terminal: values, (excess), score."""
        heads = [name.rjust(18) for name in CRITERIA]
        lines = ["  ".join(["  K", *heads, "score", "clusters in use"])]
        for trial in self.trials:
            cells = [f"{trial.found[c]:8.3f} ({trial.excess(c):+.3f})".rjust(18) for c in CRITERIA]
            score = _finite(self.scores[trial.clusters])
            cells.append("    -" if score is None else f"{score:5.2f}")
            note = "  <- recommended" if trial.clusters == self.best else ""
            note = "  collapsed" if trial.collapsed else note
            lines.append(
                "  ".join([f"{trial.clusters:3d}", *cells])
                + f"  {trial.effective_clusters:15.1f}{note}"
            )
        lines.append("In brackets: above what a cloud without clusters has. " + self.verdict)
        return "\n".join(lines)

    def record(self) -> dict[str, Any]:
        """Returns all of it as JSON values; null stands for a number that there is none of."""
        trials = [
            {
                "clusters": trial.clusters,
                **{c: _finite(trial.found[c]) for c in CRITERIA},
                "excess": {c: _finite(trial.excess(c)) for c in CRITERIA},
                "references": {c: list(map(_finite, trial.references[c])) for c in CRITERIA},
                "score": _finite(self.scores[trial.clusters]),
                "effective_clusters": _finite(trial.effective_clusters),
                "collapsed": trial.collapsed,
            }
            for trial in self.trials
        ]
        return {
            "recommended": self.best,
            "nearly_as_good": list(self.near),
            "verdict": self.verdict,
            "rule": RULE,
            "criteria": CRITERIA,
            "noise": {c: _finite(self.noise[c]) for c in CRITERIA},
            "voters": list(self.voters),
            "trials": trials,
        }


def decide(trials: Sequence[Trial]) -> Sweep:
    """Returns what the rule at the head of this module makes of the trials.

    Raises:
        UserError: there are none, or two of one K.
    """
    trials = sorted(trials, key=lambda trial: trial.clusters)
    numbers = [trial.clusters for trial in trials]
    if not numbers or len(set(numbers)) < len(numbers):
        raise UserError(f"A sweep needs one trial for each of some K, not {numbers}.")
    noise = {c: _noise([trial.references[c] for trial in trials]) for c in CRITERIA}
    sound = [trial for trial in trials if trial.sound]
    largest = {c: max((trial.excess(c) for trial in sound), default=math.nan) for c in CRITERIA}
    # Without any noise, as of a fake, what is above 0 is structure.
    voters = tuple(c for c in CRITERIA if largest[c] > max(_NOISES * noise[c], 0))
    scores = dict.fromkeys(numbers, math.nan)
    for trial in sound:
        shares = [trial.excess(c) / largest[c] for c in voters]
        scores[trial.clusters] = float(np.mean(shares)) if shares else math.nan
    best = None
    if len(voters) >= _VOTES:
        best = max(sound, key=lambda trial: scores[trial.clusters]).clusters
    return Sweep(tuple(trials), noise, voters, scores, best)


def _noise(references: Sequence[Sequence[float]]) -> float:
    """Returns the standard deviation within rows, pooled over those that are finite."""
    rows = np.asarray(references, np.float64)
    rows = rows[np.isfinite(rows).all(axis=1)]
    return float(np.sqrt(rows.var(axis=1, ddof=1).mean())) if len(rows) else math.nan


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
