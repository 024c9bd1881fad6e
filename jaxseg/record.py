"""What an evaluation found: the record, its files in a work directory, and the table of scores."""

import dataclasses
import json
import pathlib
from typing import Any

import numpy as np

from jaxseg.writer import write_atomic


@dataclasses.dataclass(frozen=True)
class Samples:
    """Some test images with labels (None without) and predicted clusters, for pictures."""

    images: list[np.ndarray]  # u8[H W Ch]
    labels: list[np.ndarray] | None  # i32[H W], -1 = ignored
    predictions: list[np.ndarray]  # i32[H W]
    # By name, one array an image: f16 "features" [h w D] and whatever `Output.aux` holds.
    extra: dict[str, list[np.ndarray]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Result:
    """What one evaluator found.

    Attributes:
        name: of the evaluator.
        scalars: fractions and counts by name; without labels only those that need none.
        iou: by class under the Hungarian match; None without labels.
        counts: i64[K C] confusion matrix, None without labels; match: i64[K] class of each cluster
            under the Hungarian match, -1 for none.
        usage: i64[K] pixels by predicted cluster.
        classes: names.
        samples: images for pictures.
        supervised: labels were learned from, so that the scores are not those of clusters.
    """

    name: str
    scalars: dict[str, float]
    usage: np.ndarray
    classes: tuple[str, ...]
    samples: Samples
    iou: list[float] | None = None
    counts: np.ndarray | None = None
    match: np.ndarray | None = None
    supervised: bool = False


def save_result(directory: pathlib.Path, result: Result, protocol: dict[str, Any]) -> None:
    """Writes NAME.json (scores, protocol) and NAME.npz (matrix, match, samples)."""
    directory.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {"usage": result.usage}
    if result.counts is not None:
        arrays |= {"counts": result.counts, "match": result.match}
    samples = result.samples
    for kind in ("images", "labels", "predictions"):
        for i, array in enumerate(getattr(samples, kind) or ()):
            arrays[f"{kind}/{i:03d}"] = array
    for name, several in samples.extra.items():
        arrays |= {f"extra/{name}/{i:03d}": array for i, array in enumerate(several)}
    temporary = directory / f"{result.name}.tmp.npz"
    np.savez_compressed(temporary, **arrays)
    temporary.replace(directory / f"{result.name}.npz")
    record = {
        "name": result.name,
        "scores": result.scalars,
        "iou": result.iou,
        "classes": result.classes,
        "supervised": result.supervised,
        "protocol": protocol,
    }
    # Last, so that where the JSON is, the arrays are too.
    write_atomic(directory / f"{result.name}.json", json.dumps(_no_nan(record), indent=2) + "\n")


def load_results(directory: pathlib.Path) -> list[Result]:
    """Returns the results that `save_result` wrote, in the order of their files' times."""
    paths = sorted(directory.glob("*.json"), key=lambda p: (p.stat().st_mtime_ns, p.name))
    return [_load_result(path) for path in paths]


def _load_result(path: pathlib.Path) -> Result:
    record = json.loads(path.read_text())
    with np.load(path.with_suffix(".npz"), allow_pickle=False) as file:
        arrays = dict(file)

    def several(kind: str) -> list[np.ndarray]:
        return [arrays[name] for name in sorted(arrays) if name.startswith(f"{kind}/")]

    extras = sorted({name.split("/")[1] for name in arrays if name.startswith("extra/")})
    samples = Samples(
        images=several("images"),
        labels=several("labels") or None,
        predictions=several("predictions"),
        extra={name: several(f"extra/{name}") for name in extras},
    )
    return Result(
        name=record["name"],
        scalars={k: _nan(v) for k, v in record["scores"].items()},
        iou=None if record["iou"] is None else [_nan(v) for v in record["iou"]],
        classes=tuple(record["classes"]),
        usage=arrays["usage"],
        counts=arrays.get("counts"),
        match=arrays.get("match"),
        samples=samples,
        supervised=record.get("supervised", False),
    )


def _no_nan(value: Any) -> Any:
    """JSON has no nan: null stands for it."""
    if isinstance(value, dict):
        return {k: _no_nan(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_no_nan(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _nan(value: float | None) -> float:
    return float("nan") if value is None else value


def score_table(results: list[Result]) -> str:
    """Returns the results as a table for the terminal, percentages where they are fractions.

    Results that have learned from labels are marked by a star.
    """
    columns = {
        "accuracy": "Acc %",
        "miou": "mIoU %",
        "many_to_one_accuracy": "many-to-one Acc %",
        "effective_clusters": "clusters in use",
    }
    titles = [r.name + " *" * r.supervised for r in results]
    width = max(map(len, titles), default=0)
    lines = ["  ".join([" " * width, *columns.values()])]
    for result, title in zip(results, titles, strict=True):
        cells = []
        for name, head in columns.items():
            value = result.scalars.get(name, float("nan"))
            if name == "effective_clusters":
                text = f"{value:.1f} of {result.scalars['clusters']:.0f}"
            else:
                text = f"{100 * value:.1f}" if np.isfinite(value) else "-"
            cells.append(text.rjust(len(head)))
        lines.append("  ".join([title.ljust(width), *cells]))
    if any(r.supervised for r in results):
        lines.append("* has learned from labels: an upper mark, not a segmentation without labels")
    return "\n".join(lines)
