"""Evaluation on predictions that are known."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxseg.core import Batch, Output, UserError
from jaxseg.evaluate import (
    Evaluator,
    collapse_monitor,
    label_map,
    tiled,
)
from jaxseg.evaluation.outputs import at_label_size
from jaxseg.evaluation.probes import Argmax, Cluster
from jaxseg.evaluation.retrieval import Retrieval
from jaxseg.record import load_results, save_result, score_table
from jaxseg.views.geometry import resize


def predict(image):
    """Bright pixels are cluster 0, dark ones cluster 1; cluster 2 is never used."""
    grey = image[:, ::2, ::2].astype(jnp.float32).mean(-1) / 255
    logits = jnp.stack([grey, 1 - grey, jnp.full_like(grey, -1)], -1)
    return Output(features=jnp.stack([grey, 1 - grey], -1), logits=logits)


def make_batches(labelled=True):
    """Two 4 x 4 images, bright on the right, and a third row that only fills up.

    The right is class 1, the left class 0; the second image is padded below its first two rows, and
    the padding is bright.
    """
    image = np.zeros((3, 1, 4, 4, 3), np.uint8)
    image[:, :, :, 2:] = 255
    image[1, :, 2:] = 255
    label = np.zeros((3, 4, 4), np.int32)
    label[:, :, 2:] = 1
    label[1, 2:] = -1
    label[2] = -1
    batch = Batch(
        index=jnp.asarray([0, 1, -1]),
        seed=jnp.zeros(3, jnp.uint32),
        image=jnp.asarray(image),
        size=jnp.asarray([[[4, 4]], [[2, 4]], [[4, 4]]]),
        label={"class": jnp.asarray(label)} if labelled else {},
    )
    return lambda batch_size=None, limit=None: [batch, batch]


def make(probe=None, labelled=True, **fields) -> Evaluator:
    stream = make_batches(labelled)
    classes = ("left", "right") if labelled else ()
    return Evaluator(
        **{
            "name": "toy",
            "probe": probe or Argmax(),
            "fit_stream": stream,
            "test_stream": stream,
            "sample_stream": stream,
            "classes": classes,
            "upsample": "nearest",
        }
        | fields
    )


def test_a_right_segmentation_scores_one():
    result = make().run(jax.jit(predict), jax.random.key(0))
    assert result.scalars["accuracy"] == result.scalars["miou"] == 1
    assert result.match.tolist() == [1, 0, -1]
    # 2 batches x (16 + 8) real pixels; neither padding nor the fill-up image counts.
    assert result.counts.sum() == 48
    assert result.usage.tolist() == [24, 24, 0]
    assert result.scalars["effective_clusters"] == pytest.approx(2)
    assert result.scalars["clusters"] == 3
    assert result.iou == [1, 1]


@pytest.mark.parametrize("labelled", [True, False])
def test_alignment_counts_real_pixels_and_needs_no_labels(labelled):
    def own(image):
        # Vectors of the method's own: those of the features, and one that is never used.
        semantics = jnp.tile(jnp.asarray([[[1.0, 0], [0, 2], [1, 1]]]), (len(image), 1, 1))
        return predict(image).replace(aux={"semantics": semantics})

    result = make(labelled=labelled, alignment=True).run(jax.jit(own), jax.random.key(0))
    # Features are (1, 0) and (0, 1): at one with their clusters, which are orthogonal.
    for name in ("alignment", "prototype_cosine", "semantic_alignment"):
        assert result.scalars[name] == pytest.approx(0, abs=1e-6)
    assert result.scalars["prototype_uniformity"] == pytest.approx(-4)
    assert result.scalars["semantic_cosine"] == pytest.approx(2 * 0.5**0.5 / 3)
    assert "prototype uniformity" in score_table([result]).splitlines()[0]
    assert "alignment" not in make().run(jax.jit(predict), jax.random.key(0)).scalars


def test_a_cluster_probe_never_sees_padding(tmp_path):
    result = make(Cluster(2, points=1000, rounds=5)).run(jax.jit(predict), jax.random.key(0))
    assert result.scalars["accuracy"] == 1
    # What it was fitted to is kept, so that a segmenter can name the pixels of other images.
    save_result(tmp_path, result, {})
    (kept,) = load_results(tmp_path)
    assert kept.fitted["centroids"].shape == (2, 2)
    np.testing.assert_array_equal(kept.fitted["centroids"], result.fitted["centroids"])
    seen = []

    class Watch(Argmax):
        def fit(self, pairs, key):
            seen.extend(output.features for output, _ in pairs())
            return {}

    make(Watch()).run(jax.jit(predict), jax.random.key(0))
    # Each batch is read image by image, for one of them is padded: 2 x 2 and 1 x 2 cells.
    assert [x.shape for x in seen] == [(1, 2, 2, 2), (1, 1, 2, 2)] * 2


def test_without_labels_there_is_usage_and_pictures():
    result = make(labelled=False).run(jax.jit(predict), jax.random.key(0))
    assert result.counts is None
    assert set(result.scalars) == {"clusters", "entropy", "effective_clusters"}
    assert result.samples.labels is None
    assert result.samples.predictions[1].tolist() == [[1, 1, 0, 0]] * 2


def test_results_survive_the_disk(tmp_path):
    for labelled in (True, False):
        result = make(labelled=labelled).run(jax.jit(predict), jax.random.key(0))
        save_result(tmp_path, result, {"seed": 0})
        (found,) = load_results(tmp_path)
        assert found.scalars == result.scalars
        assert found.classes == result.classes
        assert found.iou == result.iou
        assert found.protocol == {"seed": 0}
        for kind in ("images", "labels", "predictions"):
            ours, theirs = getattr(found.samples, kind), getattr(result.samples, kind)
            assert (ours is None) == (theirs is None)
            for a, b in zip(ours or (), theirs or (), strict=True):
                np.testing.assert_array_equal(a, b)
    assert found.counts is None


def test_upsampling_rules():
    logits = jnp.asarray([[[[1.0, 0.0], [0.0, 3.0]]]])  # one row of two cells
    assert label_map(logits, 1, 4, "nearest")[0, 0].tolist() == [0, 0, 1, 1]
    # Pixel centres at -0.25, 0.25, 0.75, 1.25 cells; the classes tie at 0.25 of the way.
    assert label_map(logits, 1, 8, "bilinear")[0, 0].tolist() == [0, 0, 0, 1, 1, 1, 1, 1]
    assert label_map(logits, 1, 8, "nearest")[0, 0].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    with pytest.raises(UserError, match=r"evals.toy.upsample is 'cubic'"):
        make(upsample="cubic")


def test_clusters_are_resized_to_labels_of_another_size():
    """As views.geometry resizes label maps; each image by its own sizes."""
    maps = np.arange(2 * 6 * 8, dtype=np.int32).reshape(2, 6, 8)
    sizes, new = [[6, 8], [5, 3]], [[9, 5], [12, 7]]
    found = at_label_size(jnp.asarray(maps), jnp.asarray(sizes), jnp.asarray(new), 12, 8)
    assert found.shape == (2, 12, 8)
    for ours, labels, (h, w), (height, width) in zip(found, maps, sizes, new, strict=True):
        expected = resize(labels[:h, :w], height, width, "nearest")
        np.testing.assert_array_equal(ours[:height, :width], expected)


def test_scores_at_the_size_of_the_labels():
    """Labels of 8 x 6 and 4 x 6, for views of 4 x 4 and, without padding, 2 x 4."""
    (batch, _) = make_batches()()
    label = np.full((3, 8, 8), -1, np.int32)
    label[0, :8, :6] = label[1, :4, :6] = [0, 0, 0, 1, 1, 1]
    label[0, 0, 3] = 0  # a detail that the view does not show
    sizes = jnp.asarray([[8, 6], [4, 6], [0, 0]], jnp.int32)
    batch = batch.replace(label={"class": jnp.asarray(label)}, label_size=sizes)
    evaluator = make(resolution="original", test_stream=lambda: [batch])
    found = evaluator.run(jax.jit(predict), jax.random.key(0))
    np.testing.assert_array_equal(found.counts, [[1, 35], [36, 0], [0, 0]])
    assert evaluator.protocol()["resolution"] == "original"
    assert found.samples.labels[0].shape == (4, 4)
    with pytest.raises(UserError, match=r"evals.toy.resolution is 'full'; .* view, original"):
        make(resolution="full")


def test_the_monitor_sees_a_collapse(caplog):
    monitor = collapse_monitor(make_batches())
    assert monitor(predict)[0]["monitor/effective_clusters"] == pytest.approx(2)
    assert not caplog.records

    def collapsed(image):
        return Output(
            features=None,
            logits=jnp.ones((*image.shape[:3], 1)) * jnp.arange(3.0).reshape(1, 1, 1, 3),
        )

    assert monitor(collapsed)[0]["monitor/effective_clusters"] == pytest.approx(1)
    assert "1.00 of 3 clusters" in caplog.text
    assert monitor(lambda image: Output(features=image)) == ({}, {})


def test_the_monitor_averages_histograms_over_real_images():
    """The third row, which only fills up, does not count, nor do other parts of the output."""

    def with_histogram(image):
        shares = jnp.eye(3, 5)
        return predict(image).replace(aux={"delta_histogram": shares, "tokens": shares})

    scalars, histograms = collapse_monitor(make_batches())(with_histogram)
    assert "monitor/clusters" in scalars
    assert set(histograms) == {"monitor/delta_histogram"}
    np.testing.assert_allclose(histograms["monitor/delta_histogram"], [0.5, 0.5, 0, 0, 0])


def test_the_table_shows_what_there_is():
    run = [make(labelled=kind).run(jax.jit(predict), jax.random.key(0)) for kind in (True, False)]
    title, first, second = score_table(run).splitlines()
    assert "mIoU %" in title
    assert first.split() == ["toy", "100.0", "100.0", "100.0", "2.0", "of", "3"]
    assert second.split() == ["toy", "-", "-", "-", "2.0", "of", "3"]


def test_things_and_stuff_have_scores_and_columns_of_their_own():
    predicted = jax.jit(predict)
    results = [make(things=things).run(predicted, jax.random.key(0)) for things in ((1,), ())]
    assert results[0].scalars["things_accuracy"] == results[0].scalars["stuff_miou"] == 1
    title, first, second = score_table(results).splitlines()
    assert title.endswith("things Acc %  things mIoU %  stuff Acc %  stuff mIoU %")
    assert first.split()[-4:] == ["100.0"] * 4
    assert second.split()[-4:] == ["-"] * 4


def test_scores_of_a_part_of_the_output_that_has_learned_from_labels():
    def with_aux(image):
        output = predict(image)
        return output.replace(aux={"linear": output.logits[..., 1::-1]})

    result = make(Argmax("linear"), matching="identity").run(jax.jit(with_aux), jax.random.key(0))
    assert result.scalars["accuracy"] == 1
    assert result.match.tolist() == [0, 1]
    assert result.supervised
    table = score_table([result, dataclasses.replace(result, name="b", supervised=False)])
    assert "toy *" in table
    assert "b *" not in table
    assert "labels" in table.splitlines()[-1]
    # Swapped classes stay wrong: nothing is matched.
    swapped = make(Argmax("logits"), matching="identity").run(jax.jit(predict), jax.random.key(0))
    assert swapped.scalars["accuracy"] == 0
    with pytest.raises(UserError, match=r"'linear'.*features, logits"):
        make(Argmax("linear")).run(jax.jit(predict), jax.random.key(0))


def test_a_cluster_probe_of_another_part_never_sees_padding():
    def with_aux(image):
        output = predict(image)
        return output.replace(features=output.features * 0, aux={"other": output.features})

    probe = Cluster(2, source="other", points=1000, rounds=5)
    result = make(probe).run(jax.jit(with_aux), jax.random.key(0))
    assert result.scalars["accuracy"] == 1


def test_refinement_sees_probabilities_images_and_what_is_real():
    seen = []

    def refine(probabilities, image, valid):
        seen.append((probabilities, image, valid))
        return 1 - probabilities

    plain = make(Argmax()).run(jax.jit(predict), jax.random.key(0))
    result = make(Argmax(), refine=refine).run(jax.jit(predict), jax.random.key(0))
    probabilities, image, valid = seen[0]
    assert probabilities.shape == (3, 4, 4, 3)
    np.testing.assert_allclose(probabilities.sum(-1), 1, rtol=1e-5)
    assert image.shape == (3, 4, 4, 3)
    assert valid.sum(axis=(1, 2)).tolist() == [16, 8, 0]
    # The least probable cluster everywhere: the third.
    assert result.usage.tolist() == [0, 0, 48]
    assert plain.usage.tolist() == [24, 24, 0]


def test_tiles_are_put_together_where_they_were():
    def places(image):
        """Every cell says where its square lies and where it lies in its square."""
        corner = jnp.broadcast_to(image[:, :1, :1, :1], (*image[:, ::2, ::2].shape[:3], 1))
        features = jnp.concatenate([corner, image[:, ::2, ::2, :1]], -1).astype(jnp.float32)
        return Output(
            features=features, logits=2 * features, aux={"map": features, "one": corner[:, 0, 0]}
        )

    image = np.arange(2 * 4 * 8, dtype=np.uint8).reshape(2, 4, 8, 1)
    output = tiled(places, 4)(jnp.asarray(image))
    assert output.features.shape == (2, 2, 4, 2)
    np.testing.assert_array_equal(output.features[..., 1], image[:, ::2, ::2, 0])
    np.testing.assert_array_equal(output.features[0, :, :, 0], [[0, 0, 4, 4]] * 2)
    np.testing.assert_array_equal(output.logits, 2 * output.features)
    np.testing.assert_array_equal(output.aux["map"], output.features)
    assert output.aux["one"].shape == (2, 2, 1)  # no map: by image and square
    with pytest.raises(ValueError, match="squares of 3"):
        tiled(places, 3)(jnp.asarray(image))


def test_features_of_the_samples_are_kept_for_pictures(tmp_path):
    result = make(Argmax()).run(jax.jit(predict), jax.random.key(0))
    assert [x.shape for x in result.samples.extra["features"]] == [(2, 2, 2)] * 4
    save_result(tmp_path, result, {})
    loaded = load_results(tmp_path)[0].samples.extra["features"]
    np.testing.assert_array_equal(loaded, result.samples.extra["features"])


def test_retrieval_looks_classes_up_and_has_a_table_of_its_own(tmp_path):
    probe = Retrieval(grid=(1, 2), rounds=3, neighbours=2)
    found = make(probe, matching="identity", absent="zero").run(jax.jit(predict), jax.random.key(0))
    assert found.kind == "retrieval"
    assert not found.supervised
    assert found.scalars["accuracy"] == found.scalars["miou"] == 1
    assert "many_to_one_accuracy" not in found.scalars
    assert found.counts.sum() == 48
    save_result(tmp_path, found, {})
    assert load_results(tmp_path)[0].kind == "retrieval"
    clusters = make().run(jax.jit(predict), jax.random.key(0))
    ours, theirs = score_table([found, dataclasses.replace(clusters, name="b")]).split("\n\n")
    assert "toy" not in ours
    assert "b " in ours
    assert "toy" in theirs
    assert theirs.startswith("Retrieval: classes looked up in labelled training images")
    assert "not to be compared" in theirs


def test_retrieval_says_what_it_needs():
    with pytest.raises(
        UserError, match=r"evals.toy.matching is 'hungarian'.* set it to 'identity'"
    ):
        make(Retrieval())
    with pytest.raises(UserError, match=r"evals.toy: the training split has no label 'class'"):
        make(Retrieval(), labelled=False, matching="identity").run(
            jax.jit(predict), jax.random.key(0)
        )


def test_absent_classes_count_as_zero_where_asked():
    """A third class that is neither labelled nor predicted."""
    names = ("left", "right", "nowhere")
    for absent, expected in (("drop", 1.0), ("zero", 2 / 3)):
        probe = Retrieval(grid=(1, 2), rounds=3, neighbours=2)
        evaluator = make(probe, matching="identity", absent=absent, classes=names)
        assert evaluator.protocol()["absent"] == absent
        assert evaluator.protocol()["k"] == 2
        result = evaluator.run(jax.jit(predict), jax.random.key(0))
        assert result.scalars["miou"] == pytest.approx(expected)
    with pytest.raises(UserError, match=r"evals.toy.absent is 'nan'; it is one of drop, zero"):
        make(absent="nan")


def test_groups_of_different_squares_are_different_groups():
    def places(image):
        cells = image[:, ::2, ::2, 0].astype(jnp.int32)
        return Output(features=image[:, ::2, ::2].astype(jnp.float32), levels=(cells,))

    image = np.broadcast_to(np.array([[0, 0, 1, 1]], np.uint8), (2, 4, 4))
    image = np.tile(image, (1, 1, 2))[..., None]
    (level,) = tiled(places, 4)(jnp.asarray(image)).levels
    np.testing.assert_array_equal(level, [[[0, 1, 2, 3]] * 2] * 2)
