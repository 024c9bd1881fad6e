"""Segmenting images: of any size and kind, whole or in tiles, with what a run has left."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import jaxseg
from jaxseg.core import Method, Output, State, UserError
from jaxseg.evaluation.outputs import label_map
from jaxseg.evaluation.probes import Argmax
from jaxseg.image_shapes import padded
from jaxseg.report.figures import palette
from jaxseg.sections import DataSection, EvalSection
from jaxseg.segmentation import Cells
from jaxseg.segmenter import Segmenter
from jaxseg.trained import Trained
from jaxseg.views.geometry import EvalView
from tests.runs import DATA, INFOSEG, KMEANS, OWN, SEGSORT, SMOOSEG, make_run

RNG = np.random.default_rng(0)
PHOTO = RNG.integers(0, 256, (40, 50, 3), np.uint8)


@dataclasses.dataclass(frozen=True)
class Smooth(Method):
    """Scores are means over cells of 4 x 4 pixels, blurred over the neighbours of a cell.

    With `frame`, the border of what it sees is spoilt, as by the padding of convolutions; with
    `lost`, so many cells are missing there, as without padding.
    """

    frame: float = 0.0
    lost: int = 0

    def init(self, key, spec):
        return State(step=jnp.zeros((), jnp.int32), params={}, extra={}, frozen={})

    def loss(self, state, batch, key):
        raise NotImplementedError

    def predict(self, state, image):
        batch, height, width, _ = image.shape
        cells = image.astype(jnp.float32).reshape(batch, height // 4, 4, width // 4, 4, 3) / 255
        cells = cells.mean((2, 4))
        wide = jnp.pad(cells, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
        blurred = sum(wide[:, i : i + height // 4, j : j + width // 4] for i, j in
                      ((0, 1), (1, 0), (1, 2), (2, 1), (1, 1)))  # fmt: skip
        spoilt = jnp.ones_like(blurred).at[:, 1:-1, 1:-1].set(0)
        levels = ((cells[..., 0] > 0.5).astype(jnp.int32),)
        kept = slice(self.lost, -self.lost or None)
        logits = (blurred + self.frame * spoilt)[:, kept, kept]
        return Output(features=2 * cells, logits=logits, levels=levels)


def smooth(frame=0.0, lost=0, resize=0, upsample="bilinear", tile=0):
    method = Smooth(frame, lost)
    trained = Trained(
        method=method, state=method.init(None, None), probe=Argmax(), fitted={},
        names=("red", "green", "cluster 2"), colours=palette(3),
        view=EvalView(resize=resize), section=EvalSection(upsample=upsample, tile=tile),
        data=DataSection(**DATA), meta={},
    )  # fmt: skip
    return Segmenter(trained)


def waves(height, width):
    """A smooth picture in which every class is the brightest somewhere."""
    y, x = np.mgrid[:height, :width] / 40.0
    parts = [np.sin(y + x), np.sin(y - 2 * x + 1), np.sin(3 * x + 2)]
    return np.stack([127.5 + 120 * part for part in parts], -1).astype(np.uint8)


@pytest.mark.parametrize("rule", ["bilinear", "nearest"])
def test_labels_are_those_of_an_evaluation(rule):
    image = waves(64, 96)
    found = smooth(upsample=rule)(image)
    output = Smooth().predict(None, jnp.asarray(image)[None])
    wanted = label_map(output.logits, 64, 96, rule)[0]
    np.testing.assert_array_equal(found.labels, wanted)
    np.testing.assert_array_equal(found.labels, found.scores().argmax(-1))
    window = (10, 20, 7, 9)
    np.testing.assert_array_equal(found.scores(window), found.scores()[10:17, 20:29])
    assert found.pixels.sum() == 64 * 96
    with pytest.raises(ValueError, match="not inside"):
        found.scores((60, 0, 10, 10))


def test_bilinear_is_that_of_jax():
    cells = RNG.random((5, 7, 3)).astype(np.float32)
    wanted = jax.image.resize(cells, (21, 22, 3), "bilinear", antialias=False)
    found = Cells((5, 7)).bilinear(cells, (21, 22), (0, 0, 21, 22))
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_any_size_comes_back_at_its_size_and_few_shapes_are_compiled():
    segmenter = smooth()
    images = [waves(h, w) for h, w in ((40, 50), (41, 55), (33, 49), (44, 60), (100, 37), (7, 3))]
    together = segmenter(images)
    assert [one.size for one in together] == [image.shape[:2] for image in images]
    # Three of one padded shape at once; then (112, 48) and (16, 16), one by one.
    assert segmenter._predict._cache_size() == 3
    for image, one in zip(images, together, strict=True):
        alone = segmenter(image)
        np.testing.assert_array_equal(alone.labels, one.labels)
        np.testing.assert_allclose(alone.scores(), one.scores(), atol=1e-6)
    before = segmenter._predict._cache_size()
    sizes = RNG.integers(130, 256, (40, 2))
    segmenter([waves(h, w) for h, w in sizes])
    # At most 8 sides to an octave: 8 x 8 shapes, each alone or together.
    shapes = {tuple(-(-s // 16) * 16 for s in size) for size in sizes.tolist()}
    assert segmenter._predict._cache_size() - before <= 2 * len(shapes)
    assert len({padded(n, 16, 16) for n in range(257, 513)}) == 8
    assert padded(3, 16, 64) == 64


def test_images_are_resized_as_the_test_images_and_labels_are_not():
    image = waves(120, 160)
    found = smooth(resize=64)(image)
    assert found.size == (120, 160)
    assert found._scores.shape[:2] == (16, 24)  # 64 x 85, padded to 64 x 96
    whole = smooth()(image)
    assert (found.labels == whole.labels).mean() > 0.95


@pytest.mark.parametrize(("height", "width"), [(300, 420), (260, 97), (40, 700)])
def test_tiles_are_the_whole_image_where_they_agree(height, width):
    """Of a smooth network to 0.01 of scores of 0.1 to 4.8, away from the padded borders."""
    image = waves(height, width)
    whole = smooth()(image)
    for side in (64, 96):
        tiled = smooth(tile=side)(image)
        assert tiled.levels == ()
        # The network blurs over a cell: in the last cell of a tile, whose weight is at most 0.04,
        # it takes that cell for its neighbour, from which it differs by up to 0.2.
        inside = slice(0, height // 8 * 8 - 8), slice(0, width // 8 * 8 - 8)
        apart = np.abs(tiled.scores() - whole.scores())[inside]
        assert apart.max() < 0.01
        assert (tiled.labels == whole.labels)[inside].mean() > 0.999
    # Scores that know of no border are equal but for rounding.
    exact = smooth(tile=64)
    exact._predict = jax.jit(
        lambda s, f, x, grid, levels: (jnp.asarray(x[:, ::4, ::4], jnp.float32), ()),
        static_argnames=("grid", "levels"),
    )
    cells = exact(image)._scores
    real = image[::4, ::4]
    np.testing.assert_allclose(cells[: real.shape[0], : real.shape[1]], real, atol=1e-4)


def test_no_seam_is_seen_where_tiles_are_spoilt_at_their_border():
    image = np.full((256, 400, 3), 100, np.uint8)
    scores = smooth(frame=1.0, tile=64)(image).scores()[16:-16, 16:-16, 0]
    steps = max(np.abs(np.diff(scores, axis=0)).max(), np.abs(np.diff(scores, axis=1)).max())
    side_by_side = smooth(frame=1.0)(image[:64, :64]).scores()[..., 0]
    jump = np.abs(side_by_side[0, 32] - side_by_side[32, 32])
    assert jump == pytest.approx(1)
    assert steps < 0.05 * jump


def test_scores_of_large_images_are_thinned_out_to_fit(monkeypatch):
    image = waves(200, 300)
    fine = smooth(tile=64)(image)
    monkeypatch.setattr("jaxseg.segmenter._KEPT", fine._scores.nbytes // 3)
    thin = smooth(tile=64)(image)
    assert thin._scores.nbytes < fine._scores.nbytes / 3
    assert (thin.labels == fine.labels).mean() > 0.95


def test_cells_of_no_whole_pixels_are_blended_on_others():
    """Convolutions without padding, as IIC's, lose cells at the border; the rest stands for all."""
    image = waves(180, 230)
    tiled = smooth(lost=1, tile=96)
    assert tiled._cell((180, 230), (96, 96)) == 4  # 22 cells of 24
    found = tiled(image)
    assert found._scores.shape[:2] == (45, 58)
    # What a tile sees is stretched by 24 / 22, so that borders move by up to a cell.
    assert (found.labels == smooth()(image).labels).mean() > 0.95
    assert smooth(lost=2, tile=32)._cell((180, 230), (32, 32)) == 8  # 4 cells of 8


def test_every_kind_of_image_is_read_as_a_file_is(tmp_path):
    segmenter = smooth()
    Image.fromarray(PHOTO).save(tmp_path / "photo.png")
    wanted = segmenter(tmp_path / "photo.png").labels
    for given in (str(tmp_path / "photo.png"), PHOTO, jnp.asarray(PHOTO), Image.fromarray(PHOTO),
                  np.dstack([PHOTO, PHOTO[..., :1]]), PHOTO.astype(np.uint16) * 257):  # fmt: skip
        np.testing.assert_array_equal(segmenter(given).labels, wanted)
    turned = Image.fromarray(PHOTO)
    exif = turned.getexif()
    exif[274] = 6
    turned.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    assert segmenter(tmp_path / "turned.jpg").size == (50, 40)
    assert segmenter(Image.open(tmp_path / "turned.jpg")).size == (50, 40)
    grey = segmenter(PHOTO[..., 0])
    np.testing.assert_array_equal(grey.image, np.repeat(PHOTO[..., :1], 3, -1))
    assert segmenter(Image.fromarray(PHOTO).convert("CMYK")).size == (40, 50)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("nowhere.png", "no such file"),
        (PHOTO.astype(np.float32), "uint8"),
        (PHOTO[None], r"expected \[H W\].*as a list"),
        (np.zeros((0, 4, 3), np.uint8), "no image"),
    ],
)
def test_what_is_no_image_is_told(given, message):
    with pytest.raises(UserError, match=message):
        smooth()(given)


def test_overlay_levels_features_and_file(tmp_path):
    found = smooth()(waves(36, 50))
    overlay = found.overlay(0.25)
    wanted = 0.75 * found.image + 0.25 * found.colours[found.labels]
    assert np.abs(overlay - wanted).max() <= 1
    np.testing.assert_array_equal(found.overlay(0), found.image)
    with pytest.raises(ValueError, match="opacity"):
        found.overlay(2)
    np.testing.assert_allclose(np.linalg.norm(found.features, axis=-1), 1, rtol=1e-5)
    assert found.features.shape == (9, 13, 3)
    (level,) = found.levels
    red = np.pad(found.image[..., 0], ((0, 0), (0, 2)), mode="edge").reshape(9, 4, 13, 4)
    bright = red.mean((1, 3)) > 127.5
    np.testing.assert_array_equal(level, bright.repeat(4, 0).repeat(4, 1)[:, :50])
    found.save(tmp_path / "labels.png")
    with Image.open(tmp_path / "labels.png") as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(np.asarray(image), found.labels)
        np.testing.assert_array_equal(np.asarray(image.convert("RGB")), found.colours[found.labels])
    with pytest.raises(UserError, match=r"\.png"):
        found.save(tmp_path / "labels.bmp")
    with pytest.raises(UserError, match="tiles"):
        _ = smooth(tile=32)(waves(90, 90)).features


def test_a_run_names_its_clusters(tmp_path):
    make_run(tmp_path, INFOSEG, OWN)
    segmenter = jaxseg.load(tmp_path)
    assert segmenter.names == ("road", "cluster 1", "sky")
    np.testing.assert_array_equal(segmenter.colours, palette(3)[[1, 2, 0]])
    assert segmenter.trained.meta["step"] == 7
    with pytest.raises(UserError, match=r"no evaluation 'other'.*it has scored"):
        jaxseg.load(tmp_path, entry="other")


def test_without_labels_or_evaluation_clusters_have_numbers(tmp_path):
    make_run(tmp_path / "none", INFOSEG)
    assert jaxseg.load(tmp_path / "none").names == ("cluster 0", "cluster 1", "cluster 2")
    make_run(tmp_path / "unlabelled", INFOSEG, OWN, match=None, counts=None, classes=())
    assert jaxseg.load(tmp_path / "unlabelled").names == ("cluster 0", "cluster 1", "cluster 2")


def test_a_fitted_probe_names_the_pixels_of_a_method_without_scores(tmp_path):
    centroids = RNG.normal(size=(3, 4)).astype(np.float32)
    make_run(tmp_path, SEGSORT, KMEANS, fitted={"centroids": centroids})
    found = jaxseg.load(tmp_path)(PHOTO)
    features = found.features / np.linalg.norm(found.features, axis=-1, keepdims=True)
    cosines = features @ (centroids / np.linalg.norm(centroids, axis=1, keepdims=True)).T
    height, width = features.shape[:2]
    np.testing.assert_allclose(found._scores[:height, :width], 2 * cosines, atol=1e-5)
    assert [level.shape for level in found.levels] == [(40, 50)]


def test_what_a_work_directory_lacks_is_told(tmp_path):
    with pytest.raises(UserError, match="There is no bundle"):
        jaxseg.load(tmp_path / "nowhere")
    with pytest.raises(UserError, match="holds no trained run"):
        jaxseg.load(tmp_path)
    assert not (tmp_path / "final").exists()
    make_run(tmp_path / "a", SEGSORT)
    with pytest.raises(UserError, match=r"probe='cluster'.*--mode=evaluate"):
        jaxseg.load(tmp_path / "a")
    old = {"model": "trained", "refine": "none", "probe": "Cluster(clusters=3)"}
    make_run(tmp_path / "a", SEGSORT, KMEANS, protocol=old)
    with pytest.raises(UserError, match=r"evaluated before.*--mode=evaluate"):
        jaxseg.load(tmp_path / "a")
    with pytest.raises(UserError, match="batch_size is 0"):
        jaxseg.load(tmp_path, batch_size=0)


def test_tiles_are_as_large_as_there_is_room_for(tmp_path, monkeypatch):
    make_run(tmp_path, SMOOSEG, OWN)
    segmenter = jaxseg.load(tmp_path)
    # Patches of 8: an image of 512 x 1024 has 8,193 tokens with the class, and attention would take
    # the square of them in each of 6 heads, if it kept its weights.
    assert segmenter._room((512, 1024)) < 6 * 4 * (64 * 128 + 1) ** 2 / 100
    assert segmenter._tile == 1024
    monkeypatch.setattr("jaxseg.segmenter._ROOM", segmenter._room((512, 1024)))
    assert jaxseg.load(tmp_path)._tile == 512
    monkeypatch.undo()
    assert smooth()._tile == 1024
    assert jaxseg.load(tmp_path, tile=90)._tile == 96
