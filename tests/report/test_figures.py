"""Pictures are drawn from what a run has kept."""

import dataclasses

import jax
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
    pictures = [
        [c.get_offsets() for c in report.figures.embedding(result, points=60).axes[0].collections]
        for result in (whole, tiled)
    ]
    jax.tree.map(np.testing.assert_array_equal, *pictures)
    shares = [
        report.figures.histogram(r, "delta_histogram", "delta", (0, 1))
        .axes[0]
        .patches[0]
        .get_data()
        for r in (whole, tiled)
    ]
    np.testing.assert_allclose(shares[0].values, shares[1].values)


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
