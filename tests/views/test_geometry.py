"""Views: the box says where a view lies, maps stay on their pixels, draws are repeatable."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from jaxseg.views import geometry

sides = st.integers(5, 60)
seeds = st.integers(0, 2**32 - 1)
methods = st.sampled_from(["bilinear", "linear", "nearest"])


def noise(height, width, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


def ramp(height, width):
    """An image whose first two channels are y and x of the pixel's centre, in 255ths."""
    y, x = np.meshgrid((np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width)
    image = np.stack([y.T, x.T, np.zeros((height, width))], -1) * 255
    return np.round(image).astype(np.uint8)


def numbered(height, width):
    """A map i32[H W] in which every pixel has its own id."""
    return np.arange(height * width, dtype=np.int32).reshape(height, width)


def assert_close(part, whole):
    """Asserts equality but for one rounding in each of Pillow's two passes over an image."""
    assert np.abs(part.astype(int) - whole.astype(int)).max() <= 2


@given(height=sides, width=sides, new=st.tuples(sides, sides), channels=st.sampled_from([3, 4]))
@settings(deadline=None, max_examples=30)
def test_bilinear_is_that_of_pillow_channel_by_channel(height, width, new, channels):
    image = noise(height, width, channels)
    resized = geometry.resize(image, *new)
    assert resized.shape == (*new, channels)
    for channel in range(channels):
        picture = Image.fromarray(np.ascontiguousarray(image[:, :, channel]))
        expected = np.asarray(picture.resize(new[::-1], Image.Resampling.BILINEAR))
        np.testing.assert_array_equal(resized[:, :, channel], expected)


@given(height=sides, width=sides, new=st.tuples(sides, sides))
@settings(deadline=None, max_examples=50)
def test_nearest_takes_the_pixel_under_the_centre(height, width, new):
    ids = numbered(height, width) + 70_000  # more than 16 bits
    resized = geometry.resize(ids, *new, "nearest")
    assert resized.dtype == np.int32
    for i in range(new[0]):
        for j in range(new[1]):
            # (2 i + 1) / (2 n) * N, floored: a rational number, so integers decide the ties.
            y, x = (2 * i + 1) * height // (2 * new[0]), (2 * j + 1) * width // (2 * new[1])
            assert resized[i, j] == ids[y, x]


def test_nearest_agrees_with_pillow_on_images():
    image = noise(37, 53)
    expected = Image.fromarray(image).resize((20, 90), Image.Resampling.NEAREST)
    np.testing.assert_array_equal(geometry.resize(image, 90, 20, "nearest"), np.asarray(expected))


@given(
    shape=st.tuples(sides, sides),
    full=st.tuples(sides, sides),
    corner=st.tuples(st.floats(0, 0.99), st.floats(0, 0.99)),
    method=methods,
)
@settings(deadline=None, max_examples=80)
def test_a_window_is_what_resizing_all_and_cropping_gives(shape, full, corner, method):
    image = noise(*shape)
    y, x = int(corner[0] * full[0]), int(corner[1] * full[1])
    h, w = max(1, (full[0] - y) // 2), max(1, (full[1] - x) // 2)
    part = geometry.resize_window(image, full, (y, x, h, w), method)
    whole = geometry.resize(image, *full, method)[y : y + h, x : x + w]
    if method != "bilinear":
        np.testing.assert_array_equal(part, whole)
    assert_close(part, whole)


def test_wrong_arguments():
    with pytest.raises(ValueError, match="'cubic'"):
        geometry.resize(noise(4, 4), 2, 2, "cubic")
    with pytest.raises(ValueError, match="resize maps with 'nearest'"):
        geometry.resize(numbered(4, 4), 2, 2)
    with pytest.raises(ValueError, match="does not lie inside"):
        geometry.resize(noise(4, 4), 0, 2)
    with pytest.raises(ValueError, match="got -1"):
        geometry.shorter_side((4, 4), -1)
    with pytest.raises(ValueError, match="scale must be"):
        geometry.TrainView(crop=4, scale=(1.0, 0.5))
    with pytest.raises(ValueError, match="crop must be"):
        geometry.TrainView(crop=0)
    with pytest.raises(ValueError, match=r"longer side must be positive.*got -1"):
        geometry.longer_side((4, 4), -1)
    for field, value in (("position", "left"), ("padding", "top"), ("interpolation", "cubic")):
        with pytest.raises(ValueError, match=f"{field} must be one of .*'{value}'"):
            geometry.TrainView(crop=4, **{field: value})
    for field, value in (("side", "left"), ("padding", "top")):
        with pytest.raises(ValueError, match=f"{field} must be one of .*'{value}'"):
            geometry.EvalView(**{field: value})
    with pytest.raises(ValueError, match="scale must be above 0, got 0"):
        geometry.EvalView(scale=0.0)
    with pytest.raises(ValueError, match="linear needs an image u8"):
        geometry.resize(numbered(4, 4), 2, 2, "linear")
    with pytest.raises(ValueError, match="either crop or pad_multiple"):
        geometry.EvalView(crop=4, pad_multiple=4)
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"'regions' to be i32\[4, 4\]"):
        geometry.TrainView(crop=4)(noise(4, 4), {"regions": numbered(4, 5)}, rng)
    with pytest.raises(ValueError, match="u8"):
        geometry.TrainView(crop=4)(noise(4, 4).astype(np.float32), {}, rng)
    with pytest.raises(ValueError, match=r"expected `out` uint8\[4, 4, 3\], got uint8\[4, 4, 4\]"):
        geometry.TrainView(crop=4)(noise(4, 4), {}, rng, np.empty((4, 4, 4), np.uint8))


@pytest.mark.parametrize(
    ("shape", "target", "expected"),
    [
        ((360, 480, 3), 128, (128, 170)),  # 170.67, rounded down
        ((480, 360), 128, (170, 128)),
        ((100, 100), 30, (30, 30)),
        ((7, 9), 0, (7, 9)),
        ((1, 500), 2, (2, 1000)),
    ],
)
def test_shorter_side(shape, target, expected):
    assert geometry.shorter_side(shape, target) == expected


@pytest.mark.parametrize(
    ("shape", "target", "expected"),
    [
        ((375, 500, 3), 512, (384, 512)),
        ((500, 333), 512, (512, 340)),  # 340.99, rounded down
        ((7, 9), 0, (7, 9)),
        ((1, 500), 50, (1, 50)),
    ],
)
def test_longer_side(shape, target, expected):
    assert geometry.longer_side(shape, target) == expected


@given(height=sides, width=sides, new=st.tuples(sides, sides), channels=st.sampled_from([1, 3, 4]))
@settings(deadline=None, max_examples=30)
def test_linear_is_that_of_opencv(height, width, new, channels):
    image = noise(height, width, channels)
    resized = geometry.resize(image, *new, "linear")
    assert resized.shape == (*new, channels)
    # Two neighbours in each direction, whatever the factor.
    y, x = (
        np.clip((np.arange(n) + 0.5) * old / n - 0.5, 0, old - 1)
        for n, old in zip(new, image.shape[:2], strict=True)
    )
    low, left = np.floor(y).astype(int), np.floor(x).astype(int)
    high, right = np.minimum(low + 1, height - 1), np.minimum(left + 1, width - 1)
    v, h = (y - low)[:, None, None], (x - left)[:, None]
    whole = image.astype(float)
    upper = whole[low][:, left] * (1 - h) + whole[low][:, right] * h
    lower = whole[high][:, left] * (1 - h) + whole[high][:, right] * h
    assert np.abs(resized - (upper * (1 - v) + lower * v)).max() <= 1


views = st.builds(
    geometry.TrainView,
    crop=st.integers(8, 48),
    resize=st.sampled_from([0, 20, 40]),
    scale=st.sampled_from([(1.0, 1.0), (0.5, 1.5)]),
    interpolation=methods,
    position=st.sampled_from(["random", "centre"]),
)


def centres(view, crop):
    """Returns y and x in the image, in [0, 1], of the rows and columns of a view, from its box."""
    y0, x0, y1, x1, flip = view.box.astype(float)
    at = (np.arange(crop) + 0.5) / crop
    return y0 + at * (y1 - y0), (x1 - at * (x1 - x0)) if flip else (x0 + at * (x1 - x0))


@given(view=views, shape=st.tuples(st.integers(20, 60), st.integers(20, 60)), seed=seeds)
@settings(deadline=None, max_examples=150)
def test_values_of_a_ramp_lie_where_the_box_says(view, shape, seed):
    drawn = view(ramp(*shape), {}, np.random.default_rng(seed))
    y, x = centres(drawn, view.crop)
    h, w = drawn.size
    valid = drawn.image[:h, :w].astype(float) / 255
    # A colour is that of a whole pixel of the image, or a mean around a pixel of the view, which at
    # the image's edge has fewer neighbours to average.
    heights, widths = (float(drawn.box[i + 2] - drawn.box[i]) / view.crop for i in (0, 1))
    edge = 0.0 if view.interpolation == "nearest" else 0.5
    for found, wanted, pixel, cell in (
        (valid[:, :, 0], y[:h, None], 1 / shape[0], heights),
        (valid[:, :, 1], x[None, :w], 1 / shape[1], widths),
    ):
        assert np.abs(found - wanted).max() <= 0.5 * pixel + edge * cell + 2 / 255


@given(view=views, shape=st.tuples(sides, sides), seed=seeds)
@settings(deadline=None, max_examples=150)
def test_maps_hold_the_pixel_that_the_box_points_at(view, shape, seed):
    drawn = view(noise(*shape), {"regions": numbered(*shape)}, np.random.default_rng(seed))
    y, x = centres(drawn, view.crop)
    h, w = drawn.size
    ids = drawn.maps["regions"]
    assert ids.dtype == np.int32
    assert ids.shape == (view.crop, view.crop)
    rows, columns = np.divmod(ids[:h, :w], shape[1])
    # The box is in single precision, so a centre on the border of two pixels may go either way.
    assert np.all(np.abs(rows + 0.5 - y[:h, None] * shape[0]) <= 0.5 + 1e-3)
    assert np.all(np.abs(columns + 0.5 - x[None, :w] * shape[1]) <= 0.5 + 1e-3)


@given(view=views, shape=st.tuples(sides, sides), seed=seeds)
@settings(deadline=None, max_examples=100)
def test_regions_stay_on_their_colours(view, shape, seed):
    view = geometry.TrainView(view.crop, view.resize, view.scale, interpolation="nearest")
    image = noise(*shape, seed=1)
    drawn = view(image, {"regions": numbered(*shape)}, np.random.default_rng(seed))
    h, w = drawn.size
    colours = image.reshape(-1, 3)[drawn.maps["regions"][:h, :w]]
    np.testing.assert_array_equal(drawn.image[:h, :w], colours)


@given(view=views, shape=st.tuples(sides, sides), seed=seeds)
@settings(deadline=None, max_examples=100)
def test_valid_size_and_padding(view, shape, seed):
    drawn = view(noise(*shape), {"regions": numbered(*shape)}, np.random.default_rng(seed))
    h, w = drawn.size
    assert drawn.image.shape == (view.crop, view.crop, 3)
    assert drawn.size.dtype == np.int32
    assert drawn.box.dtype == np.float32
    assert 1 <= h <= view.crop
    assert 1 <= w <= view.crop
    padding = np.ones((view.crop, view.crop), bool)
    padding[:h, :w] = False
    assert np.all(drawn.maps["regions"][padding] == -1)
    assert np.all(drawn.maps["regions"][~padding] >= 0)
    assert np.all(drawn.image[padding] == (124, 116, 104))
    y0, x0, y1, x1, flip = drawn.box
    # A full side lies inside the image; a padded one reaches past it, away from its corner.
    assert y0 >= 0
    assert (y1 > 1 + 1e-6) == (h < view.crop)
    assert (x1 - x0 > 1 + 1e-6) == (w < view.crop)
    assert x1 <= 1 + 1e-6 if flip else x0 >= 0


@given(view=views, seed=seeds)
@settings(deadline=None, max_examples=30)
def test_a_view_is_a_function_of_its_generator(view, seed):
    image, maps = noise(31, 44), {"regions": numbered(31, 44)}
    first = view(image, maps, np.random.default_rng(seed))
    again = view(image, maps, np.random.default_rng(seed))
    alone = view(image, {}, np.random.default_rng(seed))
    for one, other in ((first, again), (first, alone)):
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.box, other.box)
    np.testing.assert_array_equal(first.maps["regions"], again.maps["regions"])
    out = np.full_like(first.image, 7)
    written = view(image, maps, np.random.default_rng(seed), out)
    assert written.image is out
    np.testing.assert_array_equal(out, first.image)


def test_draws_cover_what_they_should():
    view = geometry.TrainView(crop=10, scale=(0.5, 2.0))
    rng = np.random.default_rng(0)
    drawn = [view(noise(40, 40), {}, rng).box for _ in range(400)]
    y0, x0, y1, _, flip = np.array(drawn).T
    factors = 10 / 40 / (y1 - y0)
    assert 0.4 < flip.mean() < 0.6
    assert 0.5 <= factors.min() < 0.55
    assert 1.9 < factors.max() <= 2.0
    for corner in (y0, x0):
        assert corner.min() < 0.03
        assert corner.max() > 0.8
    assert not any(
        geometry.TrainView(10, flip=False)(noise(40, 40), {}, rng).box[4] for _ in "1234567"
    )


def test_last_row_and_column_can_be_drawn():
    view, rng = geometry.TrainView(crop=3, flip=False), np.random.default_rng(0)
    corners = {tuple(view(noise(4, 5), {}, rng).box[:2] * (4, 5) + 0.5) for _ in range(200)}
    assert {(int(y), int(x)) for y, x in corners} == {(y, x) for y in (0, 1) for x in (0, 1, 2)}


@given(view=views, shape=st.tuples(sides, sides), seed=seeds)
@settings(deadline=None, max_examples=100)
def test_centred_padding_is_zeros_around_the_same_view(view, shape, seed):
    image, maps = noise(*shape) // 2 + 100, {"regions": numbered(*shape)}
    corner = view(image, maps, np.random.default_rng(seed))
    view = dataclasses.replace(view, padding="centre")
    drawn = view(image, maps, np.random.default_rng(seed))
    (h, w), crop = corner.size, view.crop
    top, left = crop // 2 - h // 2, crop // 2 - w // 2  # IIC's rule
    inside = np.s_[top : top + h, left : left + w]
    np.testing.assert_array_equal(drawn.image[inside], corner.image[:h, :w])
    np.testing.assert_array_equal(drawn.maps["regions"][inside], corner.maps["regions"][:h, :w])
    outside = np.ones((crop, crop), bool)
    outside[inside] = False
    assert (drawn.image[outside] == 0).all()
    assert (drawn.maps["regions"][outside] == -1).all()
    assert tuple(drawn.size) == (crop, crop)
    # The box still points every pixel of the view at its pixel of the image.
    y, x = centres(drawn, crop)
    rows, columns = np.divmod(drawn.maps["regions"][inside], shape[1])
    assert np.abs(rows + 0.5 - y[top : top + h, None] * shape[0]).max() <= 0.5 + 1e-3
    assert np.abs(columns + 0.5 - x[None, left : left + w] * shape[1]).max() <= 0.5 + 1e-3
    beyond = (y[:, None] < 0) | (y[:, None] > 1) | (x[None] < 0) | (x[None] > 1)
    np.testing.assert_array_equal(beyond, outside)


@given(shape=st.tuples(sides, sides), resize=st.sampled_from([0, 16, 33]), seed=seeds)
@settings(deadline=None, max_examples=60)
def test_a_centre_view_is_the_centre_crop_of_a_test(shape, resize, seed):
    image, ids = noise(*shape), numbered(*shape)
    view = geometry.TrainView(crop=16, resize=resize, flip=False, position="centre")
    drawn = view(image, {"class": ids}, np.random.default_rng(seed))
    expected = geometry.EvalView(resize=resize, crop=16)(image, {"class": ids})
    h, w = expected.size
    assert tuple(drawn.size) == (h, w)
    np.testing.assert_array_equal(drawn.image[:h, :w], expected.image[:h, :w])
    np.testing.assert_array_equal(drawn.maps["class"], expected.label["class"])


def test_four_channels_are_padded_with_the_middle_of_infrared():
    drawn = geometry.TrainView(crop=12)(noise(8, 8, 4), {}, np.random.default_rng(0))
    assert drawn.image.shape == (12, 12, 4)
    assert tuple(drawn.image[-1, -1]) == (124, 116, 104, 128)


@given(
    shape=st.tuples(sides, sides),
    resize=st.sampled_from([0, 16, 33]),
    multiple=st.sampled_from([0, 8, 32]),
)
@settings(deadline=None, max_examples=60)
def test_eval_view_pads_to_multiples(shape, resize, multiple):
    view = geometry.EvalView(resize=resize, pad_multiple=multiple, interpolation="nearest")
    image = noise(*shape)
    got, label, size = view(image, {"class": numbered(*shape)})
    h, w = size
    assert (h, w) == geometry.shorter_side(shape, resize)
    for padded, side in zip(got.shape[:2], (h, w), strict=True):
        assert padded == (-(-side // multiple) * multiple if multiple else side)
    ids = label["class"]
    assert ids.shape == got.shape[:2]
    np.testing.assert_array_equal(got[:h, :w], image.reshape(-1, 3)[ids[:h, :w]])
    assert np.all(ids[h:] == -1)
    assert np.all(ids[:, w:] == -1)
    assert np.all(got[h:] == got[h - 1])
    assert np.all(got[:, w:] == got[:, w - 1 : w])


@given(shape=st.tuples(sides, sides), resize=st.sampled_from([0, 16, 33]))
@settings(deadline=None, max_examples=60)
def test_eval_view_crops_the_centre(shape, resize):
    view = geometry.EvalView(resize=resize, crop=16)
    image, ids = noise(*shape), numbered(*shape)
    got, label, size = view(image, {"class": ids, "part": ids // 2})
    full = geometry.shorter_side(shape, resize)
    h, w = min(full[0], 16), min(full[1], 16)
    y, x = max(0, round((full[0] - 16) / 2)), max(0, round((full[1] - 16) / 2))
    assert tuple(size) == (h, w)
    assert got.shape == (16, 16, 3)
    assert_close(got[:h, :w], geometry.resize(image, *full)[y : y + h, x : x + w])
    expected = geometry.resize(ids, *full, "nearest")[y : y + h, x : x + w]
    np.testing.assert_array_equal(label["class"][:h, :w], expected)
    np.testing.assert_array_equal(label["part"][:h, :w], expected // 2)
    assert np.all(label["class"][h:] == -1)
    assert np.all(label["class"][:, w:] == -1)


@given(
    shape=st.tuples(sides, sides),
    scale=st.sampled_from([0.33, 0.5, 1.7]),
    interpolation=methods,
)
@settings(deadline=None, max_examples=60)
def test_eval_view_scales_and_pads_around_the_centre(shape, scale, interpolation):
    view = geometry.EvalView(scale=scale, crop=16, interpolation=interpolation, padding="centre")
    image, ids = noise(*shape), numbered(*shape)
    got, label, size = view(image, {"class": ids})
    full = tuple(max(1, int(side * scale + 0.5)) for side in shape)
    h, w = min(full[0], 16), min(full[1], 16)
    y, x = max(0, round((full[0] - 16) / 2)), max(0, round((full[1] - 16) / 2))
    inside = np.s_[8 - h // 2 : 8 - h // 2 + h, 8 - w // 2 : 8 - w // 2 + w]
    expected = np.zeros((16, 16, 3), np.uint8)
    expected[inside] = geometry.resize(image, *full, interpolation)[y : y + h, x : x + w]
    assert_close(got, expected)
    marked = np.full((16, 16), -1)
    marked[inside] = geometry.resize(ids, *full, "nearest")[y : y + h, x : x + w]
    np.testing.assert_array_equal(label["class"], marked)
    assert tuple(size) == (16, 16)


@pytest.mark.parametrize(
    ("fields", "whole"),
    [
        ({}, True),
        ({"resize": 8, "pad_multiple": 8}, True),
        ({"resize": 8, "crop": 8, "side": "longer"}, True),
        ({"resize": 9, "crop": 8, "side": "longer"}, False),
        ({"resize": 8, "crop": 8, "side": "longer", "scale": 1.5}, False),
        ({"resize": 8, "crop": 8, "side": "longer", "padding": "centre"}, False),
        ({"resize": 8, "crop": 8}, False),
        ({"crop": 8, "side": "longer"}, False),
    ],
)
def test_whether_an_eval_view_shows_the_whole_image(fields, whole):
    assert geometry.EvalView(**fields).shows_whole == whole


def test_eval_view_of_the_longer_side_pads_to_a_square():
    image = noise(30, 50)
    got, label, size = geometry.EvalView(resize=64, side="longer", crop=64)(
        image, {"class": numbered(30, 50)}
    )
    assert tuple(size) == (38, 64)
    np.testing.assert_array_equal(got[:38], geometry.resize(image, 38, 64))
    assert (got[38:] == got[37]).all()
    assert (label["class"][38:] == -1).all()
