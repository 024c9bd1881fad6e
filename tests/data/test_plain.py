"""Decoding plain files: the pixels are Pillow's, and whatever is not plain is left to Pillow."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from jaxseg.data import images
from jaxseg.data.images import MAX_PIXELS, decode_image, read_image
from jaxseg.data.plain import decode_plain

ORIENTATION = 274


def noise(*shape, dtype=np.uint8):
    # Smooth enough that JPEG's chroma planes matter, rough enough that no two pixels agree.
    rng = np.random.default_rng(0)
    return (rng.integers(0, 64, shape) + np.linspace(0, 180, shape[1])[:, None]).astype(dtype)


def encode(picture, kind, **options):
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def plain(data, **options):
    return decode_plain(data, MAX_PIXELS, **options)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {"quality": 75}),
        ("JPEG", {"quality": 90, "subsampling": 0}),
        ("JPEG", {"progressive": True, "subsampling": 1}),
        ("JPEG", {"keep_rgb": True}),
        ("PNG", {}),
    ],
)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pixels_are_pillows(kind, options, orientation):
    picture = Image.fromarray(noise(37, 51, 3))
    if kind == "JPEG":
        options = options | {"exif": Image.Exif()}
        options["exif"][ORIENTATION] = orientation
    data = encode(picture, kind, **options)
    pixels = plain(data)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    np.testing.assert_array_equal(pixels, expected)
    assert pixels.flags.c_contiguous
    np.testing.assert_array_equal(decode_image(data, "a"), pixels)
    stored = Image.open(io.BytesIO(data)).convert("RGB")
    np.testing.assert_array_equal(plain(data, upright=False), stored)


@pytest.mark.parametrize("factor", ["411", "420", "422", "440", "444"])
@pytest.mark.parametrize("restart", [0, 3])
def test_chroma_of_every_sampling_is_pillows(factor, restart):
    sampling = getattr(cv2, f"IMWRITE_JPEG_SAMPLING_FACTOR_{factor}")
    flags = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling, cv2.IMWRITE_JPEG_RST_INTERVAL, restart]
    data = cv2.imencode(".jpg", noise(37, 51, 3), flags)[1].tobytes()
    np.testing.assert_array_equal(plain(data), Image.open(io.BytesIO(data)))


def test_grey_jpeg_and_rgba_png():
    data = encode(Image.fromarray(noise(20, 30, 1)[:, :, 0]), "JPEG")
    np.testing.assert_array_equal(plain(data), Image.open(io.BytesIO(data)).convert("RGB"))
    bands = np.random.default_rng(1).integers(0, 256, (20, 30, 4), np.uint8)
    np.testing.assert_array_equal(plain(encode(Image.fromarray(bands), "PNG")), bands[:, :, :3])


def oriented_png():
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    return encode(Image.fromarray(noise(8, 12, 3)), "PNG", exif=exif)


def animated_png():
    frames = [Image.fromarray(noise(8, 12, 3) + shift) for shift in (0, 9)]
    return encode(frames[0], "PNG", save_all=True, append_images=frames[1:])


def cut(data, part=0.6):
    return data[: int(len(data) * part)]


@pytest.mark.parametrize(
    "data",
    [
        encode(Image.new("CMYK", (12, 8)), "JPEG"),
        encode(Image.new("P", (12, 8)), "PNG"),
        encode(Image.new("L", (12, 8)), "PNG"),
        encode(Image.fromarray(noise(8, 12, 1, dtype=np.uint16)[:, :, 0]), "PNG"),
        encode(Image.fromarray(noise(8, 12, 3)), "WEBP"),
        oriented_png(),
        animated_png(),
        cut(encode(Image.fromarray(noise(80, 120, 3)), "JPEG")),
        cut(encode(Image.fromarray(noise(80, 120, 3)), "PNG")),
        encode(Image.fromarray(noise(80, 120, 3)), "PNG")[:-12],
    ],
    ids=("cmyk", "palette", "grey", "16-bit", "webp", "oriented", "animated", "cut jpeg",
         "cut png", "no end"),
)  # fmt: skip
def test_what_is_not_plain_is_left_to_pillow(data):
    assert plain(data) is None


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_every_cut_and_many_damages_end_in_pixels_or_none(kind):
    data = encode(Image.fromarray(noise(16, 24, 3)), kind)
    assert plain(data).shape == (16, 24, 3)
    for length in range(len(data) - 20):
        assert plain(data[:length]) is None
    rng = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(data)
        damaged[rng.integers(8, len(data))] = rng.integers(256)
        pixels = plain(bytes(damaged))
        assert pixels is None or (pixels.dtype == np.uint8 and pixels.ndim == 3)


def test_images_above_the_limit_are_left_to_pillow():
    data = encode(Image.fromarray(noise(16, 24, 3)), "JPEG")
    assert decode_plain(data, 16 * 24 - 1) is None
    assert decode_plain(data, 16 * 24) is not None


def test_what_libjpeg_warns_of_is_left_to_pillow():
    data = cv2.imencode(".jpg", noise(80, 120, 3), [cv2.IMWRITE_JPEG_RST_INTERVAL, 2])[1].tobytes()
    spoilt = data.replace(b"\xff\xd1", b"\xff\xd0", 1)  # a marker out of order
    assert plain(data) is not None
    assert plain(spoilt) is None
    np.testing.assert_array_equal(decode_image(spoilt, "a"), Image.open(io.BytesIO(spoilt)))


def test_fill_bytes_before_a_marker():
    data = encode(Image.fromarray(noise(16, 24, 3)), "JPEG")
    np.testing.assert_array_equal(plain(data[:2] + b"\xff" * 5 + data[2:]), plain(data))


@pytest.mark.parametrize("shift", [-1, 0, 1])
def test_files_of_any_length_are_read_as_a_whole(tmp_path, monkeypatch, shift):
    data = encode(Image.fromarray(noise(16, 24, 3)), "JPEG")
    (tmp_path / "a.jpg").write_bytes(data)
    monkeypatch.setattr(images, "_AT_ONCE", len(data) + shift)
    assert images._plain_bytes(tmp_path / "a.jpg") == data


def test_real_photographs(real_data):
    for path in sorted(real_data("coco_stuff").glob("images/**/*.jpg")):
        with Image.open(path) as image:
            expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
        pixels = read_image(path)
        np.testing.assert_array_equal(pixels, expected)
        np.testing.assert_array_equal(decode_image(path.read_bytes(), path.name), pixels)
