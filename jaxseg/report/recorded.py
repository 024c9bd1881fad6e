"""What the work directory of a run tells a report."""

import dataclasses
import json
import pathlib
from collections.abc import Sequence
from typing import Any

from jaxseg.core import UserError
from jaxseg.record import KINDS, Result, load_results
from jaxseg.writer import read_metrics


@dataclasses.dataclass(frozen=True)
class Recorded:
    """A run as it lies on the disk, finished or not.

    Attributes:
        workdir: where.
        config: its sections; {} where there are none.
        metrics: the rows of metrics.jsonl.
        results: of its evaluations, those of the trained model first, and by kind.
        versions: of the programs that trained it, by name; {} where it has not kept them.
        trained: whether there is a final state.
    """

    workdir: pathlib.Path
    config: dict[str, Any]
    metrics: list[dict[str, Any]]
    results: list[Result]
    versions: dict[str, str]
    trained: bool

    @classmethod
    def read(cls, workdir: pathlib.Path, results: Sequence[Result] | None = None) -> "Recorded":
        """Reads a work directory; `results` are those of one evaluation, default: all there.

        Raises:
            UserError: a file is no JSON.
        """
        found = load_results(workdir / "evaluation") if results is None else results
        return cls(
            workdir,
            _json(workdir / "config.json"),
            read_metrics(workdir / "metrics.jsonl"),
            sorted(found, key=lambda r: (is_baseline(r), KINDS.index(r.kind))),
            _json(workdir / "versions.json"),
            any((workdir / "final").glob("*")),
        )

    @property
    def name(self) -> str:
        """What the run is called."""
        return self.workdir.resolve().name

    def of_kind(self, *kinds: str) -> list[Result]:
        """Returns the results of some kinds of scores."""
        return [result for result in self.results if result.kind in kinds]

    @property
    def last_step(self) -> int:
        """The last step that the metrics tell of; 0 without any."""
        return max((row["step"] for row in self.metrics), default=0)


def find_runs(workdirs: Sequence[pathlib.Path]) -> None:
    """Raises UserError for the first folder that holds no run."""
    for workdir in workdirs:
        signs = ("config.json", "metrics.jsonl", "evaluation")
        if not any((workdir / sign).exists() for sign in signs):
            what = (
                "holds no run (config.json or metrics.jsonl)" if workdir.is_dir() else "is absent"
            )
            raise UserError(
                f"{workdir} {what}; give the work directory of a run, what --workdir of python -m "
                "jaxseg.main names (by default runs/CONFIG)."
            )


def is_baseline(result: Result) -> bool:
    """Whether a result is that of something else than the trained model."""
    return result.protocol.get("model", "trained") != "trained"


def _json(path: pathlib.Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text()) if path.exists() else {}
    except ValueError as error:
        raise UserError(f"{path} is no JSON ({error}); restore it, or delete it.") from error
