"""The sections of a run's report: functions from what the run has recorded to a section.

A section that has nothing to show has no parts, and is left out.
"""

import dataclasses
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from jaxseg.record import Result, Table, score_tables
from jaxseg.report import figures, segments
from jaxseg.report.parts import Commands, Facts, Folded, Part, Picture, Section, Shares
from jaxseg.report.recorded import Recorded, is_baseline
from jaxseg.report.viewer import Named, viewers
from jaxseg.sections import flatten

_NO_CURVES = ("train/images_per_second", "train/skipped_steps", "train/refit_seconds")
MONITORED = ("monitor/effective_clusters", "monitor/entropy")
NOT_COMPARED = (
    "Scores of two tables are never to be compared: each table is another way of scoring."
)
_EVALUATED = ("/accuracy", "/miou")  # end the names of scores on the way


def scores(run: Recorded) -> Section:
    """Scores beside baselines, each way of scoring in a table of its own."""
    return Section("Scores", tables_of(run.results), NOT_COMPARED)


def tables_of(results: Sequence[Result]) -> list[Part]:
    """Returns the tables of scores, without columns in which no row has a value."""
    tables: list[Part] = []
    for table in score_tables(list(results), apart=True):
        columns = range(len(table.heads))
        kept = [i for i in columns if any(cells[i] != "-" for _, cells in table.rows)]
        rows = [(title, [cells[i] for i in kept]) for title, cells in table.rows]
        heads = [table.heads[i] for i in kept]
        if heads:
            tables.append(dataclasses.replace(table, heads=heads, rows=rows))
    return tables


def samples(run: Recorded) -> Section:
    """Test images under what is said of them; their grids are files beside the page."""
    named = [Named(result.name, result) for result in run.results]
    parts: list[Part] = list(viewers([one for one in named if not is_baseline(one.result)]))
    if baselines := viewers([one for one in named if is_baseline(one.result)]):
        parts.append(Folded("baselines", baselines))
    # Results over other images or labels (an earlier evaluation's, say) get a grid of their own.
    groups: dict[tuple, list[Result]] = {}
    for result in run.of_kind("clusters", "retrieval"):
        images = tuple(image.tobytes() for image in result.samples.images)
        if images:
            groups.setdefault((result.kind, images, result.classes), []).append(result)
    for number, group in enumerate(groups.values()):
        name = f"samples_{number}" if number else "samples"
        grid = figures.sample_grid(group)
        parts.append(Picture.drawn(name, grid, "test images", on_page=False))
    for result in run.of_kind("hierarchy"):
        grid = segments.hierarchy(result)
        parts.append(Picture.drawn(f"hierarchy_{result.name}", grid, result.name, on_page=False))
    drawn = [r for r in run.results if _drawn_in_squares(r)]
    if drawn:
        # One image of them all, and large: whether the squares' borders show can be seen nowhere
        # else.
        grid = figures.sample_grid(drawn, count=1, width=5.0)
        parts.append(Picture.drawn("restitched", grid, "an image put together from squares"))
    return Section("Test images", parts)


def _drawn_in_squares(result: Result) -> bool:
    return bool(result.samples.images) and figures.squares_of(result, 0) != (1, 1)


def classes(run: Recorded) -> Section:
    """The intersection over union of each class."""
    return classes_of(run.results)


def classes_of(results: Sequence[Result]) -> Section:
    """Returns the section of results, those of clusters and of retrieval apart."""
    # Results of another evaluation may have other classes.
    groups: dict[tuple[str, tuple[str, ...]], list[Result]] = {}
    for result in results:
        if result.iou is not None:
            groups.setdefault((result.kind, result.classes), []).append(result)
    parts = []
    for (kind, names), some in groups.items():
        rows = list(zip(names, zip(*(r.iou or [] for r in some), strict=True), strict=True))
        parts.append(Shares(f"IoU % of {kind}", [_starred(r) for r in some], rows))
    return Section("Classes", parts, "- = the class is neither labelled nor predicted.")


def _starred(result: Result) -> str:
    return result.name + " *" * result.supervised


def confusion(run: Recorded) -> Section:
    """The confusion matrices."""
    drawn = [
        (r, Picture.drawn(f"confusion_{r.name}", figures.confusion_matrix(r), r.name))
        for r in run.results
        if r.counts is not None and r.counts.size
    ]
    note = "A row is a class; its shares add up to 1."
    return Section("Confusion", _baselines_folded(drawn), note)


def _baselines_folded(drawn: Iterable[tuple[Result, Picture]]) -> list[Part]:
    """Returns the pictures of results, those of baselines to be opened."""
    drawn = list(drawn)
    parts: list[Part] = [picture for result, picture in drawn if not is_baseline(result)]
    folded = [picture for result, picture in drawn if is_baseline(result)]
    return parts + [Folded("baselines", folded)] * bool(folded)


def metric_names(rows: Iterable[dict[str, Any]]) -> list[str]:
    """Returns the names of all metrics, in the order in which they appear."""
    return list(dict.fromkeys(name for row in rows for name in row))


def training_curves(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Returns the names of the metrics that curves of training show: the loss and its terms."""
    return [n for n in metric_names(rows) if n.startswith("train/") and n not in _NO_CURVES]


def curves(run: Recorded) -> Section:
    """The loss and its terms by step, and scores on the way where there are any."""
    parts, runs = [], {run.name: run.metrics}
    if terms := training_curves(run.metrics):
        figure = figures.curves(runs, terms)
        parts.append(Picture.drawn("curves", figure, "the loss and its terms by step"))
    evaluated = [n for n in metric_names(run.metrics) if n.endswith(_EVALUATED)]
    if evaluated := [n for n in evaluated if not n.startswith("train/")]:
        figure = figures.curves(runs, evaluated)
        parts.append(Picture.drawn("curves_scores", figure, "scores by step"))
    return Section("Training", parts)


def monitor(run: Recorded) -> Section:
    """How many clusters are in use: on the way, and at the end."""
    parts: list[Part] = []
    if names := [n for n in MONITORED if n in metric_names(run.metrics)]:
        figure = figures.curves({run.name: run.metrics}, names)
        clusters = [row["monitor/clusters"] for row in run.metrics if "monitor/clusters" in row]
        if clusters and names[0] == MONITORED[0]:
            figure.axes[0].axhline(clusters[-1], linestyle="--", color="grey", linewidth=1)
        parts.append(Picture.drawn("monitor", figure, "clusters in use by step; dashed: all"))
    used = [r for r in run.of_kind("clusters") if "effective_clusters" in r.scalars]
    rows = [(r.name, _usage(r)) for r in used]
    if rows:
        heads = ["clusters", "in use", "largest, % of pixels", "without a pixel"]
        parts.append(Table(heads, rows, "Clusters of the test split"))
    note = "In use: the exponential of the entropy of the clusters' shares. Near 1: a collapse."
    return Section("Collapse monitor", parts, note)


def _usage(result: Result) -> list[str]:
    usage = result.usage
    return [
        str(len(usage)),
        f"{result.scalars['effective_clusters']:.1f}",
        f"{100 * usage.max(initial=0) / max(usage.sum(), 1):.1f}",
        str(int((usage == 0).sum())),
    ]


def retrieval(run: Recorded) -> Section:
    """What is most alike to a pixel, and to a group, in other images."""
    parts: list[Part] = []
    stored = run.workdir / "report" / "similar_pixels.png"  # drawn where the network is at hand
    if stored.exists():
        title = "a pixel and those most alike to it in other test images"
        parts.append(Picture(stored.stem, stored.read_bytes(), title))
    drawn = [
        (r, Picture.drawn(f"neighbours_{r.name}", segments.neighbours(r), r.name))
        for r in run.of_kind("hierarchy")
        if len(r.samples.images) > 1
    ]
    note = "Nearest first, by the cosine of features."
    return Section("Retrieval gallery", parts + _baselines_folded(drawn), note)


def attention(run: Recorded) -> Section:
    """The attention maps of the queries that group segments."""
    found = [r for r in run.results if segments.names(r, segments.ATTENTION) and r.samples.images]
    # Those of clusters and of retrieval are of the same network as those of a hierarchy.
    hierarchies = [r for r in found if r.kind == "hierarchy"]
    drawn = []
    for result in hierarchies or [r for r in found if not is_baseline(r)][:1]:
        for name in segments.names(result, segments.ATTENTION):
            level = name.removeprefix(segments.ATTENTION)
            figure = segments.attention(result, name)
            file = f"{name.replace('/', '_')}_{result.name}"
            drawn.append((result, Picture.drawn(file, figure, f"{result.name}, {level}")))
    note = "Each column is a query: bright is what it takes in."
    return Section("Attention", _baselines_folded(drawn), note)


def embedding(run: Recorded) -> Section:
    """Features in the plane by t-SNE: of cells with prototypes, and of base segments."""
    drawn = []
    # Results that differ in what is done after the features (a CRF, say) show the same.
    for result in [r for r in run.results if "prototypes" in r.samples.extra][:1]:
        title = f"{result.name}: cells, with prototypes as stars"
        drawn.append((result, Picture.drawn("embedding", figures.embedding(result), title)))
    for result in run.of_kind("hierarchy"):
        if result.arrays:
            figure = segments.segment_embedding(result)
            title = f"{result.name}: base segments"
            drawn.append((result, Picture.drawn(f"segments_{result.name}", figure, title)))
    note = "t-SNE: near are features of a high cosine; far distances mean little."
    return Section("Features", _baselines_folded(drawn), note)


def smoothness(run: Recorded) -> Section:
    """SmooSeg's histogram of penalties."""
    drawn = [r for r in run.results if "delta_histogram" in r.samples.extra]
    if not drawn:
        return Section("Smoothness", [])
    title = "smoothness penalty delta of pairs within an image"
    # Of the last training batch that was logged; a batch of one cluster alone has none.
    if found := [row["train/bimodality"] for row in run.metrics if row.get("train/bimodality")]:
        title += f"\nSarle's bimodality coefficient: {found[-1]:.3f}"
    figure = figures.histogram(drawn[0], "delta_histogram", title, (0.0, 1.0))
    note = "Two peaks tell segments apart; one at the left is a collapse."
    return Section("Smoothness", [Picture.drawn("smoothness", figure, title)], note)


def settings(run: Recorded) -> Section:
    """What the run was made with."""
    parts: list[Part] = []
    if run.versions:
        parts.append(Facts(list(run.versions.items()), "Versions"))
    for section, fields in run.config.items():
        if isinstance(fields, dict) and fields:
            rows = [(name, as_text(value)) for name, value in flatten(fields).items()]
            parts.append(Folded(section, [Facts(rows)]))
    for result in run.results:
        told = {k: v for k, v in result.protocol.items() if not isinstance(v, dict)}
        if told:
            rows = [(name.replace("_", " "), as_text(value)) for name, value in told.items()]
            parts.append(Folded(f"how {result.name} was scored", [Facts(rows)]))
    return Section("Run settings", parts)


def as_text(value: Any) -> str:
    """Returns a value of a config as text; "" for None and what is empty."""
    if isinstance(value, (list, tuple)):
        return ", ".join(map(as_text, value))
    return "" if value is None else str(value)


def following(run: Recorded) -> Section:
    """Commands that can be given next."""
    where = shlex.quote(str(run.workdir))
    rows = []
    if not run.trained:
        again = f"python -m jaxseg.main --config=CONFIG --workdir={where}"
        rows.append(("go on with the training, by the command it was begun with", again))
    if run.trained:
        score = f"python -m jaxseg.main --config=CONFIG --workdir={where} --mode=evaluate"
        rows.append(("score it (again), by the config it was trained with", score))
        predict = f"python -m jaxseg.predict --model={where} IMAGES --out=OUT"
        rows.append(("segment your own images", predict))
        demo = f"python -m jaxseg.demo --model={where}"
        rows.append(("look through it in the browser, and name its clusters", demo))
        bundle = f"python -m jaxseg.bundle {where} --out=model.safetensors"
        rows.append(("make one file of it, to take elsewhere", bundle))
    rows.append(("draw this page again", f"python -m jaxseg.report {where}"))
    rows.append(("compare it with another run", f"python -m jaxseg.report {where} OTHER"))
    return Section("What next", [Commands(rows)])


def summary(run: Recorded) -> Facts:
    """What the page says of the run in front of all."""
    return Facts([(name, value) for name, value in _summary(run) if value])


def _summary(run: Recorded) -> Iterator[tuple[str, str]]:
    method, data, train = (run.config.get(name, {}) for name in ("method", "data", "train"))
    protocol = next((r.protocol for r in run.results if not is_baseline(r)), {})
    yield "method", as_text(method.get("name"))
    yield "data", as_text(data.get("name"))
    yield "trained on", as_text(protocol.get("train_split"))
    yield "scored on", as_text(protocol.get("test_split"))
    yield "backbone", as_text(protocol.get("backbone") or method.get("backbone"))
    weights = protocol.get("weights") or str(method.get("weights", "")).rpartition("/")[2]
    yield "weights it began with", as_text(weights)
    yield "seed", as_text(train.get("seed"))
    yield "state", _state(run, protocol.get("steps") or train.get("steps"))


def _state(run: Recorded, steps: int | None) -> str:
    last = f"last logged step {run.last_step}" if run.metrics else "no metrics"
    if not run.trained and run.config:
        return f"not finished: {last}" + (f" of {steps}" if steps else "")
    return ("trained" if run.results else "trained, not scored") + (
        f", {steps} steps" if steps else f", {last}"
    )


SECTIONS: tuple[Callable[[Recorded], Section], ...] = (
    scores, samples, classes, confusion, curves, monitor, retrieval, attention, embedding,
    smoothness, settings, following,
)  # fmt: skip
