"""The drawn data set: its contract as a source, and the two bounds that fix its difficulty."""

import hashlib
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from scipy.cluster.vq import kmeans2, vq
from scipy.optimize import linear_sum_assignment

from jaxseg.core import UserError
from jaxseg.data.scenes import PART_TO_WHOLE, PARTS, WHOLES, Scenes


def load(split, count, size=64):
    examples = list(Scenes(split, size, count))
    return np.stack([e.image for e in examples]), np.stack([e.label["class"] for e in examples])


def same(a, b):
    labels = all(np.array_equal(a.label[kind], b.label[kind]) for kind in a.label)
    return labels and np.array_equal(a.image, b.image) and a.name == b.name


def test_an_example_has_the_promised_form():
    for size in (32, 96, 131):
        example = Scenes(size=size)[12]
        assert example.name == "train/000012"
        assert example.image.shape == (size, size, 3)
        assert example.image.dtype == np.uint8
        assert example.image.flags.c_contiguous
        assert set(example.label) == {"class", "part", "instance"}
        for kind, label in example.label.items():
            assert label.shape == (size, size), kind
            assert label.dtype == np.int32, kind
            assert label.min() >= 0, kind


def test_classes_name_both_levels():
    assert Scenes().classes == {"class": WHOLES, "part": PARTS}
    assert len(PARTS) == len(PART_TO_WHOLE) == 15
    assert WHOLES[PART_TO_WHOLE[PARTS.index("roof")]] == "house"
    assert (len(Scenes()), len(Scenes("val")), len(Scenes(count=7))) == (2000, 300, 7)


def test_an_image_does_not_depend_on_what_was_drawn_before():
    source = Scenes("val", seed=3)
    first = [source[i] for i in range(8)]
    assert all(same(source[i], first[i]) for i in reversed(range(8)))
    assert same(Scenes("val", seed=3, count=5)[4], first[4])
    with ThreadPoolExecutor(4) as pool:
        threaded = list(pool.map(pickle.loads(pickle.dumps(source)).__getitem__, range(8)))
    assert all(map(same, threaded, first))


def test_a_new_process_draws_the_same():
    code = (
        "import hashlib; from jaxseg.data.scenes import Scenes; e = Scenes()[5];"
        "print(hashlib.blake2b(e.image.tobytes() + e.label['part'].tobytes()).hexdigest())"
    )
    here = Scenes()[5]
    expected = hashlib.blake2b(here.image.tobytes() + here.label["part"].tobytes()).hexdigest()
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == expected


def test_splits_and_seeds_are_disjoint():
    sources = [Scenes(split, 32, 60, seed) for split in ("train", "val") for seed in (0, 1)]
    seen = {example.image.tobytes() for source in sources for example in source}
    assert len(seen) == 4 * 60


def test_a_part_belongs_to_its_whole_and_an_instance_to_one_class():
    for example in Scenes("val", count=60):
        whole, part, instance = (example.label[kind] for kind in ("class", "part", "instance"))
        assert np.array_equal(np.array(PART_TO_WHOLE)[part], whole)
        pairs = np.unique(np.stack([instance.ravel(), whole.ravel()]), axis=1)
        assert len(np.unique(pairs[0])) == pairs.shape[1]


def test_every_class_is_reasonably_present():
    parts = np.stack([example.label["part"] for example in Scenes("val", 48)])
    share = np.bincount(parts.ravel(), minlength=len(PARTS)) / parts.size
    assert (share > 0.002).all()
    whole = np.bincount(PART_TO_WHOLE, weights=share)
    assert whole.min() > 0.03
    assert whole.max() < 0.35


def test_another_size_shows_the_same_scene():
    for i in range(12):
        small, large = Scenes("val", 48)[i], Scenes("val", 144)[i]
        # The middle pixel of each 3 x 3 block has the same centre as the small pixel.
        for kind, label in small.label.items():
            assert (label == large.label[kind][1::3, 1::3]).mean() > 0.995, kind
        coarse = large.image.reshape(48, 3, 48, 3, 3).mean((1, 3))
        assert np.corrcoef(coarse.ravel(), small.image.ravel())[0, 1] > 0.85


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("split", "test"),
        ("size", 31),
        ("size", 513),
        ("size", 64.0),
        ("count", 0),
        ("seed", -1),
        ("seed", True),
    ],
)
def test_a_bad_field_is_named(field, value):
    with pytest.raises(UserError, match=rf"{field} is {value!r}, expected"):
        Scenes(**{field: value})


@pytest.mark.parametrize("index", [-1, 5, 2000])
def test_a_bad_index_is_named(index):
    with pytest.raises(IndexError, match=rf"index is {index}, expected 0 to 4"):
        Scenes(count=5)[index]


@pytest.mark.parametrize("weight", [0.5, 1.0, 2.0])
def test_colour_and_position_do_not_tell_the_classes(weight):
    image, label = load("val", 60)
    place = np.broadcast_to(np.stack(np.mgrid[:64, :64], -1) * (weight / 63), (*image.shape[:3], 2))
    points = np.concatenate([image / 255, place], -1).reshape(-1, 5)
    for seed in range(3):
        sample = np.random.default_rng(seed).choice(points, 10_000, replace=False)
        centres, _ = kmeans2(sample, len(WHOLES), minit="++", seed=seed, iter=25)
        table = np.zeros((len(WHOLES), len(WHOLES)), int)
        np.add.at(table, (vq(points, centres)[0], label.ravel()), 1)
        assert table[linear_sum_assignment(-table)].sum() / table.sum() <= 0.45


class Net(nn.Module):
    """A small U-net: 64 -> 32 -> 16 -> 8 pixels and back, with 16 to 64 channels."""

    @nn.compact
    def __call__(self, x):
        def conv(x, features, size=3, stride=1):
            return nn.relu(nn.GroupNorm(8)(nn.Conv(features, (size, size), stride)(x)))

        def spread(x, features):
            b, h, w, _ = x.shape
            x = nn.Conv(4 * features, (1, 1))(x).reshape(b, h, w, 2, 2, features)
            return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, 2 * h, 2 * w, features)

        fine = conv((x.astype(jnp.float32) - 127) / 64, 16, 5, 2)
        middle = conv(fine, 32, 3, 2)
        middle = middle + conv(middle, 32)
        coarse = conv(middle, 64, 3, 2)
        for _ in range(2):
            coarse = coarse + conv(coarse, 64)
        middle = conv(middle + spread(coarse, 32), 32)
        return spread(conv(fine + spread(middle, 16), 16), len(WHOLES))


def train(image, label, steps=1000, batch=8):
    """Returns a function from images to classes."""
    net, rng = Net(), np.random.default_rng(0)
    params = net.init(jax.random.key(0), image[:1])
    tx = optax.adamw(optax.cosine_onecycle_schedule(steps, 6e-3, 0.15), weight_decay=1e-2)

    def loss(params, image, label):
        target = jax.nn.one_hot(label, len(WHOLES))
        return optax.softmax_cross_entropy(net.apply(params, image), target).mean()

    @jax.jit
    def step(params, opt_state, image, label):
        updates, opt_state = tx.update(jax.grad(loss)(params, image, label), opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    opt_state = tx.init(params)
    for _ in range(steps):
        rows = rng.choice(len(image), batch, replace=False)
        turn = rng.choice([1, -1])
        params, opt_state = step(params, opt_state, image[rows, :, ::turn], label[rows, :, ::turn])
    return jax.jit(lambda image: net.apply(params, image).argmax(-1))


@pytest.mark.slow
def test_a_small_network_learns_the_wholes_from_labels():
    predict = train(*load("train", 1200))
    image, label = load("val", 150)
    accuracy = (np.asarray(predict(image)) == label).mean()
    print(f"accuracy {accuracy:.4f}")
    assert accuracy >= 0.85
