"""Decoding the plain kinds of photographs with OpenCV, which is faster than Pillow.

Plain are JPEGs in colour or grey, and PNGs in colour of 8 bits without metadata that could change
them. Here OpenCV and Pillow agree to the bit while both are built on one version of libjpeg-turbo,
as in constraints.txt; otherwise pixels of a JPEG may differ by a grey level.
"""

import contextlib
import struct

import cv2
import numpy as np
from PIL import ImageFile

# Chunks of a PNG that may state an orientation, a transparent colour or an animation.
_PNG_SPECIAL = (b"eXIf", b"iTXt", b"tEXt", b"zTXt", b"tRNS", b"acTL")
# By EXIF orientation, what to do to the stored pixels: transpose, reverse rows, reverse columns.
_TURNS = {
    2: (False, False, True), 3: (False, True, True), 4: (False, True, False),
    5: (True, False, False), 6: (True, False, True), 7: (True, True, True), 8: (True, True, False),
}  # fmt: skip
_EXIF_ORIENTATION = 274


def decode_plain(image: ImageFile.ImageFile, upright: bool = True) -> np.ndarray | None:
    """Returns the pixels u8[H W 3] of a file that Pillow has opened.

    With `upright`, the EXIF orientation is applied. None = the file is damaged or of another kind,
    and Pillow is to decide; it can still be read.
    """
    if image.format not in ("JPEG", "MPO", "PNG") or image.mode not in ("RGB", "RGBA", "L"):
        return None
    assert image.fp is not None, "Pillow keeps the file until the pixels are read"
    file = image.fp
    place = file.tell()
    file.seek(0)
    data = file.read()
    file.seek(place)
    if image.format == "PNG" and not _is_plain_png(data):
        return None
    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        return None
    if pixels is None or pixels.shape != (image.height, image.width, 3):
        return None
    orientation = 1
    if upright and image.format != "PNG":
        with contextlib.suppress(Exception):
            orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
    if orientation in _TURNS:
        transpose, rows, columns = _TURNS[orientation]
        pixels = pixels.transpose(1, 0, 2) if transpose else pixels
        pixels = np.ascontiguousarray(pixels[:: -1 if rows else 1, :: -1 if columns else 1])
    return pixels


def _is_plain_png(data: bytes) -> bool:
    """Tells whether a PNG has 8-bit colours, all its chunks, and none that changes its meaning."""
    bits, kind = data[24:26]
    if bits != 8 or kind not in (2, 6):
        return False
    start = 8
    while start + 12 <= len(data):
        length, name = struct.unpack_from(">I4s", data, start)
        if name == b"IEND":
            return True
        if name in _PNG_SPECIAL:
            return False
        start += 12 + length
    return False
