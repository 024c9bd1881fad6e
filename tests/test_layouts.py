"""Every method runs on every official layout: two real train steps on miniature copies.

Crop, batch and clusters are the same everywhere, so that a method's step is compiled once for each
number of channels, and found in a cache by the other layouts. The same copies are packed and give
the same examples; so do the real images, where there are some.
"""

import functools
import inspect
import os
import pathlib
import re
import shutil
import tempfile

import jax
import numpy as np
import pytest

from jaxseg.build import batch_spec, make_data, make_method, make_transforms
from jaxseg.commands import prepare
from jaxseg.commands.check import folder_of
from jaxseg.commands.pack import Packer
from jaxseg.core import UserError
from jaxseg.data import SOURCES
from jaxseg.data.packed import open_packed
from jaxseg.methods import METHODS
from jaxseg.pretrained import keep_features
from jaxseg.sections import DataSection, call, divide
from jaxseg.sharding import make_mesh
from jaxseg.train import init_optimiser, make_step
from tests.data import layouts_coco, layouts_scenes

# How to write a miniature copy, by the name of its source; VOC has two forms of it.
WRITERS = {
    name.removeprefix("write_"): write
    for module in (layouts_coco, layouts_scenes)
    for name, write in inspect.getmembers(module, inspect.isfunction)
    if name.startswith("write_") and list(inspect.signature(write).parameters) == ["root"]
}
for kind in (3, 15, 27, 171, 182):
    WRITERS[f"cocostuff{kind}"] = layouts_coco.write_cocostuff
WRITERS["coco"] = WRITERS.pop("cocostuff")
ALIASES = {"voc12_sbd": "voc12"}
# What needs no miniature copy: it is no official layout, and has tests of its own.
OTHERS = {"folder", "packed", "scenes"}

BATCH, CROP = 2, 32

# Small networks: the fields of each method, and of its data where they are not the layout's.
FROZEN = {"clusters": 2, "backbone": "vit_test", "dim": 8}
PYRAMID = {"backbone": "resnet_tiny", "dim": 8}
SMALL: dict[str, tuple[dict, dict]] = {
    "infoseg": (
        {"features": 8, "patch_widths": (4,) * 5, "global_widths": (4,) * 3, "clusters": 2},
        {},
    ),
    "smooseg": (FROZEN, {"channels": 3}),
    "stego": (FROZEN | {"points": 3, "negatives": 1}, {"channels": 3, "partners": 1}),
    "picie": (PYRAMID | {"clusters": 2, "size": CROP}, {"channels": 3}),
    "deepcluster": (PYRAMID | {"clusters": 2, "size": CROP}, {"channels": 3}),
    "iic": (
        {"clusters": 2, "overclusters": 3, "widths": (4,) * 6, "displacement": 1,
         "steps_per_pass": 1}, {"channels": 3},
    ),
    "hsg": (
        PYRAMID | {"train_stride": 8, "heads": 1, "hidden": 8, "layers": (1, 1), "slots": 16,
                   "grid": (2, 2), "sizes": (4, 2), "positions": 4, "trained_cells": 4},
        {"channels": 3, "views": 2, "regions": "graph"},
    ),
    "segsort": (
        PYRAMID | {"train_stride": 8, "slots": 32}, {"channels": 3, "regions": "graph"},
    ),
    "san": (
        {"clusters": 2, "features": 8, "blocks": 1, "heads": 2, "trained_cells": 4,
         "decoder_width": 4}, {},
    ),
    "supervised": (PYRAMID | {"classes": 200}, {"channels": 3}),
}  # fmt: skip


@pytest.fixture(scope="module")
def copies(tmp_path_factory):
    """Returns a function from a layout to the fields of its miniature copy, written once."""
    written = {}

    def copy(layout):
        if layout not in written:
            root = tmp_path_factory.mktemp(layout)
            fields = WRITERS[layout](root)
            written[layout] = {"name": ALIASES.get(layout, layout), "root": str(root)} | fields
        return written[layout]

    return copy


@functools.cache
def trained(method, channels):
    """Returns a tiny method with its first state and its step, compiled once for all layouts."""
    made = make_method({"name": method} | SMALL[method][0])
    spec = batch_spec(section_of(method, {"name": "folder", "channels": channels})[0])
    state = jax.jit(lambda key: made.init(key, spec))(jax.random.key(0))
    transforms = make_transforms({}, state.params, 2)
    step = jax.jit(make_step(made, transforms, jax.random.key(1)))
    return made, init_optimiser(state, transforms), step


def section_of(method, data):
    """Returns the section `data` of a tiny network, and all of its fields."""
    fields = {
        "batch_size": BATCH, "crop": CROP, "resize": CROP, "test_resize": CROP, "test_crop": CROP,
        "threads": 1,
    } | data | SMALL[method][1]  # fmt: skip
    return call("data", DataSection, divide(fields, DataSection)[0]), fields


def check_two_steps(method, data):
    """Trains two steps on one device, with the pipeline that a run has; returns its data."""
    section, fields = section_of(method, data)
    made, state, step = trained(method, section.channels)
    # The tests' eight virtual devices would each need an image in every batch.
    open_data = functools.partial(make_data, fields, 0, make_mesh(jax.devices()[:1]))
    if made.reads_labels and not open_data(False).pipeline.source.classes:
        with pytest.raises(UserError, match="reads labels in training, and the split"):
            open_data(True)
        return open_data(False)
    found = open_data(made.reads_labels)
    batches = keep_features(found, made, state).pipeline.batches(0)
    for _ in range(2):
        state, metrics = step(state, next(batches))
        assert np.isfinite(metrics["loss"])
        assert not metrics["nonfinite"]
    return found


def test_every_data_set_has_a_copy_and_every_method_a_small_form():
    assert {ALIASES.get(name, name) for name in WRITERS} == SOURCES.keys() - OTHERS
    assert SMALL.keys() == METHODS.keys() - {"colour"}  # which has nothing to learn


# Data sets that differ in their classes alone have one layout. "coco" has that of COCO-Stuff too,
# but no labels: HSG trains on it.
LAYOUTS = {write: name for name, write in sorted(WRITERS.items())}


@pytest.mark.parametrize("layout", sorted({*LAYOUTS.values(), "coco"}))
@pytest.mark.parametrize("method", sorted(SMALL))
def test_two_steps(copies, method, layout):
    test = check_two_steps(method, copies(layout)).test
    for kind, names in test.classes.items():
        label = test[0].label[kind]
        assert label.shape == test[0].image.shape[:2]
        assert not names or label.max() < len(names)


def open_split(fields, split):
    names = inspect.signature(SOURCES[fields["name"]]).parameters
    return SOURCES[fields["name"]](
        split=split, **{name: value for name, value in fields.items() if name in names}
    )


@pytest.mark.parametrize("layout", sorted(WRITERS))
def test_packed_copies_give_the_same_examples(tmp_path, copies, layout):
    fields = copies(layout)
    channels = fields.get("channels", 3)
    split = fields.get("train_split", "train")
    source = open_split(fields, split)
    Packer(tmp_path, fields["name"], {}, channels=channels).pack({split: source})
    packed = open_packed(str(tmp_path), split, channels=channels)
    assert packed.classes == source.classes
    assert len(packed) == len(source)
    for index in range(len(source)):
        theirs, ours = source[index], packed[index]
        np.testing.assert_array_equal(ours.image, theirs.image, strict=True)
        assert ours.name == theirs.name
        assert ours.label.keys() == (theirs.label.keys() if source.classes else set())
        for kind in ours.label:
            np.testing.assert_array_equal(ours.label[kind], theirs.label[kind], strict=True)


def check_command(fields, root, splits):
    """Returns the command that checks splits of a copy that lies in `root`."""
    names = inspect.signature(SOURCES[fields["name"]]).parameters
    words = [
        f"--set={name}={value}"
        for name, value in fields.items()
        if name in names and name not in ("name", "root")
    ]
    return ["check", fields["name"], f"--root={root}", f"--split={splits}", *words]


@pytest.mark.parametrize("layout", sorted(WRITERS))
def test_check_finds_nothing_wrong_but_the_counts(copies, layout, capsys):
    fields = copies(layout)
    splits = {fields.get("train_split", "train"), fields.get("test_split", "val")}
    prepare.main(check_command(fields, fields["root"], ",".join(splits)))
    wrong = [line for line in capsys.readouterr().out.splitlines() if line.endswith("WRONG")]
    assert all(line.split()[1] == "images" and "without" not in line for line in wrong), wrong


# The images of TFDS are no files.
@pytest.mark.parametrize("layout", sorted(WRITERS.keys() - {"tfds"}))
def test_check_finds_a_truncated_image(tmp_path, copies, layout, capsys):
    fields = copies(layout)
    root = shutil.copytree(fields["root"], tmp_path / "copy")
    split = fields.get("train_split", "train")
    folder = folder_of(open_split(fields | {"root": str(root)}, split))
    path = os.path.join(folder.root, folder.names[0])
    os.truncate(path, os.path.getsize(path) // 2)
    assert prepare.main(check_command(fields, root, split)) == 1
    out = capsys.readouterr().out
    (unreadable,) = [line for line in out.splitlines() if "  unreadable files  " in line]
    (damaged,) = [line for line in out.splitlines() if "  damaged or wrong examples  " in line]
    assert re.search(r" 1 +0 +WRONG$", unreadable), out
    assert re.search(r" 1 \(all read\) +0 +WRONG$", damaged), out
    assert out.count(f"cannot read image {path}") == 2


@pytest.fixture
def forbidden():
    """A folder that this process, as an ordinary user, has no permission for."""
    with tempfile.TemporaryDirectory() as top:
        root = pathlib.Path(top) / "data"
        root.mkdir(mode=0)
        os.chmod(top, 0o711)
        user = os.geteuid()
        try:
            os.seteuid(user or 65534)  # the super user may read everything
        except OSError:
            pytest.skip("no ordinary user to be had")
        yield root
        os.seteuid(user)
        root.chmod(0o700)


@pytest.mark.parametrize("layout", sorted(WRITERS.keys() | {"folder"}))
def test_a_root_without_permission_is_named(forbidden, layout, capsys):
    fields = {"name": ALIASES.get(layout, layout)} | ({"tfds": "mini"} if layout == "tfds" else {})
    assert prepare.main(check_command(fields, forbidden, "train")) == 1
    out = capsys.readouterr().out
    (told,) = [line for line in out.splitlines() if line.startswith("- train, layout: ")]
    assert "no permission to " in told
    assert str(forbidden) in told
    assert "Expected" not in told


COCO = {"images": "images/{split}", "labels": "labels/{split}"}
PANOPTIC = {
    "images": "images/{split}",
    "labels": "panoptic/{split}",
    "annotations": "panoptic_{split}.json",
}
# Real data sets, and samples of more than one image: folder -> source, fields.
REAL = {
    "aerial_dubai": ("dubai", {}),
    "bsds500": ("bsds500", {}),
    "camvid": ("camvid", {}),
    "cityscapes_samples": ("cityscapes27", {"test_split": "train"}),
    "coco_panoptic": ("coco_panoptic", PANOPTIC),
    "coco_stuff": ("cocostuff27", COCO | {"train_list": "all", "val_list": "all"}),
    "kitti_semantic": ("kitti_semantic", {}),
    "voc12_subset": ("voc12", {"lists": "ImageSets"}),
}


@pytest.mark.slow
@pytest.mark.parametrize("folder", sorted(REAL))
@pytest.mark.parametrize("method", sorted(SMALL))
def test_two_steps_on_real_images(real_data, method, folder):
    name, fields = REAL[folder]
    check_two_steps(method, {"name": name, "root": str(real_data(folder))} | fields)
