"""The report of a run: pictures below WORKDIR/report, drawn from what the run has written.

A section takes the work directory's results and metrics and gives figures by file name; later ones
are added to SECTIONS.
"""

import pathlib
from collections.abc import Callable, Mapping, Sequence

from matplotlib.figure import Figure

from jaxseg.record import Result, load_results
from jaxseg.report import figures, segments
from jaxseg.report.figures import strips
from jaxseg.writer import read_metrics

__all__ = ["SECTIONS", "strips", "write"]

Section = Callable[[Sequence[Result], Sequence[dict]], Mapping[str, Figure]]


def _curves(results: Sequence[Result], metrics: Sequence[dict]) -> Mapping[str, Figure]:
    del results
    return {"curves": figures.curves(metrics)} if metrics else {}


def _confusion(results: Sequence[Result], metrics: Sequence[dict]) -> Mapping[str, Figure]:
    del metrics
    return {
        f"confusion_{r.name}": figures.confusion_matrix(r) for r in results if r.counts is not None
    }


def _samples(results: Sequence[Result], metrics: Sequence[dict]) -> Mapping[str, Figure]:
    del metrics
    # Results over other images or labels (an earlier evaluation's, say) get a grid of their own.
    groups: dict[tuple, list[Result]] = {}
    for result in results:
        images = tuple(image.tobytes() for image in result.samples.images)
        if result.kind != "hierarchy":
            groups.setdefault((result.kind, images, result.classes), []).append(result)
    names = [f"samples_{n}" if n else "samples" for n in range(len(groups))]
    return {n: figures.sample_grid(g) for n, g in zip(names, groups.values(), strict=True)}


def _restitched(results: Sequence[Result], metrics: Sequence[dict]) -> Mapping[str, Figure]:
    del metrics
    drawn = [r for r in results if figures.squares_of(r, 0) != (1, 1)]
    # One image of them all, and large: whether the squares' borders show can be seen nowhere else.
    return {"restitched": figures.sample_grid(drawn, count=1, width=5.0)} if drawn else {}


def _embedding(results: Sequence[Result], metrics: Sequence[dict]) -> Mapping[str, Figure]:
    del metrics
    drawn = [r for r in results if "prototypes" in r.samples.extra]
    # Results that differ in what is done after the features (a CRF, say) show the same.
    return {"embedding": figures.embedding(drawn[0])} if drawn else {}


def _smoothness(results: Sequence[Result], metrics: Sequence[dict]) -> Mapping[str, Figure]:
    drawn = [r for r in results if "delta_histogram" in r.samples.extra]
    if not drawn:
        return {}
    title = "smoothness penalty delta of pairs within an image"
    # Of the last training batch that was logged; a batch of one cluster alone has none.
    if found := [row["train/bimodality"] for row in metrics if row.get("train/bimodality")]:
        title += f"\nSarle's bimodality coefficient: {found[-1]:.3f}"
    return {"smoothness": figures.histogram(drawn[0], "delta_histogram", title, (0.0, 1.0))}


def _segments(results: Sequence[Result], metrics: Sequence[dict]) -> Mapping[str, Figure]:
    del metrics
    drawn: dict[str, Figure] = {}
    for result in results:
        if result.kind != "hierarchy":
            continue
        drawn[f"hierarchy_{result.name}"] = segments.hierarchy(result)
        for name in segments.names(result, segments.ATTENTION):
            title = f"{name.replace('/', '_')}_{result.name}"
            drawn[title] = segments.attention(result, name)
        if len(result.samples.images) > 1:
            drawn[f"neighbours_{result.name}"] = segments.neighbours(result)
        if result.arrays:
            drawn[f"segments_{result.name}"] = segments.segment_embedding(result)
    return drawn


SECTIONS: tuple[Section, ...] = (
    _samples, _restitched, _curves, _confusion, _embedding, _smoothness, _segments,
)  # fmt: skip


def write(workdir: pathlib.Path, results: Sequence[Result] | None = None) -> list[pathlib.Path]:
    """Draws every section of the run in `workdir`; returns the PNG files in order.

    `results` are those of one evaluation; default: all that lie in the work directory.
    """
    results = load_results(workdir / "evaluation") if results is None else results
    metrics = read_metrics(workdir / "metrics.jsonl")
    directory = workdir / "report"
    directory.mkdir(exist_ok=True)
    paths = []
    for section in SECTIONS:
        for name, figure in section(results, metrics).items():
            paths.append(directory / f"{name}.png")
            figure.savefig(paths[-1], dpi=110)
    return paths
