"""Structured forests, with forests made by hand in OpenCV's file format."""

import gzip

import numpy as np
import pytest

from jaxseg.boundaries.structured_forest import StructuredForest
from jaxseg.core import UserError

OPTIONS = {
    "stride": 2, "shrinkNumber": 2, "patchSize": 16, "patchInnerSize": 8,
    "numberOfGradientOrientations": 4, "gradientSmoothingRadius": 0,
    "regFeatureSmoothingRadius": 0, "ssFeatureSmoothingRadius": 0,
    "gradientNormalizationRadius": 4, "selfsimilarityGridSize": 5,
    "numberOfTrees": 1, "numberOfTreesToEvaluate": 1,
}  # fmt: skip
# One tree: a root that asks for the brightness at the centre of a patch's inner part (cell 2, 2 of
# 8 x 8; L of CIELUV over 270) and sends the dark ones to a leaf without edges, the others to a leaf
# with edges at the first 2 x 2 of 8 x 8 places. At a stride of 2 each pixel is hit once.
FOREST = {
    "childs": [[2, 0, 0]],
    "featureIds": [[2 * 8 + 2, 0, 0]],
    "thresholds": [[0.16, 0.0, 0.0]],
    "edgeBoundaries": [[0, 0, 0, 4]],
    "edgeBins": [[0, 1, 8, 9]],
}
# Patches begin at the image's first pixel and end at its last, so that no first place of one lies
# in the last eight rows and columns.
# What a tree adds: 2 stride^2 / inner^2 / trees.
HIT = 2 * 2**2 / 8**2


def forest_text(options=OPTIONS, **lists):
    lines = ["%YAML:1.0", "---", "options:"]
    lines += [f"   {name}: {value}" for name, value in options.items()]
    for name, trees in (FOREST | lists).items():
        lines += [f"{name}:", *[f"   - [ {', '.join(map(str, tree))} ]" for tree in trees]]
    return "\n".join(lines) + "\n"


@pytest.fixture(params=[".yml", ".yml.gz"])
def forest(request, tmp_path):
    path = tmp_path / f"model{request.param}"
    packed = path.suffix == ".gz"
    path.write_bytes(gzip.compress(forest_text().encode()) if packed else forest_text().encode())
    return StructuredForest(str(path))


def test_a_stump_marks_what_is_bright(forest):
    """Red (L = 53) is above the threshold of 0.16 * 270 = 43, blue (L = 32) below: RGB, not BGR."""
    image = np.zeros((32, 48, 3), np.uint8)
    image[:, :24] = (0, 0, 255)
    image[:, 24:] = (255, 0, 0)
    edges = forest(image)
    raw = np.where(np.arange(48) >= 24, HIT, 0)
    # OpenCV blurs the sum by 1/4, 1/2, 1/4.
    expected = np.convolve(raw, [0.25, 0.5, 0.25], mode="same")
    np.testing.assert_allclose(
        edges.strength[4:22, 4:38], np.broadcast_to(expected[4:38], (18, 34)), atol=1e-6
    )
    assert edges.strength.dtype == edges.angle.dtype == np.float32
    assert edges.strength.shape == (32, 48)


def test_trees_take_turns(tmp_path):
    """With two trees of which one is evaluated a place, a forest answers in a chequered way."""
    path = tmp_path / "two.yml"
    options = OPTIONS | {"numberOfTrees": 2}
    two = {name: trees * 2 for name, trees in FOREST.items()}
    # The second tree sends all to its leaf without edges; its bounds go on from the first one's.
    two |= {"thresholds": [[0.16, 0, 0], [9.0, 0, 0]], "edgeBoundaries": [[0, 0, 0, 4]] * 2}
    path.write_text(forest_text(options, **two))
    strength = StructuredForest(str(path))(np.full((32, 48, 3), 255, np.uint8)).strength
    # Fields of 2 x 2; the blur leaves (3/4)^2 + (1/4)^2 of a field, as much as a neighbour loses.
    rows, columns = np.indices((32, 48)) // 2
    expected = HIT * np.where((rows + columns) % 2 == 0, 0.625, 0.375)
    np.testing.assert_allclose(strength[4:20, 4:36], expected[4:20, 4:36], atol=1e-6)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "damaged"),
        (b"not a forest", "damaged"),
        (b"%YAML:1.0\n---\nletters: 3\n", "it has no stride"),
        (gzip.compress(forest_text().encode())[:60], "damaged"),
        (forest_text().replace("childs", "sons").encode(), "it has no childs"),
        (forest_text(OPTIONS | {"numberOfTrees": 4}).encode(), "of 1 trees, not of 4"),
    ],
    # The content would be the name, and gzip's has the second in it: other workers, other names.
    ids=["empty", "other", "no stride", "cut off", "no childs", "too few trees"],
)
def test_what_is_no_forest_is_named(tmp_path, content, says):
    path = tmp_path / ("model.yml.gz" if content[:2] == b"\x1f\x8b" else "model.yml")
    path.write_bytes(content)
    with pytest.raises(UserError, match=says) as error:
        StructuredForest(str(path))
    assert str(path) in str(error.value)
    assert "opencv_extra" in str(error.value)


def test_a_missing_file_is_named():
    with pytest.raises(UserError, match=r"There is no structured forest 'nowhere.yml'.*Get the"):
        StructuredForest("nowhere.yml")
