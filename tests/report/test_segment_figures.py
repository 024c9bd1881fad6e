"""Pictures of segments show what a hierarchy's result holds."""

import dataclasses

import numpy as np
import pytest

from jaxseg import report
from jaxseg.record import Result, Samples
from jaxseg.report import segments

CLASSES = ("sky", "person")


@pytest.fixture(scope="module")
def result():
    """Three images of 24 x 32 in four columns of groups, which pairs of the next level merge.

    The group in column i of image n has direction (i + n) modulo 4. The person is the third column,
    and the first image has none.
    """
    count, base = 3, np.broadcast_to(np.repeat(np.arange(4), 8), (24, 32))
    rng = np.random.default_rng(0)
    label = [np.where((base == 2) & (n > 0), 1, 0) for n in range(count)]
    directions = [np.roll(np.eye(4), n, axis=1) for n in range(count)]
    samples = Samples(
        images=[rng.integers(0, 256, (24, 32, 3), np.uint8) for _ in range(count)],
        labels=label,
        predictions=[base // 2] * count,
        extra={
            "level/0": [base] * count,
            "level/1": [base // 2] * count,
            "groups/0": directions,
            "groups/1": [(x[::2] + x[1::2]) / np.sqrt(2) for x in directions],
            "label/0/class": label,
            "label/1/part": [base] * count,
            "attention/level1": [rng.random((6, 8, 3)).astype(np.float16)] * count,
        },
    )
    arrays = {
        "segment_features": rng.normal(size=(30, 4)).astype(np.float16),
        "segment_class": np.arange(30) % 2,
        "segment_beside": np.where(np.arange(30) % 4 == 1, -1, 0),
    }
    return Result("toy", {}, np.array([2, 2]), CLASSES, samples, kind="hierarchy", arrays=arrays)


def pictures(figure):
    return [axis.images[0].get_array() for axis in figure.axes if axis.images]


def test_a_hierarchy_shows_levels_beside_labels(result):
    figure = segments.hierarchy(result, rows=2)
    titles = [axis.get_title() for axis in figure.axes[:5]]
    assert titles == ["image", "base segments", "level 1", "class", "part"]
    image, base, level, label, _ = pictures(figure)[5:]
    np.testing.assert_array_equal(image, result.samples.images[1])
    white = np.all(base == 255, axis=-1)
    assert np.flatnonzero(white.all(axis=0)).tolist() == [7, 15, 23]
    assert np.flatnonzero(np.all(level == 255, axis=(0, 2))).tolist() == [15]
    assert len(np.unique(label.reshape(-1, 3), axis=0)) == 2
    (legend,) = figure.legends
    assert [t.get_text() for t in legend.get_texts()] == [*CLASSES, "not labelled"]
    assert legend.get_title().get_text() == "colours of class"


def test_attention_is_painted_in_the_order_of_its_mass(result):
    figure = segments.attention(result, "attention/level1", rows=1, columns=2)
    maps = result.samples.extra["attention/level1"][0].astype(np.float32)
    order = np.argsort(-maps.mean((0, 1)))[:2]
    for axis, query in zip(figure.axes[1:], order, strict=True):
        _, shown = axis.images
        np.testing.assert_array_equal(shown.get_array(), maps[..., query])
        assert shown.get_extent() == [-0.5, 31.5, 23.5, -0.5]
        assert axis.get_title() == f"query {query}"


def test_neighbours_are_the_most_alike_groups_of_other_images(result):
    figure = segments.neighbours(result, queries=1, count=2)
    assert [a.get_title() for a in figure.axes] == ["query, level 1", "0.50", "0.50"]
    query, best, _ = pictures(figure)
    # The person lies in the right half of the second image, whose two directions each half of the
    # others has one of.
    assert np.all(query == [255, 40, 40], axis=-1)[0].tolist() == [False] * 16 + [True] * 16
    assert segments._nearest(result, 0, 1, 2) == [(0, 3, 1.0), (2, 1, 1.0)]
    assert best.shape == (24, 32, 3)


def test_the_deepest_pixel():
    inside = np.zeros((9, 9), bool)
    inside[1:8, 2:7] = True
    inside[8, 8] = True
    assert segments._deepest(inside) in {(y, 4) for y in (3, 4, 5)}


def test_segments_by_class_and_by_what_is_beside_them(result):
    left, right = segments.segment_embedding(result, points=20).axes
    assert sum(len(c.get_offsets()) for c in left.collections) == 20
    names = [t.get_text() for t in right.get_legend().get_texts()]
    # Segments of the person are beside nothing or the sky; those of the sky beside the sky alone.
    assert names == ["nothing else (8)", "sky (7)"]
    assert "'person'" in right.get_title()


def test_a_report_keeps_the_kinds_of_results_apart(result, tmp_path):
    samples = dataclasses.replace(result.samples, extra={})
    usage = np.array([1, 1])
    clusters = Result("clusters", {}, usage, CLASSES, samples)
    retrieval = dataclasses.replace(clusters, name="retrieval", kind="retrieval")
    names = {path.stem for path in report.write(tmp_path, [result, clusters, retrieval])}
    assert names == {
        "samples", "samples_1", "hierarchy_toy", "attention_level1_toy", "neighbours_toy",
        "segments_toy",
    }  # fmt: skip


def test_a_hierarchy_without_labels(result):
    extra = {k: v for k, v in result.samples.extra.items() if not k.startswith("label/")}
    samples = dataclasses.replace(result.samples, labels=None, extra=extra)
    bare = dataclasses.replace(result, samples=samples, arrays={}, classes=())
    assert len(pictures(segments.hierarchy(bare))) == 9
    assert len(segments.neighbours(bare, queries=2, count=2).axes) == 6
    assert report.strips(bare).shape[1] == 64
