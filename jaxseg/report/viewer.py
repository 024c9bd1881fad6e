"""Test images with what several results say of them, as layers of one picture."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from jaxseg.record import Result
from jaxseg.report import figures, segments
from jaxseg.report.parts import Layer, Viewer


class Named(NamedTuple):
    """A result, what its layers are called, and the run that it is of, where there are several."""

    name: str
    result: Result
    run: str = ""


_Shown = list[tuple[Named, int]]  # the results of an image, and its number in each


def viewers(results: Sequence[Named], runs: int = 1) -> list[Viewer]:
    """Returns a viewer for each group of results that show the same images.

    Images that fewer than `runs` runs show are left out.
    """
    groups: dict[tuple[str, ...], list[_Shown]] = {}
    for shown in _by_image(results):
        if len({one.run for one, _ in shown}) >= runs:
            groups.setdefault(tuple(one.name for one, _ in shown), []).append(shown)
    several = sum(one.result.kind == "hierarchy" for one in results) > 1
    return [
        Viewer([list(_layers(shown, several)) for shown in group], _legend(group[0]))
        for group in groups.values()
    ]


def _by_image(results: Sequence[Named]) -> list[_Shown]:
    """Returns which results show each image; with labels of other classes it is another one."""
    found: dict[tuple, _Shown] = {}
    for one in results:
        for number, image in enumerate(one.result.samples.images):
            key = (image.tobytes(), image.shape, one.result.classes)
            found.setdefault(key, []).append((one, number))
    return list(found.values())


def _layers(shown: _Shown, several: bool) -> Iterator[Layer]:
    """Yields the layers of an image: itself, segments and levels, predictions, and labels.

    Levels of `several` results are called after their result too.
    """
    first, number = shown[0]
    yield Layer("image", first.result.samples.images[number][..., :3])
    hierarchies = [(one, number) for one, number in shown if one.result.kind == "hierarchy"]
    for one, number in hierarchies:
        titles = segments.level_titles(one.result)
        pictures = segments.level_pictures(one.result, number)
        for title, pixels in zip(titles, pictures, strict=True):
            yield Layer(f"{one.name}: {title}" if several else title, pixels)
    for one, number in shown:
        if one.result.kind != "hierarchy":
            yield Layer(one.name, figures.row_of(one.result, number)[-1], exact=True)
    for one, number in hierarchies[:1]:
        for title, pixels in segments.label_pictures(one.result, number):
            yield Layer(f"label: {title}", pixels, exact=True)
    if not hierarchies and first.result.samples.labels is not None:
        yield Layer("label", figures.row_of(first.result, shown[0][1])[1], exact=True)


def _legend(shown: _Shown) -> list[tuple[str, np.ndarray]]:
    """Returns the colours of the classes, and of pixels without one, where there are classes."""
    classes = shown[0][0].result.classes
    if not classes:
        return []
    colours = figures.palette(len(classes))
    return [*zip(classes, colours, strict=True), ("not labelled", figures.IGNORED)]
