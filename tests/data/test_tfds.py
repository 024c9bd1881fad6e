"""A builder prepared as array_record: read by index, without TensorFlow."""

import json
import subprocess
import sys

import numpy as np
import pytest

from jaxseg.core import UserError
from jaxseg.data.images import decode_image
from jaxseg.data.tfds import open_tfds
from tests.data.layouts_scenes import encoded, prepare_tfds, scene, write_tfds

pytest.importorskip("tensorflow_datasets")
NAMES = ("pet", "background", "border")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    path = tmp_path_factory.mktemp("tfds")
    write_tfds(path)
    return path


def test_records_are_images_and_labels(root):
    source = open_tfds(str(root), "train", "mini", class_names=NAMES, first_value=1)
    assert len(source) == 4
    assert source.classes == {"class": NAMES}
    for index in range(4):
        image, ids = scene(index, range(1, 4), 40, 48)
        np.testing.assert_array_equal(source[index].image, image)
        np.testing.assert_array_equal(source[index].label["class"], ids - 1)
        assert source[index].label["class"].dtype == np.int32
    assert source[-1].name.endswith("record 3")
    with pytest.raises(IndexError):
        source[4]
    ignored = open_tfds(str(root), "test", "mini", class_names=NAMES[1:], first_value=2, ignore=[1])
    assert set(np.unique(ignored[0].label["class"])) == {-1, 0, 1}


def test_jpegs_are_read(tmp_path):
    prepare_tfds(tmp_path, "jpeg")
    source = open_tfds(str(tmp_path), "train", "mini", class_names=NAMES, first_value=1)
    for index in range(len(source)):
        image, ids = scene(index, range(1, 4), 40, 48)
        data = encoded(image, "jpeg").getvalue()
        np.testing.assert_array_equal(source[index].image, decode_image(data, "a"), strict=True)
        assert (source[index].image != image).any()  # it was a JPEG
        np.testing.assert_array_equal(source[index].label["class"], ids - 1)


def test_versions_and_parts_of_splits(root):
    assert len(open_tfds(str(root), "train[:50%]", "mini:1.0.0")) == 2
    assert open_tfds(str(root), "train+test", "mini").classes == {}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"tfds": "nothing"},
            r"'nothing', which is not prepared in data\.root .*tfds build nothing",
        ),
        ({"tfds": "mini:9.9.9"}, r"'mini:9\.9\.9', which is not prepared"),
        ({"tfds": ""}, r"data\.tfds is ''"),
        ({"split": "val"}, r"mini in .* has no split 'val'; its splits are test, train"),
        ({"image_feature": "picture"}, r"data\.image_feature is 'picture'; .*image, segm"),
        ({"label_feature": "mask", "class_names": NAMES}, r"data\.label_feature is 'mask'; "),
    ],
)
def test_what_is_not_there_is_named(root, fields, message):
    given = {"root": str(root), "split": "train", "tfds": "mini"} | fields
    with pytest.raises(UserError, match=message):
        open_tfds(**given)


def test_records_that_are_no_examples_are_named(root):
    with pytest.raises(UserError, match=r"record 0 holds the value 3, .*expected 0 to 2, 255"):
        open_tfds(str(root), "train", "mini", class_names=NAMES)[0]
    with pytest.raises(
        UserError, match=r"record 0: 'image' is uint8 .*expected uint8 .*width, 4\]"
    ):
        open_tfds(str(root), "train", "mini", channels=4)[0]
    with pytest.raises(
        UserError, match=r"record 0: 'file_name' is .* of shape \(\); expected uint8"
    ):
        open_tfds(str(root), "train", "mini", image_feature="file_name")[0]
    grey = open_tfds(str(root), "train", "mini", image_feature="segmentation_mask")[0].image
    assert grey.shape == (40, 48, 3)
    assert (grey == grey[:, :, :1]).all()


def test_another_file_format_is_named(root, tmp_path):
    folder = tmp_path / "mini" / "1.0.0"
    folder.mkdir(parents=True)
    for path in (root / "mini" / "1.0.0").glob("*.json"):
        (folder / path.name).write_text(path.read_text())
    info = json.loads((folder / "dataset_info.json").read_text())
    info["fileFormat"] = "tfrecord"
    (folder / "dataset_info.json").write_text(json.dumps(info))
    with pytest.raises(
        UserError, match=r"was not prepared as array_record.*--file_format=array_re"
    ):
        open_tfds(str(tmp_path), "train", "mini")


def test_tensorflow_is_not_imported(root):
    code = (
        "import sys; from jaxseg.data.tfds import open_tfds; "
        f"assert open_tfds({str(root)!r}, 'train', 'mini')[1].image.shape == (40, 48, 3); "
        "assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
