"""Image and label files of every kind, sound and damaged."""

import os
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from jaxseg.core import UserError
from jaxseg.data.images import (
    Unreadable,
    check_header,
    check_headers,
    find_files,
    read_image,
    read_label,
)

ORIENTATION = 274


@pytest.fixture
def colours():
    """An image u8[8 12 3] of which no two rows, columns or channels agree."""
    return np.random.default_rng(0).integers(0, 256, (8, 12, 3), np.uint8)


def save(path, array, **options):
    Image.fromarray(array).save(path, **options)
    return path


def write_png(path, width, height, bits, kind, rows):
    """Writes a PNG by hand: any declared size, grey (kind 0) of few bits, any compressed rows."""

    def chunk(name, body):
        check = struct.pack(">I", zlib.crc32(name + body))
        return struct.pack(">I", len(body)) + name + body + check

    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    return path


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.png", {}),
        ("a.tif", {}),
        ("a.TIFF", {"compression": "tiff_lzw"}),
        ("a.webp", {"lossless": True}),
        ("a.bmp", {}),
    ],
)
def test_lossless_files_give_their_pixels(tmp_path, colours, name, options):
    path = save(tmp_path / name, colours, **options)
    image = read_image(path)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, colours)
    assert check_header(path) == (8, 12)


def test_jpeg_is_close(tmp_path):
    ramp = np.repeat(np.arange(0, 240, 8, dtype=np.uint8)[None, :, None], 16, 0).repeat(3, 2)
    image = read_image(save(tmp_path / "a.jpg", ramp, quality=95))
    assert image.shape == ramp.shape
    assert np.abs(image.astype(int) - ramp).max() <= 4


def test_grey_is_repeated(tmp_path, colours):
    image = read_image(save(tmp_path / "a.png", colours[:, :, 0]))
    np.testing.assert_array_equal(image, np.repeat(colours[:, :, :1], 3, 2))


def test_one_bit_is_black_and_white(tmp_path):
    bits = np.array([[True, False], [False, False]])
    image = read_image(save(tmp_path / "a.png", bits))
    np.testing.assert_array_equal(image[:, :, 1], bits * 255)


def test_16_bit_grey_is_scaled_by_its_full_range(tmp_path):
    values = np.array([[0, 128, 129, 257], [32768, 65278, 65407, 65535]], np.uint16)
    for name in ("a.png", "a.tif"):
        image = read_image(save(tmp_path / name, values))
        expected = np.round(values / 65535 * 255)
        np.testing.assert_array_equal(image, np.repeat(expected[:, :, None], 3, 2))


def test_16_bit_colour_keeps_its_high_byte(tmp_path):
    values = np.random.default_rng(0).integers(0, 65536, (5, 7, 3), np.uint16)
    values[0, :2] = [[255, 256, 511], [65279, 65280, 65535]]
    assert cv2.imwrite(str(tmp_path / "a.png"), values[:, :, ::-1])
    data = (tmp_path / "a.png").read_bytes()
    assert (data[24], data[25]) == (16, 2)  # bits a sample, and that it is in colour
    image = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(image, (values >> 8).astype(np.uint8), strict=True)
    assert check_header(tmp_path / "a.png") == (5, 7)


def test_palette_gives_its_colours_and_drops_transparency(tmp_path):
    picture = Image.fromarray(np.array([[0, 1], [1, 2]], np.uint8), "P")
    picture.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    picture.save(tmp_path / "a.png", transparency=bytes([0, 128, 255]))
    image = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(image[:, :, 0], [[10, 40], [40, 70]])
    np.testing.assert_array_equal(image[0, 0], [10, 20, 30])


def test_rgba_drops_alpha_without_compositing(tmp_path, colours):
    alpha = np.zeros((8, 12, 1), np.uint8)
    path = save(tmp_path / "a.png", np.concatenate([colours, alpha], 2))
    np.testing.assert_array_equal(read_image(path), colours)


def test_cmyk_becomes_rgb(tmp_path):
    picture = Image.new("CMYK", (4, 4), (0, 255, 255, 0))
    picture.save(tmp_path / "a.jpg", quality=100)
    red, green, blue = read_image(tmp_path / "a.jpg")[1, 1]
    assert red > 245
    assert green < 10
    assert blue < 10


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.tif"])
@pytest.mark.parametrize(
    ("orientation", "turn"),
    [
        (1, lambda a: a),
        (2, lambda a: a[:, ::-1]),
        (3, lambda a: a[::-1, ::-1]),
        (6, lambda a: np.rot90(a, -1)),
        (8, lambda a: np.rot90(a)),
    ],
)
def test_exif_orientation_is_applied(tmp_path, name, orientation, turn):
    stored = np.zeros((16, 32, 3), np.uint8)
    stored[:8, :8] = 255  # a mark in the top-left corner
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = save(tmp_path / name, stored, exif=exif)
    image = read_image(path)
    assert image.shape == turn(stored).shape
    assert np.abs(image.astype(int) - turn(stored)).mean() < 8
    assert check_header(path) == image.shape[:2]


def test_malformed_exif_does_not_matter(tmp_path):
    grey = np.full((4, 6, 3), 90, np.uint8)
    path = save(tmp_path / "a.jpg", grey, exif=b"Exif\x00\x00no tiff header here")
    assert read_image(path).shape == (4, 6, 3)
    assert check_header(path) == (4, 6)


def test_four_channels_are_the_stored_bands(tmp_path, colours):
    bands = np.concatenate([colours, colours[:, :, :1] // 2], 2)
    for name in ("a.png", "a.tif"):
        np.testing.assert_array_equal(read_image(save(tmp_path / name, bands), 4), bands)


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_a_fourth_band_of_unstated_meaning_is_kept(tmp_path, compression):
    # As in aerial TIFFs with infrared: ExtraSamples = 0, of which Pillow drops the fourth band.
    bands = np.random.default_rng(0).integers(0, 256, (20, 30, 4), np.uint8)
    picture = Image.frombuffer("RGBX", (30, 20), bands.tobytes(), "raw", "RGBX", 0, 1)
    path = tmp_path / "ä.tif"
    picture.save(path, compression=compression)
    with Image.open(path) as image:
        assert image.tag_v2[338] == (0,)
    np.testing.assert_array_equal(read_image(path, channels=4), bands)
    np.testing.assert_array_equal(read_image(path, channels=3), bands[:, :, :3])
    if compression is None:
        path.write_bytes(path.read_bytes()[:1000])
        with pytest.raises(Unreadable, match=r"\.tif: "):
            read_image(path, channels=4)


def test_four_channels_of_a_three_band_file_is_an_error(tmp_path, colours):
    path = save(tmp_path / "a.png", colours)
    with pytest.raises(Unreadable, match=r"a\.png as four channels: found mode RGB with 3 bands"):
        read_image(path, 4)
    with pytest.raises(ValueError, match="got 2"):
        read_image(path, 2)


def test_premultiplied_fourth_band_is_refused(tmp_path, colours):
    bands = np.concatenate([colours, colours[:, :, :1]], 2)
    path = save(tmp_path / "a.tif", bands)
    # Tag ExtraSamples (338), one short: Pillow writes 2, plain alpha; 1 is premultiplied.
    plain, premultiplied = (struct.pack("<HHII", 338, 3, 1, value) for value in (2, 1))
    assert plain in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(plain, premultiplied))
    with pytest.raises(Unreadable, match="premultiplied alpha"):
        read_image(path, 4)


@pytest.mark.parametrize(
    ("values", "found"),
    [(np.array([[0.5]], np.float32), "floating-point"), (np.array([[70000]], np.int32), "70000")],
)
def test_pixels_without_a_known_range_are_refused(tmp_path, values, found):
    with pytest.raises(Unreadable, match=rf"a\.tif.*{found}.*8 or 16 bits"):
        read_image(save(tmp_path / "a.tif", values))


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif"])
@pytest.mark.parametrize("part", [0.5, 0.9])
def test_truncated_files_are_found_by_header_and_by_decoding(tmp_path, name, part):
    noise = np.random.default_rng(1).integers(0, 256, (120, 160, 3), np.uint8)
    path = save(tmp_path / name, noise)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    for read in (check_header, read_image):
        with pytest.raises(Unreadable, match=rf"{name}: .*"):
            read(path)


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_sound_files_are_not_decoded_by_the_header_check(tmp_path, colours, name, monkeypatch):
    path = save(tmp_path / name, colours)

    def load(self):
        raise AssertionError("decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    assert check_header(path) == (8, 12)


def test_data_appended_to_a_jpeg_is_not_truncation(tmp_path, colours):
    path = save(tmp_path / "a.jpg", colours)
    path.write_bytes(path.read_bytes() + bytes(100_000))
    assert check_header(path) == (8, 12)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "0 bytes"), (b"<html>not found</html>", "not an image"), (None, "no such file")],
)
@pytest.mark.parametrize("read", [check_header, read_image, read_label])
def test_what_is_no_image_is_named(tmp_path, content, reason, read):
    path = tmp_path / "straße.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(Unreadable, match=rf"straße\.jpg: .*{reason}"):
        read(path)


def test_large_aerial_images_pass_and_absurd_ones_do_not(tmp_path, recwarn):
    # 400 million pixels, more than twice Pillow's own limit.
    big = write_png(tmp_path / "big.png", 20_000, 20_000, 8, 2, b"")
    assert check_header(big) == (20_000, 20_000)
    assert not recwarn.list
    for side in (30_000, 200_000):
        with pytest.raises(Unreadable, match=r"bomb\.png: too large.*Cut it into tiles"):
            check_header(write_png(tmp_path / "bomb.png", side, side, 8, 2, b""))


def test_check_headers_keeps_the_order(tmp_path, colours):
    paths = []
    for index in range(600):
        paths.append(str(tmp_path / f"{index}.png"))
        if index in (0, 300, 599):
            open(paths[-1], "wb").close()
        else:
            save(paths[-1], np.zeros((1 + index % 7, 2), np.uint8))
    found = check_headers(paths)
    for index, size in enumerate(found):
        if index in (0, 300, 599):
            assert isinstance(size, Unreadable)
            assert f"{index}.png" in str(size)
        else:
            assert size == (1 + index % 7, 2)


def test_indexed_label_gives_indices_not_colours(tmp_path):
    ids = np.array([[0, 1], [2, 255]], np.uint8)
    picture = Image.fromarray(ids, "P")
    picture.putpalette(list(range(255, -1, -1)) * 3)
    picture.save(tmp_path / "a.png")
    label = read_label(tmp_path / "a.png", classes=3, ignore=(255,))
    assert label.dtype == np.int32
    np.testing.assert_array_equal(label, [[0, 1], [2, -1]])
    np.testing.assert_array_equal(read_label(tmp_path / "a.png"), ids)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_label_gives_values(tmp_path, dtype):
    ids = np.array([[0, 7], [200, 3]], dtype) * (np.iinfo(dtype).max // 255)
    np.testing.assert_array_equal(read_label(save(tmp_path / "a.png", ids)), ids)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_labels_of_few_bits_keep_their_ids(tmp_path, bits):
    row = np.arange(8) % 2**bits
    packed = np.packbits(((row[:, None] >> np.arange(bits)[::-1]) & 1).astype(np.uint8).ravel())
    write_png(tmp_path / "a.png", 8, 1, bits, 0, b"\x00" + packed.tobytes())
    np.testing.assert_array_equal(read_label(tmp_path / "a.png"), row[None])


@pytest.mark.parametrize(("name", "mode"), [("a.png", "RGB"), ("a.png", "RGBA"), ("a.jpg", "L")])
def test_colour_and_lossy_labels_are_refused(tmp_path, name, mode):
    Image.new(mode, (4, 4)).save(tmp_path / name)
    with pytest.raises(UserError, match=rf"{name} is a .* of mode {mode}; expected an indexed"):
        read_label(tmp_path / name)


def test_label_value_outside_the_classes_is_named(tmp_path):
    path = save(tmp_path / "a.png", np.array([[0, 1], [9, 9]], np.uint8))
    with pytest.raises(UserError, match=r"a\.png holds the value 9, in 2 pixels; expected 0 to 4"):
        read_label(path, classes=5, ignore=(255,))
    np.testing.assert_array_equal(read_label(path, classes=5, ignore=(9,)), [[0, 1], [-1, -1]])


def test_find_files_follows_links_and_ends_loops(tmp_path):
    root, other = tmp_path / "root", tmp_path / "other"
    (root / "b").mkdir(parents=True)
    other.mkdir()
    for path in (root / "b" / "2.PNG", root / "1.jpg", other / "3.webp", root / ".hidden.png"):
        path.touch()
    (root / "b" / "up").symlink_to(root, target_is_directory=True)
    (root / "c").symlink_to(other, target_is_directory=True)
    (other / "again").symlink_to(other, target_is_directory=True)
    (root / "self.png").symlink_to(root / "self.png")
    (root / "notes.txt").touch()
    assert find_files(root) == ["1.jpg", "b/2.PNG", "c/3.webp", "self.png"]
    assert find_files(root, leave=[os.fspath(other)]) == ["1.jpg", "b/2.PNG", "self.png"]


def test_find_files_names_a_folder_without_permission(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UserError, match=f"cannot list {tmp_path}: Permission denied"):
        find_files(tmp_path)
