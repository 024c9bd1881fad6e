"""What an evaluation found: the record, its files in a work directory, and the table of scores."""

import dataclasses
import json
import pathlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from jaxseg.writer import write_atomic

KINDS = ("clusters", "retrieval", "hierarchy")  # of scores
_MANY = "many_to_one_accuracy"
_PARTITION = {"accuracy": "Acc", "miou": "mIoU"}
_NAMED = ("arrays", "fitted")  # the fields of a result that are arrays by name
_SPREAD = ("alignment", "uniformity", "prototype_uniformity", "prototype_cosine")


@dataclasses.dataclass(frozen=True)
class Samples:
    """Some test images with labels (None without) and predicted clusters, for pictures."""

    images: list[np.ndarray]  # u8[H W Ch]
    labels: list[np.ndarray] | None  # i32[H W], -1 = ignored
    predictions: list[np.ndarray]  # i32[H W]
    # By name, one array an image: f16 "features" [h w D], whatever `Output.aux` holds, and what the
    # evaluator adds.
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
        kind: of the scores, a key of KINDS; those of two kinds are never compared.
        arrays: what pictures of the whole split want, by name.
        fitted: what the probe was fitted to, by name; empty where it looks labels up.
        protocol: what has to be known to compare the scores; {} before they are kept.
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
    kind: str = "clusters"
    arrays: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    fitted: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    protocol: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Spot:
    """A pixel of an image.

    Attributes:
        index: of the image in its split; image: u8[H W Ch], without padding.
        row, column: of the middle of a feature's cell, in pixels.
        cosine: of its feature and the one that is searched for.
    """

    index: int
    image: np.ndarray
    row: float
    column: float
    cosine: float


def save_result(directory: pathlib.Path, result: Result, protocol: dict[str, Any]) -> None:
    """Writes NAME.json (scores, protocol) and NAME.npz (matrix, match, samples, fitted probe)."""
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
    for kind in _NAMED:
        arrays |= {f"{kind}/{name}": array for name, array in getattr(result, kind).items()}
    temporary = directory / f"{result.name}.tmp.npz"
    np.savez_compressed(temporary, **arrays)
    temporary.replace(directory / f"{result.name}.npz")
    record = {
        "name": result.name,
        "scores": result.scalars,
        "iou": result.iou,
        "classes": result.classes,
        "supervised": result.supervised,
        "kind": result.kind,
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
        return [arrays[name] for name in sorted(arrays) if name.rpartition("/")[0] == kind]

    # The name of a part may hold a slash.
    folders = sorted({name.rpartition("/")[0] for name in arrays})
    extras = [name.removeprefix("extra/") for name in folders if name.startswith("extra/")]
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
        kind=record.get("kind", "clusters"),
        protocol=record.get("protocol", {}),
        **{kind: _below(arrays, f"{kind}/") for kind in _NAMED},
    )


def _below(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}


def _no_nan(value: Any) -> Any:
    """JSON has no nan: null stands for it."""
    if isinstance(value, dict):
        return {k: _no_nan(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_no_nan(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _nan(value: float | None) -> float:
    return float("nan") if value is None else value


@dataclasses.dataclass(frozen=True)
class Table:
    """Scores as text.

    Attributes:
        heads: of the columns; rows: (title, cells) each.
        title: what they are; note: what a mark in the rows means.
    """

    heads: list[str]
    rows: list[tuple[str, list[str]]]
    title: str = ""
    note: str = ""

    def text(self) -> str:
        """Returns lines of right-aligned columns behind the rows' titles."""
        width = max(len(title) for title, _ in self.rows)
        lines = [self.title] * bool(self.title) + ["  ".join([" " * width, *self.heads])]
        for title, cells in self.rows:
            aligned = [c.rjust(len(h)) for c, h in zip(cells, self.heads, strict=True)]
            lines.append("  ".join([title.ljust(width), *aligned]))
        return "\n".join(lines + [self.note] * bool(self.note))


def score_table(results: list[Result]) -> str:
    """Returns the tables of `score_tables` for the terminal."""
    return "\n\n".join(table.text() for table in score_tables(results))


def score_tables(results: list[Result], apart: bool = False) -> list[Table]:
    """Returns the results as tables, percentages where they are fractions.

    Each kind of score has a table of its own; where many-to-one is to be `apart`, so has that,
    which is a column otherwise. Results that have learned from labels are marked by a star.
    """
    clusters, retrieval, hierarchy = ([r for r in results if r.kind == kind] for kind in KINDS)
    tables = [_cluster_table(clusters, apart)] if clusters else []
    if apart and any(_MANY in r.scalars for r in clusters):
        tables.append(_many_to_one_table(clusters))
    if retrieval:
        tables.append(_retrieval_table(retrieval))
    return tables + (_hierarchy_tables(hierarchy) if hierarchy else [])


def _cluster_table(results: list[Result], apart: bool) -> Table:
    columns = dict(_PARTITION) if apart else _PARTITION | {_MANY: "many-to-one Acc"}
    parts = {f"{p}_{s}": f"{p} {h}" for p in ("things", "stuff") for s, h in _PARTITION.items()}
    parts = {key: head for key, head in parts.items() if any(key in r.scalars for r in results)}
    spread = [key for key in _SPREAD if any(key in r.scalars for r in results)]
    rows = [
        (
            _marked(r),
            [
                *_percentages(r, columns),
                _used(r),
                *_percentages(r, parts),
                *(f"{r.scalars[key]:.2f}" if key in r.scalars else "-" for key in spread),
            ],
        )
        for r in results
    ]
    heads = [
        *(f"{head} %" for head in columns.values()),
        "clusters in use",
        *(f"{head} %" for head in parts.values()),
        *(key.replace("_", " ") for key in spread),
    ]
    labelled = any("accuracy" in r.scalars for r in results)
    title = "Clusters, each matched with a class of its own (Hungarian)" if labelled else "Clusters"
    return Table(heads, rows, title * apart, _note(results))


def _many_to_one_table(results: list[Result]) -> Table:
    rows = [(_marked(r), _percentages(r, (_MANY, "many_to_one_miou"))) for r in results]
    title = (
        "Many-to-one: each cluster stands for its most frequent class; more clusters score higher"
    )
    return Table([f"{head} %" for head in _PARTITION.values()], rows, title, _note(results))


def _retrieval_table(results: list[Result]) -> Table:
    rows = [(r.name, [*_percentages(r, ("accuracy", "miou")), _used(r)]) for r in results]
    title = (
        "Retrieval: classes looked up in labelled training images; not to be compared with scores "
        "of clusters"
    )
    return Table(["Acc %", "mIoU %", "classes in use"], rows, title)


def _hierarchy_tables(results: list[Result]) -> list[Table]:
    """Returns a table for each label map, or one of the groups alone without labels."""
    found: dict[str, dict[tuple[str, str], dict[str, float]]] = {}
    groups: dict[tuple[str, str], float] = {}
    for result in results:
        for name, value in result.scalars.items():
            measure, _, rest = name.partition("_level")
            level, _, label = rest.partition("_")
            if label:
                row = found.setdefault(label, {}).setdefault((result.name, level), {})
                row[measure] = value
            else:
                groups[result.name, level] = value
    tables = []
    for label, of_label in (found or {"": {key: {} for key in groups}}).items():
        measures = list(dict.fromkeys(name for row in of_label.values() for name in row))
        rows = [
            (
                f"{name} level {level}",
                [f"{groups[name, level]:.1f}", *(_percent(row.get(m)) for m in measures)],
            )
            for (name, level), row in of_label.items()
        ]
        regions = f", against regions of {label!r}" if label else ""
        title = f"Levels of groups within each image, finest first{regions}"
        tables.append(Table(["groups", *(f"{m} %" for m in measures)], rows, title))
    return tables


def _marked(result: Result) -> str:
    return result.name + " *" * result.supervised


def _note(results: list[Result]) -> str:
    marked = any(r.supervised for r in results)
    return "* has learned from labels: an upper mark, not a segmentation without labels" * marked


def _percentages(result: Result, names: Iterable[str]) -> list[str]:
    return [_percent(result.scalars.get(name)) for name in names]


def _percent(value: float | None) -> str:
    return "-" if value is None or not np.isfinite(value) else f"{100 * value:.1f}"


def _used(result: Result) -> str:
    used, of = (result.scalars.get(name) for name in ("effective_clusters", "clusters"))
    return "-" if used is None else f"{used:.1f} of {of:.0f}"
