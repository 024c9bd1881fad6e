"""The record of a packed example: what goes in comes out."""

import io
import json
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from jaxseg.core import UserError
from jaxseg.data.images import Unreadable
from jaxseg.data.records import decode_example, encode_example
from jaxseg.data.source import Example


def picture(channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (6, 7, channels), np.uint8)


def assert_equal(a, b):
    assert (a.name, sorted(a.label)) == (b.name, sorted(b.label))
    np.testing.assert_array_equal(a.image, b.image, strict=True)
    for kind in a.label:
        np.testing.assert_array_equal(a.label[kind], b.label[kind], strict=True)
    assert (a.regions is None) == (b.regions is None)
    if a.regions is not None:
        np.testing.assert_array_equal(a.regions, b.regions, strict=True)


MAPS = st.sampled_from([254, 255, 65534, 65535, 2**31 - 1]).flatmap(
    lambda highest: arrays.arrays(
        np.int32, (6, 7), elements=st.integers(-1, highest), fill=st.just(highest)
    )
)


@settings(max_examples=50, deadline=None)
@given(MAPS, st.none() | MAPS, st.text(max_size=5), st.sampled_from([3, 4]), st.booleans())
def test_any_example_comes_back(label, regions, name, channels, decoded):
    example = Example(picture(channels), {"class": label, "part": label[::-1]}, regions, name)
    record = encode_example(example, None, channels, decoded)
    assert_equal(decode_example(record, channels), example)


@pytest.mark.parametrize("value", [-1, 254, 255, 65534, 65535, 2**31 - 1])
def test_maps_at_the_borders_of_their_encodings(value):
    example = Example(picture(), {"class": np.full((6, 7), value, np.int32)}, name="\udcff.png")
    assert_equal(decode_example(encode_example(example, None, 3), 3), example)


def jpeg(image):
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG")
    return stream.getvalue()


def test_a_file_is_kept_as_it_is():
    data = jpeg(picture())
    decoded = np.asarray(Image.open(io.BytesIO(data)))
    record = encode_example(Example(decoded, name="a.jpg"), data, 3)
    assert data in record
    assert_equal(decode_example(record, 3), Example(decoded, name="a.jpg"))


@pytest.mark.parametrize("data", [jpeg(picture(seed=1)), b"", b"no image"])
def test_a_file_that_does_not_give_the_image_is_not_kept(data):
    example = Example(picture(), name="a.jpg")
    record = encode_example(example, data, 3)
    assert not data or data not in record
    assert_equal(decode_example(record, 3), example)


def test_labels_can_be_left_out():
    example = Example(picture(), {"class": np.zeros((6, 7), np.int32)}, np.zeros((6, 7), np.int32))
    found = decode_example(encode_example(example, None, 3), 3, labels=False)
    assert found.label == {}
    assert found.regions is not None


def test_values_below_ignored_are_refused():
    example = Example(picture(), {"part": np.full((6, 7), -2, np.int32)}, name="street/ä.jpg")
    with pytest.raises(UserError, match=r"label/part of street/ä\.jpg holds the value -2"):
        encode_example(example, None, 3)


def test_the_format_is_the_one_that_is_written_down():
    label = np.array([[-1, 4]], np.int32)
    record = encode_example(Example(picture()[:1, :2], {"class": label}, name="a"), None, 3)
    (length,) = struct.unpack_from("<I", record)
    header = json.loads(record[4 : 4 + length])
    assert header["name"] == "a"
    (_, coding, size), (what, map_coding, map_size) = header["blobs"]
    assert (coding, what, map_coding) == ("png", "label/class", "png8")
    blobs = record[4 + length :]
    assert len(blobs) == size + map_size
    np.testing.assert_array_equal(Image.open(io.BytesIO(blobs[:size])), picture()[:1, :2])
    np.testing.assert_array_equal(Image.open(io.BytesIO(blobs[size:])), [[0, 5]])


@pytest.mark.parametrize("damage", [lambda r: r[:3], lambda r: r[:40], lambda r: r[:-30]])
def test_a_damaged_record_is_named(damage):
    example = Example(picture(), {"class": np.zeros((6, 7), np.int32)}, name="a.jpg")
    with pytest.raises(Unreadable, match=r"the packed record of '.*' is damaged"):
        decode_example(damage(encode_example(example, None, 3)), 3)
