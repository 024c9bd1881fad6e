"""The record of one packed example: how an `Example` lies in a shard, as bytes.

    u32, little-endian     length of the header
    header                 UTF-8 JSON: {"name": NAME, "blobs": [[what, coding, length], ...]}
    blobs                  one after the other, in the order of the header

`what` is "image", "regions" or "label/KIND". `coding` of an image is "file", the bytes of an image
file as they were found, or "file, unturned" where its EXIF orientation is not to be applied, or
"png", pixels that were no file's, or "pixels H W Ch", the bytes of the decoded image. Maps are
PNGs of value + 1, so that -1 (ignored) is 0: "png8" and "png16" are grey, "png32" has the four
bytes of a u32, lowest first, in the four channels.
"""

import json
import struct

import cv2
import numpy as np

from jaxseg.core import UserError
from jaxseg.data.images import Unreadable, decode_image
from jaxseg.data.source import Example

_LENGTH = struct.Struct("<I")
_LABEL = "label/"
_PIXELS = "pixels"
_FILES = {"file": True, "file, unturned": False}  # whether the EXIF orientation is applied


def encode_example(
    example: Example, stored: bytes | None, channels: int, decoded: bool = False
) -> bytes:
    """Returns the record of an example; `decode_example` gives the very same one back.

    `stored` is the image file that the image was read from, if it was; it is kept as it is where it
    decodes to the image, with `channels` as in `read_image`, and else the pixels are kept as PNG.
    With `decoded` the pixels are kept as they are: many times the bytes, and nothing to decode.

    Raises:
      UserError: a label or region map holds a value below -1.
    """
    if decoded:
        shape = " ".join(map(str, example.image.shape))
        blobs = [("image", f"{_PIXELS} {shape}", example.image.tobytes())]
    else:
        blobs = [_encode_image(example, stored, channels)]
    maps = {_LABEL + kind: label for kind, label in example.label.items()}
    if example.regions is not None:
        maps["regions"] = example.regions
    blobs += [(what, *_encode_map(array, what, example.name)) for what, array in maps.items()]
    # Names that are not UTF-8 hold lone surrogates, which JSON's escapes keep.
    header = json.dumps({"name": example.name, "blobs": [(w, c, len(b)) for w, c, b in blobs]})
    head = header.encode()
    return b"".join([_LENGTH.pack(len(head)), head, *(blob for _, _, blob in blobs)])


def decode_example(record: bytes, channels: int, labels: bool = True) -> Example:
    """Returns the example of a record; without `labels`, its label maps are left out, undecoded.

    Raises:
      Unreadable: the record is damaged.
    """
    name, image, label, regions = "?", None, {}, None
    try:
        view = memoryview(record)  # whose parts are no copies
        (length,) = _LENGTH.unpack_from(view)
        start = _LENGTH.size + length
        header = json.loads(str(view[_LENGTH.size : start], "utf-8"))
        name = header["name"]
        for what, coding, size in header["blobs"]:
            blob = view[start : start + size]
            start += size
            if what == "image":
                image = _decode_image(blob, coding, channels, name)
            elif what == "regions":
                regions = _decode_map(blob, coding)
            elif labels:
                label[what.removeprefix(_LABEL)] = _decode_map(blob, coding)
    except UserError:
        raise
    except Exception as error:
        raise Unreadable(f"the packed record of {name!r} is damaged: {error}") from error
    if image is None:
        raise Unreadable(f"the packed record of {name!r} is damaged: it holds no image")
    return Example(image=image, label=label, regions=regions, name=name)


def _encode_image(example: Example, stored: bytes | None, channels: int) -> tuple[str, str, bytes]:
    image = example.image
    for coding in _FILES:
        if stored is not None and _decodes_to(stored, coding, image, channels):
            return "image", coding, stored
    code = cv2.COLOR_RGB2BGR if image.shape[2] == 3 else cv2.COLOR_RGBA2BGRA
    return "image", "png", _png(cv2.cvtColor(image, code))


def _decodes_to(stored: bytes, coding: str, image: np.ndarray, channels: int) -> bool:
    try:
        return np.array_equal(_decode_image(stored, coding, channels, "image"), image)
    except Unreadable:
        return False


def _decode_image(blob: bytes | memoryview, coding: str, channels: int, name: str) -> np.ndarray:
    if coding in _FILES:
        return decode_image(blob, name, channels, upright=_FILES[coding])
    if coding.startswith(_PIXELS):
        shape = [int(side) for side in coding.split()[1:]]
        return np.frombuffer(blob, np.uint8).reshape(shape)
    pixels = _unpng(blob)
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB if channels == 3 else cv2.COLOR_BGRA2RGBA)


def _encode_map(array: np.ndarray, what: str, name: str) -> tuple[str, bytes]:
    lowest, highest = int(array.min(initial=0)), int(array.max(initial=0))
    if lowest < -1:
        raise UserError(
            f"{what} of {name} holds the value {lowest}; expected ids from 0, or -1 for ignored"
        )
    for coding, dtype in (("png8", np.uint8), ("png16", np.uint16)):
        if highest < np.iinfo(dtype).max:
            return coding, _png((array + 1).astype(dtype))
    shifted = (array.astype(np.int64) + 1).astype("<u4")
    return "png32", _png(np.ascontiguousarray(shifted).view(np.uint8).reshape(*array.shape, 4))


def _decode_map(blob: memoryview, coding: str) -> np.ndarray:
    stored = _unpng(blob)
    expected = {"png8": (np.uint8, 2), "png16": (np.uint16, 2), "png32": (np.uint8, 3)}[coding]
    if (stored.dtype, stored.ndim) != expected:
        raise ValueError(f"a map {coding} holds {stored.dtype} of shape {stored.shape}")
    if coding == "png32":
        # In u32, 0 - 1 is all ones, which i32 reads as -1.
        return (np.ascontiguousarray(stored).view("<u4")[..., 0] - np.uint32(1)).view(np.int32)
    array = stored.astype(np.int32)
    array -= 1
    return array


def _png(array: np.ndarray) -> bytes:
    done, data = cv2.imencode(".png", array)
    assert done, "OpenCV encodes any array of these types"
    return data.tobytes()


def _unpng(blob: bytes | memoryview) -> np.ndarray:
    stored = cv2.imdecode(np.frombuffer(blob, np.uint8), cv2.IMREAD_UNCHANGED)
    if stored is None:
        raise ValueError("a PNG of it cannot be decoded")
    return stored
