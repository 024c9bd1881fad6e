"""Batches: a function of (seed, step), whoever reads them."""

import dataclasses
import threading

import jax
import numpy as np
import pytest

from jaxseg.core import UserError
from jaxseg.data import pipeline as pipeline_module
from jaxseg.data import rows as rows_module
from jaxseg.data.cache import Cached
from jaxseg.data.pipeline import Pipeline, _in_threads, _placer, spread
from jaxseg.data.rows import EvalRows, HostRows, TrainRows, stack
from jaxseg.data.source import Example
from jaxseg.data.token_build import build_tokens
from jaxseg.data.tokens import TokenStore
from jaxseg.sharding import make_mesh, over_all
from jaxseg.views.geometry import EvalView, TrainView


@dataclasses.dataclass(frozen=True)
class Numbered:
    """Images whose red is their index; of two sizes."""

    count: int = 10
    fail: int = -1

    @property
    def classes(self):
        return {"class": ("left", "right")}

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        if index == self.fail:
            raise UserError(f"image {index} is broken")
        shape = (12, 16) if index % 3 else (16, 12)
        image = np.random.default_rng(index).integers(0, 256, (*shape, 3), np.uint8)
        image[..., 0] = index
        label = np.zeros(shape, np.int32)
        label[:, shape[1] // 2 :] = 1
        label[0] = -1
        return Example(image, {"class": label}, np.full(shape, index, np.int32), str(index))


def make(source=None, **fields) -> Pipeline:
    values = {
        "source": source or Numbered(),
        "view": TrainView(crop=8, scale=(0.8, 1.2)),
        "eval_view": EvalView(pad_multiple=8),
        "batch_size": 4,
        "seed": 5,
        "mesh": make_mesh(jax.devices()[:1]),
        "views": 2,
        "regions": True,
    }
    return Pipeline(**values | fields)


def take(batches, count):
    found = [jax.device_get(next(batches)) for _ in range(count)]
    batches.close()
    return found


def assert_same(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(x, y)


def test_starting_later_gives_the_same_batches():
    assert_same(take(make().batches(0), 7)[4:], take(make().batches(4), 3))


@pytest.mark.parametrize("fields", [{"threads": 1, "prefetch": 1}, {"threads": 8}])
def test_threads_do_not_change_batches(fields):
    assert_same(take(make().batches(0), 5), take(make(**fields).batches(0), 5))


@pytest.mark.parametrize("together", [1, 3, 99])
def test_rows_read_together_come_in_order(together):
    rows = [{"index": np.array(number)} for number in range(10)]
    assert list(_in_threads(rows, 1, 2, 4, together)) == rows[1:]


def test_images_of_batches_of_the_cpu_are_not_copied():
    rows = make(view=TrainView(crop=24))._rows()[0]
    batch = _placer(make_mesh(jax.devices()[:1]))(rows)
    assert batch.image.unsafe_buffer_pointer() == rows["image"].ctypes.data


@pytest.mark.parametrize("devices", [1, 4])
def test_arrays_large_and_small_lie_on_the_devices_as_they_were(devices):
    rows = make(view=TrainView(crop=24))._rows()[0]
    mesh = make_mesh(jax.devices()[:devices])
    batch = _placer(mesh)(rows)
    for name in ("index", "seed", "size", "box", "image", "regions"):
        placed = getattr(batch, name)
        assert placed.sharding == over_all(mesh)
        np.testing.assert_array_equal(placed, rows[name], strict=True)


def test_a_reader_that_stops_half_way_leaves_no_threads():
    before = set(threading.enumerate())
    batches = make(threads=3).batches(0)
    next(batches)
    started = set(threading.enumerate()) - before
    batches.close()
    for thread in started:
        thread.join(timeout=10)
    assert started
    assert not any(thread.is_alive() for thread in started)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_workers_do_not_change_batches(workers):
    assert_same(take(make().batches(3), 5), take(make(workers=workers).batches(3), 5))


def test_an_epoch_is_a_permutation_cut_to_whole_batches():
    pipeline = make()
    assert pipeline.steps_per_epoch == 2
    orders = [b.index.tolist() for b in take(pipeline.batches(0), 6)]
    epochs = [orders[i] + orders[i + 1] for i in (0, 2, 4)]
    for epoch in epochs:
        assert len(set(epoch)) == 8
    assert epochs[0] != epochs[1]


def test_another_seed_draws_another_order():
    assert take(make().batches(0), 1)[0].index.tolist() != (
        take(make(seed=6).batches(0), 1)[0].index.tolist()
    )


def test_views_regions_and_pixels_belong_together():
    (batch,) = take(make().batches(0), 1)
    assert batch.image.shape == (4, 2, 8, 8, 3)
    assert batch.image.dtype == np.uint8
    for row, index in enumerate(batch.index):
        for view in range(2):
            height, width = batch.size[row, view]
            assert (batch.image[row, view, :height, :width, 0] == index).all()
            assert (batch.regions[row, view, :height, :width] == index).all()
    assert batch.label == {}
    assert not np.array_equal(batch.image[:, 0], batch.image[:, 1])


def test_regions_are_carried_only_where_they_are_asked_for():
    (batch,) = take(make(regions=False).batches(0), 1)
    assert batch.regions is None

    class Bare(Numbered):
        def __getitem__(self, index):
            return dataclasses.replace(super().__getitem__(index), regions=None)

    with pytest.raises(UserError, match="has no regions; make those of the whole split"):
        take(make(Bare()).batches(0), 1)


def test_methods_that_read_labels_get_them():
    (batch,) = take(make(labels=True).batches(0), 1)
    assert batch.label["class"].shape == (4, 8, 8)
    assert set(np.unique(batch.label["class"])) <= {-1, 0, 1}


def test_hosts_read_disjoint_slices_of_the_same_batches():
    pipeline = make()
    whole = pipeline._rows()
    parts = [dataclasses.replace(whole, host=(2, 4, first)) for first in (0, 2)]
    for step in range(4):
        rows = np.concatenate([part[step]["index"] for part in parts])
        np.testing.assert_array_equal(rows, whole[step]["index"])


def test_the_stream_of_an_epoch_has_the_draws_of_its_training():
    pipeline = make()
    trained = {}
    for batch in take(pipeline.batches(2), 2):  # epoch 1
        trained |= dict(zip(batch.index.tolist(), batch.image, strict=True))
    stream = pipeline.stream(3)
    for _ in range(2):  # re-iterable
        seen = [jax.device_get(batch) for batch in stream(batch_size=3)]
        indices = np.concatenate([batch.index for batch in seen])
        assert indices.tolist() == [*range(10), -1, -1]
        for batch in seen:
            for index, image in zip(batch.index.tolist(), batch.image, strict=True):
                if index in trained:
                    np.testing.assert_array_equal(image, trained[index])
    assert len(list(stream(batch_size=2, limit=4))) == 2


def test_test_images_of_one_padded_shape_share_batches():
    seen = [jax.device_get(batch) for batch in make().eval_stream()()]
    indices = sorted(i for batch in seen for i in batch.index.tolist() if i >= 0)
    assert indices == list(range(10))
    for batch in seen:
        for row, index in enumerate(batch.index):
            if index < 0:
                assert (batch.label["class"][row] == -1).all()
                continue
            height, width = batch.size[row, 0]
            assert (height, width) == ((12, 16) if index % 3 else (16, 12))
            assert (batch.label["class"][row, height:] == -1).all()
            assert (batch.label["class"][row, 1:height, :width] >= 0).all()
            assert (batch.image[row, 0, :, :, 0] == index).all()


def test_labels_may_keep_the_size_of_their_images():
    view = EvalView(resize=8, side="longer", crop=8)
    seen = [jax.device_get(b) for b in make(eval_view=view).eval_stream(original=True)()]
    plain = {}
    for batch in make(eval_view=view).eval_stream()():
        assert batch.label_size is None
        plain |= dict(zip(batch.index.tolist(), batch.image, strict=True))
    indices = [i for batch in seen for i in batch.index.tolist() if i >= 0]
    assert sorted(indices) == list(range(10))
    for batch in seen:
        for row, index in enumerate(batch.index.tolist()):
            label, (height, width) = batch.label["class"][row], batch.label_size[row]
            assert label.shape == (128, 128)
            assert (label[height:] == -1).all()
            assert (label[:, width:] == -1).all()
            if index >= 0:
                np.testing.assert_array_equal(batch.image[row], plain[index])
                np.testing.assert_array_equal(
                    label[:height, :width], Numbered()[index].label["class"]
                )


def test_labels_of_other_shapes_go_into_other_batches(monkeypatch):
    monkeypatch.setattr(rows_module, "_LABEL_MULTIPLE", 8)
    view = EvalView(resize=8, side="longer", crop=8)
    seen = list(make(eval_view=view).eval_stream(original=True)())
    assert {batch.label["class"].shape[1:] for batch in seen} == {(16, 16)}
    monkeypatch.setattr(rows_module, "_LABEL_MULTIPLE", 4)
    seen = list(make(eval_view=view).eval_stream(original=True)())
    assert {batch.label["class"].shape[1:] for batch in seen} == {(16, 12), (12, 16)}


def test_spread():
    assert spread(5, 0) == spread(5, None) == spread(5, 9) == (0, 1, 2, 3, 4)
    assert spread(9, 3) == (0, 4, 8)


def test_batches_that_devices_do_not_divide():
    with pytest.raises(UserError, match=r"batch_size is 6, which 4 devices .* use 4 or 8"):
        make(batch_size=6, mesh=make_mesh(jax.devices()[:4]))


def test_fewer_images_than_a_batch():
    with pytest.raises(UserError, match=r"batch_size is 12, .* only 10 images"):
        make(batch_size=12)


def test_errors_while_reading_reach_the_user():
    with pytest.raises(UserError, match="image 3 is broken"):
        take(make(Numbered(fail=3)).batches(0), 9)


def test_cached_examples_are_those_of_the_source():
    source = Numbered()
    cached = Cached(source)
    for _ in range(2):
        for index in (3, 0, 3):
            ours, theirs = cached[index], source[index]
            assert ours.label["class"].dtype == np.int32
            assert_same(
                (ours.image, ours.label, ours.regions), (theirs.image, theirs.label, theirs.regions)
            )
    assert len(cached) == 10
    assert sorted(cached._kept) == [0, 3]
    assert cached._kept[3].label["class"].dtype == np.int8


def test_rows_can_be_sent_to_worker_processes():
    import cloudpickle

    rows = make(Cached(Numbered()))._rows()
    rows[3]
    sent = cloudpickle.loads(cloudpickle.dumps(rows))
    assert isinstance(sent, TrainRows)
    assert not sent.source._kept
    assert_same(sent[5], rows[5])


FIXED = TrainView(crop=8, flip=False, position="centre")


def encode(images):
    """Stands for a frozen network: half of the resolution, values that float16 must round."""
    return images[:, ::2, ::2].astype(np.float32) / 3


def with_tokens(directory, source=None, **fields) -> Pipeline:
    pipeline = make(source, **{"view": FIXED, "views": 1, **fields})
    store = build_tokens(
        directory, "f" * 64, len(pipeline.source), pipeline.fixed_view, encode, batch_size=4
    )
    return dataclasses.replace(pipeline, tokens=store)


PARTNERS = np.array([[(i + 1) % 10, (i + 2) % 10, (i + 5) % 10] for i in range(10)], np.int32)


def test_cached_features_take_the_place_of_images(tmp_path):
    computed = take(make(view=FIXED, views=1).batches(0), 3)
    pipeline = with_tokens(tmp_path)
    for batch, other in zip(take(pipeline.batches(0), 3), computed, strict=True):
        assert batch.image is batch.size is batch.box is batch.regions is None
        assert batch.label == {}
        assert batch.tokens.shape == (4, 1, 4, 4, 3)
        assert batch.tokens.dtype == np.float16
        assert_same((batch.index, batch.seed), (other.index, other.seed))
        features = encode(other.image[:, 0])
        # Float16 keeps 11 bits, so that half of the last one is 2^-11 of the value.
        np.testing.assert_allclose(batch.tokens[:, 0], features, rtol=2**-11)


def test_no_image_is_read_but_for_labels(tmp_path):
    with_tokens(tmp_path)
    broken = Numbered(fail=3)
    pipeline = with_tokens(tmp_path, broken)
    assert {i for b in take(pipeline.batches(0), 4) for i in b.index.tolist()} >= {3}
    with pytest.raises(UserError, match="image 3 is broken"):
        take(dataclasses.replace(pipeline, labels=True).batches(0), 4)


@pytest.mark.parametrize("partners", [None, PARTNERS])
def test_labels_beside_cached_features_are_those_of_the_first_view(tmp_path, partners):
    pipeline = with_tokens(tmp_path, labels=True, partners=partners)
    for batch in take(pipeline.batches(0), 2):
        for index, label in zip(batch.index.tolist(), batch.label["class"], strict=True):
            example = Numbered()[index]
            view = FIXED(example.image, example.label, np.random.default_rng(9))
            np.testing.assert_array_equal(label, view.maps["class"])


def test_starting_later_with_cached_features_gives_the_same_batches(tmp_path):
    pipeline = with_tokens(tmp_path, partners=PARTNERS)
    whole = take(pipeline.batches(0), 7)
    again = with_tokens(tmp_path, partners=PARTNERS)
    assert_same(whole[4:], take(again.batches(4), 3))


def test_a_refit_sees_the_pairs_of_training(tmp_path):
    pipeline = with_tokens(tmp_path, partners=PARTNERS)
    trained = {}
    for batch in take(pipeline.batches(2), 2):  # epoch 1
        trained |= dict(zip(batch.index.tolist(), batch.tokens, strict=True))
    stream = pipeline.stream(3)
    for _ in range(2):
        seen = [jax.device_get(batch) for batch in stream(batch_size=3)]
        assert np.concatenate([batch.index for batch in seen]).tolist() == [*range(10), -1, -1]
        for batch in seen:
            for index, found in zip(batch.index.tolist(), batch.tokens, strict=True):
                if index in trained:
                    np.testing.assert_array_equal(found, trained[index])


def drawn_partners(batches) -> list[list[int]]:
    """Which image the last view is of: red is the number of the image."""
    found = []
    for batch in batches:
        views = batch.tokens * 3 if batch.image is None else batch.image
        assert (np.rint(views[:, 0, 0, 0, 0]) == batch.index).all()
        found.append(np.rint(views[:, -1, 0, 0, 0]).astype(int).tolist())
    return found


def test_partners_are_drawn_alike_with_and_without_the_cache(tmp_path):
    cached = take(with_tokens(tmp_path, partners=PARTNERS).batches(0), 40)
    plain = take(make(view=FIXED, views=1, partners=PARTNERS).batches(0), 40)
    moving = take(make(views=1, partners=PARTNERS).batches(0), 40)
    assert cached[0].tokens.shape == (4, 2, 4, 4, 3)
    assert plain[0].image.shape == (4, 2, 8, 8, 3)
    assert plain[0].size.shape == (4, 2, 2)
    assert plain[0].box.shape == (4, 2, 5)
    pairs = drawn_partners(cached)
    assert pairs == drawn_partners(plain) == drawn_partners(moving)
    met = {
        (i, p)
        for b, row in zip(cached, pairs, strict=True)
        for i, p in zip(b.index.tolist(), row, strict=True)
    }
    assert met == {(i, int(p)) for i in range(10) for p in PARTNERS[i]}


def test_partners_bring_their_own_pixels_regions_and_geometry():
    (batch,) = take(make(views=1, partners=PARTNERS).batches(0), 1)
    for row, index in enumerate(batch.index):
        for view in range(2):
            height, width = batch.size[row, view]
            number = index if view == 0 else batch.image[row, 1, 0, 0, 0]
            assert (batch.image[row, view, :height, :width, 0] == number).all()
            assert (batch.regions[row, view, :height, :width] == number).all()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"view": TrainView(crop=8, position="centre")}, "set data.flip=False, or"),
        ({"view": TrainView(crop=8, flip=False)}, "set data.position='centre', or"),
        ({"view": dataclasses.replace(FIXED, scale=(0.5, 1.0))}, r"set data.scale=\(1, 1\), or"),
        ({"views": 2}, "set data.views=1, or"),
        ({"view": TrainView(crop=8)}, "set data.flip=False, data.position='centre', or"),
    ],
)
def test_random_views_have_no_cached_features(fields, message):
    store = TokenStore("nowhere", 10, (4, 4, 3), 10)
    with pytest.raises(UserError, match=message):
        make(**{"view": FIXED, "views": 1, "tokens": store, **fields})


def test_a_fixed_scale_has_cached_features():
    store = TokenStore("nowhere", 10, (4, 4, 3), 10)
    view = dataclasses.replace(FIXED, scale=(0.5, 0.5))
    assert make(view=view, views=1, tokens=store).tokens is store


def test_features_or_partners_of_another_split():
    with pytest.raises(ValueError, match="9 rows of features or partners for 10 images"):
        make(view=FIXED, views=1, tokens=TokenStore("nowhere", 9, (4, 4, 3), 9))
    with pytest.raises(ValueError, match="9 rows of features or partners for 10 images"):
        make(partners=PARTNERS[:9])


def test_test_images_stay_images(tmp_path):
    pipeline = with_tokens(tmp_path)
    assert_same(
        jax.device_get(list(pipeline.eval_stream()())), jax.device_get(list(make().eval_stream()()))
    )


@pytest.mark.slow
def test_workers_read_the_same_cached_features(tmp_path):
    pipeline = with_tokens(tmp_path, partners=PARTNERS)
    workers = dataclasses.replace(pipeline, workers=2)
    assert_same(take(pipeline.batches(3), 3), take(workers.batches(3), 3))


def test_hosts_read_the_parts_of_the_same_batches():
    whole = EvalRows(Numbered(7), EvalView(crop=8), tuple(range(7)))
    hosts = [HostRows(whole, 4, first, 2) for first in (0, 2)]
    for batch in (0, 1):
        # All of a host's rows, then the next host's, as its devices lie in the mesh.
        rows = stack([host[2 * batch + row] for host in hosts for row in (0, 1)])
        expected = [0, 1, 2, 3] if batch == 0 else [4, 5, 6, -1]
        np.testing.assert_array_equal(rows["index"], expected)
        np.testing.assert_array_equal(rows["image"][:3, 0, 0, 0, 0], expected[:3])
        ignored = (rows["label"]["class"] == -1).all((1, 2))
        assert ignored.tolist() == [False, False, False, batch == 1]
    assert [len(host) for host in hosts] == [4, 4]


@pytest.mark.parametrize("crop", [0, 8])
def test_evaluated_batches_are_cut_for_the_hosts(crop, monkeypatch):
    view = EvalView(crop=crop) if crop else EvalView(pad_multiple=8)
    placed = []
    monkeypatch.setattr(
        pipeline_module, "_placer", lambda mesh: lambda rows: placed.append(rows["index"]) or rows
    )
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    found = []
    for host in (0, 1):
        monkeypatch.setattr(jax, "process_index", lambda host=host: host)
        placed.clear()
        list(make(eval_view=view).eval_stream()(batch_size=4))
        found.append(list(placed))
    indices = np.concatenate([np.concatenate(pair) for pair in zip(*found, strict=True)])
    assert sorted(indices[indices >= 0]) == list(range(10))
    assert all(len(part) == 2 for parts in found for part in parts)
