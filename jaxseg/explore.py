"""Looking at what happens inside a run, one step at a time: see notebooks/explore.ipynb.

The functions return arrays, or figures that a notebook shows and `savefig` keeps.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from jaxseg.clustering import segments as seg
from jaxseg.core import Array, Batch, Output, State, UserError
from jaxseg.methods.segment_method import SegmentMethod
from jaxseg.report import figures
from jaxseg.report.segments import borders, tinted
from jaxseg.run import Run
from jaxseg.train import Step, init_optimiser, make_step


def start(run: Run) -> tuple[State, Step]:
    """Returns the state of a run before its first step, and the jitted step.

    The step is that of the train loop, but that it leaves the state that it is given intact, so
    that a step can be taken again.
    """
    state = init_optimiser(jax.tree.map(jnp.copy, run.untrained), run.transforms)
    key = jax.random.fold_in(run.key, 0)  # as the loop
    return state, jax.jit(make_step(run.method, run.transforms, key))


def training_segments(method: SegmentMethod, state: State, batch: Batch) -> seg.Segments:
    """Returns the segments that the method would learn from in a batch with regions.

    They are those of the features in inference, where those of training are of changed colours and
    of the batch's own statistics. See `clustering.segments.Segments`.

    Raises:
        UserError: the method has no segments, or the batch has no regions.
    """
    if not isinstance(method, SegmentMethod) or batch.regions is None or batch.image is None:
        raise UserError(
            f"{type(method).__name__} has no segments in training, or its batches have no regions; "
            "look at HSG or SegSort with data.regions set."
        )
    return jax.jit(_training_segments, static_argnums=0)(method, state, batch.image, batch.regions)


def _training_segments(
    method: SegmentMethod, state: State, image: Array, regions: Array
) -> seg.Segments:
    """`training_segments` of images u8[B V H W Ch] and regions i32[B V H W]."""
    count, views = image.shape[:2]
    features = method.predict(state, image.reshape(count * views, *image.shape[2:])).features
    features = features.reshape(count, views, *features.shape[1:])
    return seg.segments_of_views(features, regions, method.grid, method.rounds, method.slots)


def feature_colours(features: Array | np.ndarray) -> np.ndarray:
    """Returns u8[B h w 3]: the three main directions of features f[B h w D] as red, green, blue.

    Each direction is stretched from its 2nd to its 98th percentile over all images; features of
    fewer than three numbers leave the other colours at 0.
    """
    flat = np.asarray(features, np.float64).reshape(-1, np.shape(features)[-1])
    centred = flat - flat.mean(axis=0, keepdims=True)
    _, _, axes = np.linalg.svd(centred.T @ centred)
    main = centred @ axes[:3].T
    low, high = np.percentile(main, [2, 98], axis=0, keepdims=True)
    shown = np.clip((main - low) / np.maximum(high - low, 1e-12), 0, 1)
    shown = np.pad(shown, [(0, 0), (0, 3 - shown.shape[1])])
    return (255 * shown).astype(np.uint8).reshape(*np.shape(features)[:-1], 3)


def view_figure(batch: Batch, segments: seg.Segments | None = None, rows: int = 3) -> Figure:
    """The views of the first images of a training batch, and what is in them.

    Columns: each view; its coherent regions, where the batch has some, which have one colour in all
    views of an image; and the segments of each view, where they are given.
    """
    images = np.asarray(batch.image)[..., :3]
    columns = [(f"view {v}", images[:, v]) for v in range(images.shape[1])]
    maps: dict[str, Array | None] = {"regions": batch.regions}
    if segments is not None:
        padding = segments.slot == segments.mask.shape[1]
        maps["segments"] = jnp.where(padding, -1, segments.slot)
    for name, found in maps.items():
        if found is not None:
            for v in range(images.shape[1]):
                whole = resized(np.asarray(found)[:, v], images.shape[2:4])
                painted = [tinted(*pair) for pair in zip(images[:, v], whole, strict=True)]
                columns.append((f"{name} of view {v}", np.stack(painted)))
    return _grid(columns, rows)


def level_figure(images: Array | np.ndarray, output: Output, rows: int = 3) -> Figure:
    """What a method says of images u8[B H W Ch]: features, clusters, segments and their groups.

    Columns: the image; its features as colours (`feature_colours`); the method's own clusters,
    where it has some; and its levels, from segments to the coarsest groups.
    """
    shown = np.asarray(images)[..., :3]
    size = shown.shape[1:3]
    columns = [("image", shown), ("features", resized(feature_colours(output.features), size))]
    if output.logits is not None:
        clusters = resized(np.asarray(output.logits.argmax(-1)), size)
        colours = figures.palette(output.logits.shape[-1])
        columns.append(("clusters", figures.paint(clusters, colours)))
    for number, level in enumerate(output.levels):
        whole = resized(np.asarray(level), size)
        if number:
            painted = [tinted(*pair) for pair in zip(shown, whole, strict=True)]
        else:  # more of them than colours that can be told apart
            lines = [borders(one)[..., None] for one in whole]
            pairs = zip(lines, shown, strict=True)
            painted = [np.where(line, np.uint8(255), image) for line, image in pairs]
        columns.append((f"level {number}" if number else "segments", np.stack(painted)))
    return _grid(columns, rows)


def term_figure(history: Sequence[Mapping[str, Any]]) -> Figure:
    """The metrics of steps taken by hand, in the order of `history`, as training draws its own."""
    rows = [
        {"step": step} | {name: float(value) for name, value in metrics.items()}
        for step, metrics in enumerate(history, 1)
    ]
    return figures.curves({"steps": rows}, sorted(history[0]))


def resized(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns maps [B h w ...] at H x W = `size`, each pixel that of the cell it lies in."""
    rows = np.arange(size[0]) * maps.shape[1] // size[0]
    columns = np.arange(size[1]) * maps.shape[2] // size[1]
    return maps[:, rows][:, :, columns]


def _grid(columns: Sequence[tuple[str, np.ndarray]], rows: int) -> Figure:
    """Returns pictures u8[B H W 3] by title in columns, the first `rows` of each."""
    count = min(rows, len(columns[0][1]))
    height, width = columns[0][1].shape[1:3]
    figure = Figure(
        figsize=(1.8 * len(columns), 1.8 * height / width * count + 0.4), layout="constrained"
    )
    axes = figure.subplots(count, len(columns), squeeze=False)
    for line, (title, pictures) in zip(axes.T, columns, strict=True):
        line[0].set_title(title, fontsize=9)
        for axis, picture in zip(line, pictures, strict=False):
            axis.imshow(picture, interpolation="nearest")
            axis.set_axis_off()
    return figure
