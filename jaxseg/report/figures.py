"""Pictures of a run, each a function from what the run has written to a matplotlib figure."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.colors import hsv_to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from jaxseg.record import Result, Spot
from jaxseg.report.tsne import places

IGNORED = np.array([0, 0, 0], np.uint8)  # of pixels without a label


def palette(count: int) -> np.ndarray:
    """Returns `count` distinct colours u8[count 3]; the first ones do not depend on `count`."""
    index = np.arange(count)
    # Hues a golden angle apart; brightness and saturation change as hues come near each other.
    hue = (index * 0.618034 + 0.58) % 1.0
    saturation = np.take([0.75, 0.45, 0.95], index % 3)
    value = np.take([0.95, 0.7, 0.5], (index // 2) % 3)
    return (hsv_to_rgb(np.stack([hue, saturation, value], -1)) * 255).astype(np.uint8)


def cluster_classes(result: Result) -> np.ndarray:
    """Returns i64[K], the colour of each cluster: its class, or for the rest numbers after those.

    Without labels each cluster has its own.
    """
    if result.match is None:
        return np.arange(len(result.usage))
    colours = result.match.copy()
    rest = np.flatnonzero(colours < 0)
    colours[rest] = len(result.classes) + np.arange(len(rest))
    return colours


def paint(labels: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Returns u8[H W 3] of labels i32[H W]; negative ones are black."""
    table = np.concatenate([colours, IGNORED[None]])
    return table[np.where(labels < 0, len(colours), labels)]


def row_of(result: Result, number: int) -> tuple[np.ndarray, ...]:
    """Returns (image, label, prediction) of a sample in matched colours; a label if there is one.

    Each is u8[H W 3].
    """
    chosen, samples = cluster_classes(result), result.samples
    colours = palette(int(max(chosen.max(initial=0) + 1, len(result.classes))))
    label = [paint(samples.labels[number], colours)] if samples.labels else []
    prediction = paint(samples.predictions[number], colours[chosen])
    return samples.images[number][..., :3], *label, prediction


def rows_of(result: Result) -> list[tuple[np.ndarray, ...]]:
    """Returns the row of each sample."""
    return [row_of(result, number) for number in range(len(result.samples.images))]


def strips(result: Result) -> np.ndarray:
    """Returns the sample rows as one picture u8[H W 3], for TensorBoard."""
    rows = [np.concatenate(row, axis=1) for row in rows_of(result)]
    width = max(row.shape[1] for row in rows)
    return np.concatenate([np.pad(r, ((0, 2), (0, width - r.shape[1]), (0, 0))) for r in rows])


def sample_grid(results: Sequence[Result], count: int | None = None, width: float = 2.1) -> Figure:
    """Test images in rows: image, label, and each evaluator's prediction in matched colours.

    `count` rows (None: of all samples), each picture `width` inches wide.
    """
    tables = [rows_of(result)[:count] for result in results]
    titles = [
        "image", *(["label"] if results[0].samples.labels is not None else []),
        *[r.name for r in results],
    ]  # fmt: skip
    rows = [(*t[0][:-1], *[other[-1] for other in t]) for t in zip(*tables, strict=True)]
    height = width * rows[0][0].shape[0] / rows[0][0].shape[1]
    figure = Figure(figsize=(width * len(titles), height * len(rows) + 1.2), layout="constrained")
    axes = figure.subplots(len(rows), len(titles), squeeze=False)
    for row, pictures in zip(axes, rows, strict=True):
        for axis, picture in zip(row, pictures, strict=True):
            axis.imshow(picture, interpolation="nearest")
            axis.set_axis_off()
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=10)
    if results[0].samples.labels is not None:
        _class_legend(figure, results[0], Patch(color=tuple(IGNORED / 255), label="not labelled"))
    return figure


def _class_legend(figure: Figure, result: Result, *others: Patch) -> None:
    """Says below a figure which colour stands for which class."""
    colours = palette(len(result.classes)) / 255
    named = zip(colours, result.classes, strict=True)
    handles = [*(Patch(color=tuple(c), label=n) for c, n in named), *others]
    figure.legend(
        handles=handles, loc="outside lower center", ncols=min(len(handles), 6), fontsize=8
    )


def confusion_matrix(result: Result) -> Figure:
    """Shares of each class's pixels by cluster, clusters in the order of their classes."""
    assert result.counts is not None
    assert result.match is not None
    order = np.argsort(np.where(result.match < 0, len(result.classes), result.match), kind="stable")
    counts = result.counts[order].astype(np.float64)
    shares = counts / np.maximum(counts.sum(axis=0, keepdims=True), 1)
    size = min(2 + 0.5 * max(shares.shape), 60)  # inches
    figure = Figure(figsize=(size + 1, size), layout="constrained")
    axis = figure.subplots()
    picture = axis.imshow(shares.T, vmin=0, vmax=1, cmap="Blues")
    figure.colorbar(picture, ax=axis, label="share of the class's pixels")
    names = [
        f"{k} = {result.classes[result.match[k]]}" if result.match[k] >= 0 else f"{k} (left over)"
        for k in order
    ]
    if result.kind == "retrieval":
        names = list(result.classes)
    axis.set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize=8)
    axis.set_yticks(range(len(result.classes)), result.classes, fontsize=8)
    axis.set_xlabel("retrieved class" if result.kind == "retrieval" else "cluster = matched class")
    axis.set_ylabel("label")
    scores = result.scalars
    axis.set_title(
        f"{result.name}: Acc {100 * scores['accuracy']:.1f} %, mIoU {100 * scores['miou']:.1f} %",
        fontsize=10,
    )
    if shares.size <= 200:
        for c, k in np.ndindex(shares.T.shape):
            dark = "white" if shares[k, c] > 0.6 else "black"
            axis.text(k, c, f"{shares[k, c]:.2f}", ha="center", va="center", fontsize=7, color=dark)
    return figure


def curves(runs: Mapping[str, Sequence[dict]], names: Sequence[str]) -> Figure:
    """Metrics by step, each with a line for each run; of several runs the legend tells them apart.

    `runs` are the rows of metrics.jsonl by the run's name.
    """
    columns = min(3, len(names))
    lines = -(-len(names) // columns)
    # A legend takes room of its own, a line for each three runs.
    more = 0.3 * -(-len(runs) // 3) * (len(runs) > 1)
    figure = Figure(figsize=(4 * columns, 2.6 * lines + more), layout="constrained")
    axes = list(figure.subplots(lines, columns, squeeze=False).flat)
    colours = [f"C{number % 10}" for number in range(len(runs))]  # matplotlib's, made for lines
    for axis, name in zip(axes, names, strict=False):
        for (run, rows), colour in zip(runs.items(), colours, strict=True):
            points = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
            # A single point makes no line.
            marker = "." * (len(points) == 1)
            axis.plot(
                *zip(*points, strict=True), linewidth=1.2, marker=marker, color=colour, label=run
            )
        axis.set_title(
            name.removeprefix("train/").removeprefix("monitor/").replace("_", " "), fontsize=10
        )
        axis.set_xlabel("step", fontsize=8)
        axis.grid(alpha=0.3)
    for axis in axes[len(names) :]:
        axis.set_axis_off()
    if len(runs) > 1:
        # Not of the axes' lines, for not every run has every metric.
        handles = [Patch(color=c, label=n) for c, n in zip(colours, runs, strict=True)]
        figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=8)
    return figure


def squares_of(result: Result, image: int) -> tuple[int, int]:
    """Returns in how many rows and columns of squares a sample was predicted; (1, 1) = as a whole.

    Of the prototypes there are as many copies as squares.
    """
    extra = result.samples.extra
    if "prototypes" not in extra:
        return 1, 1
    stored = extra["prototypes"][image]
    count = stored.size // stored.shape[-1] // len(result.usage)
    height, width = extra["features"][image].shape[:2]
    rows = round((count * height / width) ** 0.5)
    return rows, count // rows


def _cells(
    result: Result, image: int, count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns (features f16[n D], segments i32[n], squares i64[n]) of n <= `count` drawn cells."""
    extra, shown = result.samples.extra, result.samples.predictions[image]
    grid = extra["features"][image]
    # The features cover the padding too: of them only those that see image.
    real = np.asarray(grid.shape[:2]) * (
        extra["real"][image].astype(float) if "real" in extra else 1
    )
    inside = np.ceil(real - 0.01).astype(int)
    y, x = np.divmod(rng.permutation(inside.prod())[:count], inside[1])
    last = np.asarray(shown.shape) - 1
    row, column = (
        np.minimum((place + 0.5) / size * (end + 1), end).astype(int)
        for place, size, end in zip((y, x), real, last, strict=True)
    )
    height, width = grid.shape[:2]
    rows, columns = squares_of(result, image)
    squares = (y * rows // height) * columns + x * columns // width
    return grid[y, x], shown[row, column], squares


def embedding(result: Result, points: int = 1500) -> Figure:
    """T-SNE (cosine) of the sample images' features with the method's prototypes as stars.

    Left in the colours of the predicted segments, right by image. `points` cells are drawn from all
    samples alike; where images were predicted in squares, from the first image alone, right by
    square: they are crops of one large image.
    """
    several = squares_of(result, 0) != (1, 1)
    images = 1 if several else len(result.samples.images)
    rng = np.random.default_rng(0)
    found = [_cells(result, i, points // images, rng) for i in range(images)]
    features, segments, squares = (np.concatenate(part) for part in zip(*found, strict=True))
    groups = squares if several else np.repeat(np.arange(images), [len(f) for f, _, _ in found])
    stored = result.samples.extra["prototypes"][0]
    prototypes = stored.reshape(-1, stored.shape[-1])[: len(result.usage)]
    flat = places(np.concatenate([features, prototypes]))
    cells, stars = flat[: -len(prototypes)], flat[-len(prototypes) :]
    chosen = cluster_classes(result)
    colours = palette(int(max(chosen.max(initial=0) + 1, len(result.classes))))[chosen] / 255
    figure = Figure(figsize=(11, 5.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.scatter(*cells.T, s=8, c=colours[segments], linewidths=0)
    left.scatter(*stars.T, s=160, c=colours, marker="*", edgecolors="black", linewidths=0.8)
    left.set_title(f"{result.name}: by segment, prototypes as stars", fontsize=10)
    right.scatter(*cells.T, s=8, c=palette(groups.max() + 1)[groups] / 255, linewidths=0)
    right.set_title("by square of one image" if several else "by image", fontsize=10)
    for axis in (left, right):
        axis.set_xticks([])
        axis.set_yticks([])
    if result.match is not None:
        _class_legend(figure, result)
    return figure


def histogram(result: Result, name: str, title: str, ends: tuple[float, float]) -> Figure:
    """One histogram over all sample images from their histograms `samples.extra[name]`."""
    each = [h.astype(np.float64).reshape(-1, h.shape[-1]) for h in result.samples.extra[name]]
    counts = np.concatenate(each).sum(axis=0)
    edges = np.linspace(*ends, len(counts) + 1)
    figure = Figure(figsize=(5, 3), layout="constrained")
    axis = figure.subplots()
    axis.stairs(counts / max(counts.sum(), 1e-9), edges, fill=True)
    axis.set_title(title, fontsize=10)
    axis.set_ylabel("share of pairs", fontsize=8)
    return figure


def similar_pixels(rows: Sequence[Sequence[Spot]]) -> Figure:
    """A pixel and those most alike to it in other images, a row for each; see `similar_pixels`."""
    height, width = rows[0][0].image.shape[:2]
    columns = max(map(len, rows))
    figure = Figure(
        figsize=(2.1 * columns, (2.1 * height / width + 0.3) * len(rows)), layout="constrained"
    )
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for line, spots in zip(axes, rows, strict=True):
        for axis in line:
            axis.set_axis_off()
        for i, (axis, spot) in enumerate(zip(line, spots, strict=False)):
            axis.imshow(spot.image[..., :3], interpolation="nearest")
            axis.plot(spot.column, spot.row, "o", mfc="none", mec="white", ms=11, mew=3)
            axis.plot(spot.column, spot.row, "o", mfc="none", mec="red", ms=11, mew=1.5)
            axis.set_title(f"cosine {spot.cosine:.3f}" if i else "pixel", fontsize=8)
    return figure


def first_samples(results: Mapping[str, Result]) -> Figure:
    """The first sample image of several results in rows: image, label, and its prediction."""
    rows = {name: rows_of(result)[0] for name, result in results.items()}
    titles = ["image", *["label"] * (len(next(iter(rows.values()))) - 2), "prediction"]
    height, width = next(iter(rows.values()))[0].shape[:2]
    figure = Figure(
        figsize=(2.1 * len(titles) + 1, 2.1 * len(rows) * height / width + 0.4),
        layout="constrained",
    )
    axes = figure.subplots(len(rows), len(titles), squeeze=False)
    for line, (name, pictures) in zip(axes, rows.items(), strict=True):
        for axis, picture in zip(line, pictures, strict=True):
            axis.imshow(picture, interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])
        line[0].set_ylabel(name, fontsize=9)
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=10)
    return figure
