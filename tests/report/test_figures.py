"""Pictures are drawn from what a run has kept."""

import dataclasses

import numpy as np

from jaxseg import report
from jaxseg.record import Result, Samples


def make_result(name="toy", count=3, clusters=4) -> Result:
    rng = np.random.default_rng(0)
    prototypes = rng.normal(size=(clusters, 8)).astype(np.float16)
    predictions = [rng.integers(0, clusters, (32, 48), np.int32) for _ in range(count)]
    samples = Samples(
        images=[rng.integers(0, 256, (32, 48, 3), np.uint8) for _ in range(count)],
        labels=None,
        predictions=predictions,
        extra={
            "features": [rng.normal(size=(4, 6, 8)).astype(np.float16) for _ in range(count)],
            "prototypes": [prototypes] * count,
            "delta_histogram": [np.arange(10, dtype=np.float16)] * count,
        },
    )
    usage = np.bincount(np.stack(predictions).reshape(-1), minlength=clusters)
    return Result(name, {"clusters": float(clusters)}, usage, (), samples)


def test_the_embedding_has_every_cell_and_prototype():
    figure = report.figures.embedding(make_result(), points=60)
    cells, stars = (c.get_offsets() for c in figure.axes[0].collections)
    assert cells.shape == (60, 2)
    assert stars.shape == (4, 2)
    assert np.isfinite(cells).all()


def test_images_predicted_in_squares_have_copies_of_the_prototypes():
    whole = make_result()
    samples = whole.samples
    extra = samples.extra | {
        "prototypes": [np.stack([x] * 6) for x in samples.extra["prototypes"]],
        "delta_histogram": [np.stack([x] * 6) for x in samples.extra["delta_histogram"]],
    }
    tiled = dataclasses.replace(whole, samples=dataclasses.replace(samples, extra=extra))
    assert report.figures.squares_of(whole, 0) == (1, 1)
    assert report.figures.squares_of(tiled, 0) == (2, 3)
    # All 24 cells of the first image alone, four in each of the six squares.
    cells, stars = report.figures.embedding(tiled, points=60).axes[0].collections
    assert (cells.get_offsets().shape, stars.get_offsets().shape) == ((24, 2), (4, 2))
    by_square = report.figures.embedding(tiled, points=60).axes[1].collections[0].get_facecolors()
    assert np.unique(by_square, axis=0, return_counts=True)[1].tolist() == [4] * 6
    shares = [
        report.figures.histogram(r, "delta_histogram", "delta", (0, 1))
        .axes[0]
        .patches[0]
        .get_data()
        for r in (whole, tiled)
    ]
    np.testing.assert_allclose(shares[0].values, shares[1].values)


def test_padding_is_not_drawn_and_cells_have_the_segment_that_they_lie_in():
    result = make_result(count=1)
    samples = result.samples
    # Of 4 x 6 cells the left 4 x 3 are image, whose left third is segment 2, the rest 1.
    prediction = np.where(np.arange(48) < 16, 2, 1)[None].repeat(32, axis=0)
    samples = dataclasses.replace(
        samples,
        predictions=[prediction],
        extra=samples.extra | {"real": [np.asarray((1, 0.5), np.float16)]},
    )
    result = dataclasses.replace(result, samples=samples)
    cells = report.figures.embedding(result, points=60).axes[0].collections[0]
    assert cells.get_offsets().shape == (12, 2)
    colours = report.figures.palette(4)[[1, 2]] / 255
    counts = [(np.abs(cells.get_facecolors()[:, :3] - c).max(axis=1) < 1e-6).sum() for c in colours]
    assert counts == [8, 4]


def test_an_image_put_together_from_squares_is_drawn_large(tmp_path):
    plain = make_result("plain")
    copies = [np.stack([x] * 6) for x in plain.samples.extra["prototypes"]]
    samples = dataclasses.replace(plain.samples, extra=plain.samples.extra | {"prototypes": copies})
    tiled = dataclasses.replace(plain, name="tiled", samples=samples)
    assert "restitched.png" in {path.name for path in report.write(tmp_path, [plain, tiled])}
    figure = report.figures.sample_grid([tiled], count=1)
    assert [axis.get_title() for axis in figure.axes] == ["image", "tiled"]


def test_histograms_of_the_samples_are_added_up():
    figure = report.figures.histogram(make_result(), "delta_histogram", "delta", (0.0, 1.0))
    values, edges, _ = figure.axes[0].patches[0].get_data()
    np.testing.assert_allclose(values, np.arange(10) / 45)
    assert (edges[0], edges[-1]) == (0, 1)


def test_a_report_draws_what_there_is(tmp_path):
    results = [make_result("first"), make_result("second")]
    names = {path.name for path in report.write(tmp_path, results)}
    assert names == {"samples.png", "embedding.png", "smoothness.png"}
    assert all((tmp_path / "report" / name).stat().st_size > 1000 for name in names)
