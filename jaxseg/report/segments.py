"""Pictures of segments: hierarchies of groups, attention, neighbours, and t-SNE of features.

Each is drawn from a result of kind "hierarchy" and what its samples hold in `extra`.
"""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from jaxseg.record import Result
from jaxseg.report.figures import IGNORED, paint, palette
from jaxseg.report.tsne import places

_LEVEL, _LABEL, _GROUPS = "level/", "label/", "groups/"
ATTENTION = "attention/"  # what parts of the output hold attention maps f32[B h w n]
_QUERY, _FOUND = np.array([255, 40, 40]), np.array([255, 220, 0])  # colours of outlines


def names(result: Result, kind: str) -> list[str]:
    """Returns the names in `extra` that start with `kind`, in order."""
    return sorted(name for name in result.samples.extra if name.startswith(kind))


def levels_of(result: Result) -> int:
    """Returns how many levels the samples have."""
    return len(names(result, _LEVEL))


def borders(groups: np.ndarray) -> np.ndarray:
    """Returns bool[H W], the pixels of i[H W] whose right or lower neighbour is another group."""
    found = np.zeros(groups.shape, bool)
    found[:, :-1] |= groups[:, :-1] != groups[:, 1:]
    found[:-1] |= groups[:-1] != groups[1:]
    return found


def outlined(image: np.ndarray, inside: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """Returns the image u8[H W 3], paler outside of `inside` bool[H W], whose rim is coloured."""
    shown = np.where(inside[..., None], image, image * 0.45 + 115)
    core = inside
    for _ in range(max(2, min(inside.shape) // 80)):  # so that it is seen in large images too
        core = _eroded(core)
    shown[inside & ~core] = colour
    return shown.astype(np.uint8)


def _eroded(inside: np.ndarray) -> np.ndarray:
    """Returns bool[H W], the pixels of bool[H W] whose four neighbours are inside as well."""
    wide = np.pad(inside, 1)
    return inside & wide[:-2, 1:-1] & wide[2:, 1:-1] & wide[1:-1, :-2] & wide[1:-1, 2:]


def tinted(image: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Returns the grey image u8[H W 3] in a colour for each group, with white borders."""
    count = int(groups.max(initial=0)) + 1
    grey = image.mean(axis=-1, keepdims=True) / 255
    shown = paint(groups, palette(count)) * (0.55 + 0.45 * grey)
    shown[borders(groups)] = 255
    return shown.astype(np.uint8)


def level_titles(result: Result) -> list[str]:
    """Returns what the pictures of `level_pictures` show."""
    return ["base segments", *[f"level {i}" for i in range(1, levels_of(result))]]


def level_pictures(result: Result, image: int) -> list[np.ndarray]:
    """Returns u8[H W 3] of each level of a sample: borders of base segments, then tinted groups."""
    shown = result.samples.images[image][..., :3]
    first, *others = (result.samples.extra[name][image] for name in names(result, _LEVEL))
    base = shown.copy()
    base[borders(first)] = 255
    return [base, *[tinted(shown, groups) for groups in others]]


def label_pictures(result: Result, image: int) -> list[tuple[str, np.ndarray]]:
    """Returns (name, u8[H W 3]) of each label map of a sample; the first is that of the classes.

    Parts and instances have colours of their own: the legend is of the classes.
    """
    labels, classes = names(result, _LABEL), len(result.classes)
    colours, pictures = palette(classes + 32), []
    for name in labels:
        own = colours if name == labels[0] else colours[classes:]
        label = result.samples.extra[name][image]
        picture = paint(np.where(label < 0, -1, label % len(own)), own)
        pictures.append((name.rpartition("/")[2], picture))
    return pictures


def hierarchy(result: Result, rows: int = 6) -> Figure:
    """Images with the borders of their base segments, each level, and the labelled regions."""
    samples, labels = result.samples, names(result, _LABEL)
    colours = palette(len(result.classes))
    titles = ["image", *level_titles(result)]
    titles += [name.rpartition("/")[2] for name in labels]
    pictures = []
    for i, image in enumerate(samples.images[:rows]):
        row = [image[..., :3], *level_pictures(result, i)]
        pictures.append([*row, *(picture for _, picture in label_pictures(result, i))])
    figure = _grid(pictures, titles, result.name)
    if labels:
        handles = [
            Patch(color=tuple(c / 255), label=n)
            for c, n in zip(colours, result.classes, strict=False)
        ]
        handles.append(Patch(color=tuple(IGNORED / 255), label="not labelled"))
        figure.legend(
            handles=handles, title=f"colours of {titles[-len(labels)]}", loc="outside lower center",
            ncols=min(len(handles), 9), fontsize=8, title_fontsize=8,
        )  # fmt: skip
    return figure


def attention(result: Result, name: str, rows: int = 4, columns: int = 12) -> Figure:
    """Images with the maps of each query, those with the most attention first."""
    samples = result.samples
    maps = [_unpadded(result, name, i) for i in range(min(rows, len(samples.images)))]
    order = np.argsort(-np.mean([x.mean(axis=(0, 1)) for x in maps], axis=0))[:columns]
    shape = samples.images[0].shape
    figure, axes = _axes(len(maps), 1 + len(order), shape[0] / shape[1])
    for line, image, found in zip(axes, samples.images, maps, strict=False):
        height, width = image.shape[:2]
        line[0].imshow(image[..., :3])
        for axis, query in zip(line[1:], order, strict=True):
            axis.imshow(image[..., :3].mean(axis=-1), cmap="gray", alpha=0.6)
            axis.imshow(
                found[..., query], extent=(-0.5, width - 0.5, height - 0.5, -0.5), cmap="inferno",
                alpha=0.7, interpolation="bilinear", vmin=0, vmax=max(found.max(), 1e-6),
            )  # fmt: skip
    axes[0][0].set_title("image", fontsize=9)
    for axis, query in zip(axes[0][1:], order, strict=True):
        axis.set_title(f"query {query}", fontsize=9)
    figure.suptitle(f"{result.name}: {name.replace('/', ' of queries, ')}", fontsize=10)
    return figure


def _unpadded(result: Result, name: str, image: int) -> np.ndarray:
    """Returns a map f32[h w n] of a sample without the cells that see but padding."""
    found = result.samples.extra[name][image].astype(np.float32)
    real = result.samples.extra.get("real")
    if real is None:
        return found
    height, width = np.ceil(np.asarray(found.shape[:2]) * real[image].astype(float) - 0.01)
    return found[: int(height), : int(width)]


def neighbours(result: Result, queries: int = 4, count: int = 5) -> Figure:
    """The groups of other images that are nearest to a query, at a fine and at the coarsest level.

    Of an image the group that is most like the query is shown, by the cosine of mean features.
    """
    last = levels_of(result) - 1
    shown = sorted({min(1, last), last})
    chosen = _queries(result, queries)
    rows, titles = [], []
    for image, place in chosen:
        for level in shown:
            maps = result.samples.extra[f"{_LEVEL}{level}"]
            group = int(maps[image][place])
            row = [_inside(result, image, maps[image] == group, _QUERY)]
            ranked = _nearest(result, level, image, group)[:count]
            row += [_inside(result, i, maps[i] == g, _FOUND) for i, g, _ in ranked]
            rows.append(row)
            titles.append([f"query, level {level}", *[f"{cosine:.2f}" for _, _, cosine in ranked]])
    width = max(map(len, rows))
    rows = [[*row, *[np.full_like(row[0], 255)] * (width - len(row))] for row in rows]
    title = f"{result.name}: nearest groups of other images (cosine)"
    figure = _grid(rows, [""] * width, title, gap=0.25)
    for line, texts in enumerate(titles):
        for axis, text in zip(figure.axes[line * width :], texts, strict=False):
            axis.set_title(text, fontsize=8)
    return figure


def _inside(result: Result, image: int, inside: np.ndarray, colour: np.ndarray) -> np.ndarray:
    return outlined(result.samples.images[image][..., :3], inside, colour)


def _queries(result: Result, count: int) -> list[tuple[int, tuple[int, int]]]:
    """Returns (image, pixel) of what is asked for: an object where labels tell, else the centre.

    Of each image the rarest class that covers a hundredth of it, at the pixel that lies deepest in
    it; the images with the rarest classes come first.
    """
    images, labels = result.samples.images, result.samples.labels
    if labels is None:
        return [(i, (x.shape[0] // 2, x.shape[1] // 2)) for i, x in enumerate(images[:count])]
    total = np.bincount(np.concatenate([x[x >= 0] for x in labels]), minlength=1)
    found = []
    for i, label in enumerate(labels):
        sizes = np.bincount(label[label >= 0], minlength=len(total))
        seen = np.flatnonzero(sizes >= label.size / 100)
        if len(seen):
            rarest = seen[total[seen].argmin()]
            found.append((total[rarest], i, _deepest(label == rarest)))
    return [(i, place) for _, i, place in sorted(found)[:count]]


def _deepest(inside: np.ndarray) -> tuple[int, int]:
    """Returns a pixel of bool[H W] that outlasts the erosion of the others."""
    core = _eroded(inside)
    while core.any():
        inside, core = core, _eroded(core)
    y, x = np.argwhere(inside)[0]
    return int(y), int(x)


def _nearest(result: Result, level: int, image: int, group: int) -> list[tuple[int, int, float]]:
    """Returns (image, group, cosine) of the best group of every other image, nearest first."""
    features = [x.astype(np.float32) for x in result.samples.extra[f"{_GROUPS}{level}"]]
    query = features[image][group]
    found = []
    for i, others in enumerate(features):
        if i != image and len(others):
            cosines = others @ query
            best = int(cosines.argmax())
            found.append((i, best, float(cosines[best])))
    return sorted(found, key=lambda x: -x[2])


def segment_embedding(result: Result, points: int = 800) -> Figure:
    """T-SNE (cosine) of the features of base segments of the test split.

    Left by the class that most of their pixels have; right those of one class, the one with the
    most segments, by the largest foreground class beside it in their image (Ke et al. 2022, figure
    11).
    """
    rng = np.random.default_rng(0)
    features = result.arrays["segment_features"].astype(np.float32)
    classes, beside = result.arrays["segment_class"], result.arrays["segment_beside"]
    drawn = rng.permutation(len(features))[:points]
    figure = Figure(figsize=(12, 5.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    _scatter(left, places(features[drawn]), classes[drawn], result.classes)
    left.set_title(f"{result.name}: base segments by class", fontsize=10)
    one = _with_company(classes, beside)
    chosen = np.flatnonzero(classes == one)[:points]
    _scatter(right, places(features[chosen]), beside[chosen], result.classes)
    right.set_title(
        f"segments of {result.classes[one]!r}, by the class beside them in the image", fontsize=10
    )
    return figure


def _with_company(classes: np.ndarray, beside: np.ndarray) -> int:
    """Returns the class with the most segments that are not all beside the same class."""
    sizes = np.bincount(classes)
    kinds = [len(np.unique(beside[classes == c])) for c in range(len(sizes))]
    return int(np.argmax(np.where(np.array(kinds) > 1, sizes + len(classes), sizes)))


def _scatter(
    axis: Axes, points: np.ndarray, classes: np.ndarray, class_names: tuple[str, ...]
) -> None:
    colours = palette(len(class_names)) / 255
    for number in np.unique(classes):
        some = points[classes == number]
        colour = colours[number] if number >= 0 else (0.75, 0.75, 0.75)
        title = class_names[number] if number >= 0 else "nothing else"
        axis.scatter(
            some[:, 0], some[:, 1], s=14, color=colour, linewidths=0, label=f"{title} ({len(some)})"
        )
    axis.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    axis.set_xticks([])
    axis.set_yticks([])


def _axes(rows: int, columns: int, aspect: float, gap: float = 0.03) -> tuple[Figure, np.ndarray]:
    """Returns a figure and axes without frames [rows columns] for pictures of that height/width.

    `gap` inches are left between rows, for titles.
    """
    size = (1.7 * columns + 0.2, (1.63 * aspect + gap) * rows + 0.8)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    return figure, axes


def _grid(
    pictures: list[list[np.ndarray]], titles: list[str], title: str, gap: float = 0.03
) -> Figure:
    height, width = pictures[0][0].shape[:2]
    figure, axes = _axes(len(pictures), len(titles), height / width, gap)
    for line, row in zip(axes, pictures, strict=True):
        for axis, picture in zip(line, row, strict=True):
            axis.imshow(picture, interpolation="nearest")
    for axis, text in zip(axes[0], titles, strict=True):
        axis.set_title(text, fontsize=9)
    figure.suptitle(title, fontsize=10)
    return figure
