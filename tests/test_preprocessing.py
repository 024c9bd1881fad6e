"""The configs for the papers' benchmarks prepare images as METHODS.md 1.3 says."""

import importlib
import pathlib

import numpy as np
import pytest

from jaxseg import build
from jaxseg.sections import DataSection, call, divide, read_config
from jaxseg.views.geometry import EvalView, TrainView

# By method and data set: how many views and channels an image has in training and
# whether it is cut into five first; then the geometry of training and of test images.
TWO_VIEWS, ONE_VIEW, FIVE_CROP = (2, 3, False), (1, 3, False), (1, 3, True)
INFRARED = (1, 4, False)
SCALED = TrainView(448, scale=(0.5, 1.5))
LONGER = EvalView(512, 512, side="longer")
STREET = SCALED, EvalView(pad_multiple=32)  # 1024 x 2048 as it is
KITTI = SCALED, EvalView(pad_multiple=8)
STUFF = TrainView(336, scale=(0.5, 1.5)), LONGER
TILES = TrainView(200, scale=(0.5, 1.5)), EvalView(crop=200)
FROZEN = (
    TrainView(224, 224, flip=False, interpolation="nearest", position="centre"),
    EvalView(320, 320, interpolation="nearest"),
)
FROZEN_TILES = FROZEN[0], EvalView(224, 224, interpolation="nearest")
PICIE = TrainView(640, 640, flip=False, position="centre"), EvalView(320, 320)
# Flips are the method's own, of the device.
IIC = (
    TrainView(128, scale=(0.33, 0.33), flip=False, interpolation="linear", padding="centre"),
    EvalView(crop=128, scale=0.33, interpolation="linear", padding="centre"),
)
IIC_IN_PICIE = TrainView(320, 320, flip=False, position="centre"), EvalView(320, 320)
IIC_TILES = TrainView(200, flip=False), EvalView(crop=200)
# How photographs come to 128 pixels is not published: the shorter side, in InfoSeg and in SAN.
INFOSEG = TrainView(128, 128), EvalView(128, 128)
INFOSEG_TILES = TrainView(200), EvalView(crop=200)
SAN = TrainView(128, 128, flip=False), EvalView(128, 128)
SAN_TILES = TrainView(128), EvalView(crop=128)

PREPROCESSING = {
    ("hsg", "coco"): (TWO_VIEWS, SCALED, LONGER),
    ("hsg", "voc12"): (TWO_VIEWS, SCALED, LONGER),
    ("hsg", "densepose"): (TWO_VIEWS, SCALED, LONGER),
    ("hsg", "cityscapes19"): (TWO_VIEWS, *STREET),
    ("hsg", "kitti_step"): (TWO_VIEWS, *KITTI),
    ("hsg", "cocostuff15"): (TWO_VIEWS, *STUFF),
    ("hsg", "potsdam"): (TWO_VIEWS, *TILES),
    ("segsort", "coco"): (ONE_VIEW, TrainView(224, scale=(0.5, 1.5)), LONGER),
    ("segsort", "voc12"): (ONE_VIEW, SCALED, LONGER),
    ("segsort", "cityscapes19"): (ONE_VIEW, *STREET),
    ("segsort", "kitti_step"): (ONE_VIEW, *KITTI),
    ("segsort", "cocostuff15"): (ONE_VIEW, *STUFF),
    ("segsort", "potsdam"): (ONE_VIEW, *TILES),
    ("smooseg", "cocostuff27"): (FIVE_CROP, *FROZEN),
    ("smooseg", "cityscapes27"): (FIVE_CROP, *FROZEN),
    ("smooseg", "potsdam3"): (ONE_VIEW, *FROZEN_TILES),
    ("stego", "cocostuff27"): (FIVE_CROP, *FROZEN),
    ("stego", "cityscapes27"): (FIVE_CROP, *FROZEN),
    ("stego", "potsdam3"): (ONE_VIEW, *FROZEN_TILES),
    ("picie", "cocostuff27"): (ONE_VIEW, *PICIE),
    ("picie", "cityscapes27"): (ONE_VIEW, *PICIE),
    ("picie", "cocostuff15"): (ONE_VIEW, *IIC),
    ("deepcluster", "cocostuff27"): (ONE_VIEW, *PICIE),
    ("deepcluster", "cityscapes27"): (ONE_VIEW, *PICIE),
    ("deepcluster", "cocostuff15"): (ONE_VIEW, *IIC),
    ("iic", "cocostuff3"): (ONE_VIEW, *IIC),
    ("iic", "cocostuff15"): (ONE_VIEW, *IIC),
    ("iic", "cocostuff27"): (ONE_VIEW, *IIC_IN_PICIE),
    ("iic", "cityscapes27"): (ONE_VIEW, *IIC_IN_PICIE),
    ("iic", "potsdam"): (INFRARED, *IIC_TILES),
    ("iic", "potsdam3"): (INFRARED, *IIC_TILES),
    ("infoseg", "cocopersons"): (ONE_VIEW, TrainView(128), EvalView(crop=128)),
    ("infoseg", "cocostuff3"): (ONE_VIEW, *INFOSEG),
    ("infoseg", "cocostuff15"): (ONE_VIEW, *INFOSEG),
    ("infoseg", "potsdam"): (INFRARED, *INFOSEG_TILES),
    ("infoseg", "potsdam3"): (INFRARED, *INFOSEG_TILES),
    ("san", "cocostuff3"): (ONE_VIEW, *SAN),
    ("san", "cocostuff15"): (ONE_VIEW, *SAN),
    ("san", "cocostuff27"): (ONE_VIEW, *SAN),
    ("san", "cityscapes27"): (ONE_VIEW, *SAN),
    ("san", "potsdam"): (INFRARED, *SAN_TILES),
}
# What one config has of its own: stage 1 of HSG's training on COCO.
STAGE_1 = (TWO_VIEWS, TrainView(224, scale=(0.5, 1.5)), LONGER)
OWN = {"hsg_coco_stage1": STAGE_1, "hsg_coco_stage1_single": STAGE_1}

CONFIGS = pathlib.Path(__file__).parents[1] / "configs"
BENCHMARKS = {data for _, data in PREPROCESSING}


def data_sections():
    """Yields (config, method, section `data`) of the methods' configs for the benchmarks."""
    for name in sorted(path.stem for path in CONFIGS.glob("*.py")):
        module = importlib.import_module(f"configs.{name}")
        if hasattr(module, "get_config"):
            sections = read_config(module.get_config())
            section = call("data", DataSection, divide(sections["data"], DataSection)[0])
            # The supervised ceiling is none of the papers' methods.
            if section.name in BENCHMARKS and sections["method"]["name"] != "supervised":
                yield name, sections["method"]["name"], section


def test_every_config_has_the_preprocessing_of_its_paper():
    seen = set()
    for name, method, section in data_sections():
        kind = (section.views, section.channels, section.five_crop)
        found = kind, build.make_view(section), build.make_eval_view(section)
        expected = OWN.get(name) or PREPROCESSING[method, section.name]
        if "_single" in name:  # ablations of the second view
            expected = (ONE_VIEW, *expected[1:])
        assert found == expected, name
        seen.add((method, section.name))
    assert seen == PREPROCESSING.keys()


@pytest.mark.parametrize(
    ("geometry", "seen", "tested"),
    [
        ((SCALED, LONGER), 448, (384, 512)),
        (KITTI, 448, (480, 640)),
        (FROZEN, 224, (320, 320)),
        (PICIE, 640, (320, 320)),
        (IIC, 128, (128, 128)),
    ],
)
def test_preprocessing_of_a_photograph(geometry, seen, tested):
    train, test = geometry
    image = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    view = train(image, {}, np.random.default_rng(0))
    assert view.image.shape == (seen, seen, 3)
    shown = test(image, {})
    assert tuple(shown.size) == tested
    assert shown.image.shape == ((512, 512, 3) if test == LONGER else (*tested, 3))
    if train.position == "centre":
        again = train(image, {}, np.random.default_rng(1))
        np.testing.assert_array_equal(view.image, again.image)
    if geometry == IIC:
        # 0.33 * 480 = 158.4 and 0.33 * 640 = 211.2, in one resampling.
        y0, x0, y1, x1, _ = view.box
        np.testing.assert_allclose([128 / (y1 - y0), 128 / (x1 - x0)], [158, 211], rtol=1e-5)


def test_test_images_may_have_an_interpolation_of_their_own():
    values = {"name": "a", "batch_size": 1, "interpolation": "nearest"}
    for own, expected in (("", "nearest"), ("bilinear", "bilinear")):
        section = call("data", DataSection, values | {"test_interpolation": own})
        assert build.make_view(section).interpolation == "nearest"
        assert build.make_eval_view(section).interpolation == expected
