"""Finding image and label files, and reading them.

Pillow reads them, but for the pixels of plain JPEG and PNG files (see `plain`).

Conventions of the module. A path is `str` or `os.PathLike`; sizes are (height, width). Of a file
with several frames (multi-page TIFF, animated WebP) the first is read. `Unreadable` says that one
file cannot be decoded; a plain `UserError`, that a file was decoded and holds what it should not.
"""

import concurrent.futures
import contextlib
import io
import os
import struct
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from jaxseg.core import UserError
from jaxseg.data.plain import SIGNATURES, decode_plain

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff")

# Pillow warns of a "decompression bomb" at 89 million pixels and refuses twice that, which a large
# aerial mosaic passes easily. 2^29 pixels are about 23,000 x 23,000, or 1.6 GB as RGB: what fits in
# the memory of a reading worker. Larger files are refused with advice to tile them. Pillow's limit
# is global to the process, so it is only ever raised, and left alone where it was switched off.
MAX_PIXELS = 2**29
if Image.MAX_IMAGE_PIXELS is not None:
    Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, MAX_PIXELS)

_THREADS = 8  # header checks wait for the disk, not for the processor
_AT_ONCE = 1 << 20  # bytes read first: nearly every photograph as a whole
_CHUNK = 256  # files a task of the pool; a task a file would cost more memory than the paths
_TAIL = 4096  # bytes at the end of a file searched for its end marker; some writers pad after it
_EXIF_ORIENTATION = 274
_TIFF_BANDS = 277
_TIFF_EXTRA_SAMPLES = 338
_TIFF_PIECES = ((273, 279), (324, 325))  # offsets and byte counts, of strips and of tiles


class Unreadable(UserError):
    """One image or label file that is missing, damaged or of a kind that cannot be decoded."""


def find_files(
    folder: str, suffixes: tuple[str, ...] = SUFFIXES, leave: Sequence[str] = ()
) -> list[str]:
    """Returns the files of a tree that end in `suffixes` (lower case; the files' case is free).

    Paths are relative to `folder`, with "/" between the parts, and sorted, so that the order does
    not depend on the file system. Symbolic links are followed, except into a folder that is being
    listed already; a folder under two names is listed under both. Left out are names that start
    with "." and the folders in `leave`. Raises UserError if a folder cannot be listed.
    """
    return sorted(_scan(folder, suffixes, frozenset(map(_identity, leave)), ""))


def _identity(folder: str) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _scan(
    folder: str, suffixes: tuple[str, ...], above: frozenset[tuple[int, int]], prefix: str
) -> Iterator[str]:
    """Yields the files of a tree; a folder that is one of those `above` it ends a loop of links."""
    try:
        identity = _identity(folder)
        if identity in above:
            return
        with os.scandir(folder) as listing:
            entries = list(listing)
    except OSError as error:
        raise UserError(
            f"cannot list {folder}: {error.strerror}. Mend its permissions, or move it away"
        ) from error
    for entry in entries:
        if entry.name.startswith("."):
            continue
        # Of a link to itself, DirEntry.is_dir raises where isdir says no.
        if os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir():
            yield from _scan(entry.path, suffixes, above | {identity}, f"{prefix}{entry.name}/")
        elif entry.name.lower().endswith(suffixes):
            yield prefix + entry.name


def read_image(path: str | os.PathLike[str], channels: int = 3, upright: bool = True) -> np.ndarray:
    """Reads an image file into u8[H W Ch], the EXIF orientation applied.

    With `upright=False` the pixels are as stored, whatever the orientation.

    With `channels=3`, RGB in [0, 255]: grey is repeated; palettes, CMYK and YCbCr are converted;
    alpha is dropped, not composited. 16-bit grey is scaled by its full range (0..65535 -> 0..255,
    rounded); 16-bit colour is cut to its high byte by Pillow.
    With `channels=4`, the four stored bands as they are (red, green, blue, infrared).

    Raises:
      Unreadable: the file is missing, empty, truncated, too large (above `MAX_PIXELS`), not an
        image, in floating point, or has not four bands where four are asked for.
      ValueError: `channels` is neither 3 nor 4.
    """
    pixels = decode_plain(_plain_bytes(path), MAX_PIXELS, upright) if channels == 3 else None
    return _by_pillow(path, channels, upright) if pixels is None else pixels


def decode_image(
    data: bytes | memoryview, name: str, channels: int = 3, upright: bool = True
) -> np.ndarray:
    """Decodes the bytes of an image file as `read_image` does; `name` is for messages."""
    pixels = decode_plain(data, MAX_PIXELS, upright) if channels == 3 else None
    return _by_pillow(name, channels, upright, io.BytesIO(data)) if pixels is None else pixels


def _by_pillow(
    path: str | os.PathLike[str], channels: int, upright: bool, stream: BinaryIO | None = None
) -> np.ndarray:
    if channels not in (3, 4):
        raise ValueError(f"channels must be 3 (RGB) or 4 (RGB and infrared), got {channels}")
    with _opened(path, "image", stream) as image:
        if channels == 4:
            return _four_bands(image, path, upright)
        return _rgb(_loaded(image, upright), path)


def _plain_bytes(path: str | os.PathLike[str]) -> bytes:
    """Returns the file's bytes if it begins as a JPEG or PNG; what cannot be read has none."""
    # By the system's own calls, and no more of them than it takes: at each the reading threads hand
    # Python's lock over. A file object makes nine, which took 5 % of the time of small photographs.
    try:
        file = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    except OSError:
        return b""
    try:
        # Of what a slow disk hands over in pieces only the first is read, and Pillow reads again.
        data = os.read(file, _AT_ONCE)
        if not data.startswith(SIGNATURES):
            return b""
        return data if len(data) < _AT_ONCE else data + os.read(file, os.fstat(file).st_size)
    except OSError:
        return b""
    finally:
        os.close(file)


def from_pillow(image: Image.Image, channels: int = 3) -> np.ndarray:
    """Returns what `read_image` would of the file of a Pillow image, u8[H W channels].

    Raises:
      Unreadable: as `read_image`, but four channels have to be those of an RGBA image.
    """
    try:
        upright = ImageOps.exif_transpose(image)
    except Exception as error:  # Pillow decodes here
        raise Unreadable(f"cannot read the image: {type(error).__name__}: {error}") from error
    if channels == 4:
        return from_array(np.asarray(upright), channels)
    return _rgb(upright, "given as a Pillow image")


def from_array(array: np.ndarray, channels: int = 3) -> np.ndarray:
    """Returns an array u8 or u16 [H W] or [H W Ch] as an image u8[H W channels].

    With three channels grey is repeated and a fourth channel dropped, as in files. u16 is scaled by
    its full range. Raises UserError for any other array.
    """
    pixels = array[..., None] if array.ndim == 2 else array
    allowed = (1, 3, 4) if channels == 3 else (4,)
    if pixels.ndim != 3 or pixels.shape[2] not in allowed or 0 in pixels.shape:
        raise UserError(
            f"an array of shape {array.shape} is no image: expected [H W] or [H W Ch] with Ch in "
            f"{allowed}; give several images as a list"
        )
    if pixels.dtype == np.uint16:
        pixels = _eight_bits(pixels)
    if pixels.dtype != np.uint8:
        raise UserError(
            f"an array of {array.dtype} has no fixed range: expected uint8, 0 to 255, or uint16; "
            "convert it, such as by (255 * x).round().astype('uint8') from [0, 1]"
        )
    return pixels.repeat(3, axis=2) if pixels.shape[2] == 1 else pixels[..., :channels]


def _eight_bits(values: np.ndarray) -> np.ndarray:
    """Scales 0..65535 to u8, rounded: 65535 = 257 * 255, so half of 257 is added."""
    return ((values.astype(np.int64) + 128) // 257).astype(np.uint8)


def read_label(
    path: str | os.PathLike[str], classes: int | None = None, ignore: tuple[int, ...] = ()
) -> np.ndarray:
    """Reads a label map, an indexed or greyscale PNG, into i32[H W]: class ids, -1 = ignored.

    The value of a pixel is its class id: the palette index of an indexed PNG (the colours are only
    for viewing), the grey value of a 1 to 16-bit greyscale PNG. Values in `ignore` become -1; with
    `classes`, the others must lie in [0, classes). The map is taken as stored, without orientation.

    Raises:
      Unreadable: the file is missing, empty, truncated or not an image.
      UserError: the file is no PNG, is in colour, or holds a value outside the classes.
    """
    with _opened(path, "label") as image:
        if image.format != "PNG" or image.mode not in ("P", "L", "1", "I;16", "I;16B", "I"):
            raise UserError(
                f"label {_shown(path)} is a {image.format} of mode {image.mode}; expected an "
                'indexed (mode "P") or greyscale PNG of 8 or 16 bits whose pixel values are class '
                "ids. Convert its colours to class ids and save it as such a PNG"
            )
        # Pillow stretches 2 and 4-bit grey to 0..255, which would change the ids.
        stretch = {"L;2": 85, "L;4": 17}.get(str(image.tile[0][3]), 1)
        stored = np.asarray(image)
    # A table of all values: several times faster than testing every pixel.
    table = np.arange(256 if stored.itemsize == 1 else 65536, dtype=np.int32) // stretch
    table[np.isin(table, ignore)] = -1
    label = table.take(stored)
    if classes is not None and label.max() >= classes:
        value = int(label[label >= classes].min())
        also = f", or {', '.join(map(str, ignore))} (ignored)" if ignore else ""
        raise UserError(
            f"label {_shown(path)} holds the value {value}, in {int((label == value).sum())} "
            f"pixels; expected 0 to {classes - 1}{also}. Correct the label, name every class "
            "(data.class_names), or ignore the value (data.ignore)"
        )
    return label


def check_header(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Returns (height, width) as `read_image` would give them, without decoding a sound file.

    Reads the header, and the file's end for what shows that it is complete: the end-of-image marker
    of JPEG, the IEND chunk of PNG, the declared length of WebP, the last strip of TIFF. Only a file
    without it is decoded: some cameras append data, and then the pixels are all there. Damage in
    the middle of a file is not found, nor an orientation that a PNG states after its pixels.

    Raises:
      Unreadable: the file is missing, empty, truncated, too large or not an image.
    """
    with _opened(path, "image") as image:
        if not _looks_complete(image, path):
            image.load()
        height, width = image.height, image.width
        # Pillow's TIFF reader has swapped the sides already; its PNG reader would decode the file
        # to look for EXIF data behind the pixels.
        skip = image.format == "TIFF" or (image.format == "PNG" and "exif" not in image.info)
        with contextlib.suppress(Exception):
            if not skip and image.getexif().get(_EXIF_ORIENTATION, 1) in (5, 6, 7, 8):
                height, width = width, height
        return height, width


def check_headers(paths: Sequence[str]) -> list[tuple[int, int] | Unreadable]:
    """Runs `check_header` on many files in a small pool; returns each size, or what is wrong."""

    def check(start: int) -> list[tuple[int, int] | Unreadable]:
        results: list[tuple[int, int] | Unreadable] = []
        for path in paths[start : start + _CHUNK]:
            try:
                results.append(check_header(path))
            except Unreadable as error:
                results.append(error)
        return results

    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        return [one for chunk in pool.map(check, range(0, len(paths), _CHUNK)) for one in chunk]


@contextlib.contextmanager
def _opened(
    path: str | os.PathLike[str], what: str, stream: BinaryIO | None = None
) -> Iterator[ImageFile.ImageFile]:
    """Opens a file, or a stream, with Pillow; every failure inside becomes `Unreadable`."""
    try:
        with Image.open(path if stream is None else stream) as image:
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError(f"{image.width} x {image.height} pixels")
            yield image
    except UserError:
        raise
    except Exception as error:  # Pillow's decoders raise a dozen kinds for a damaged file
        reason = _reason(path, error, stream)
        raise Unreadable(f"cannot read {what} {_shown(path)}: {reason}") from error


def _reason(path: str | os.PathLike[str], error: Exception, stream: BinaryIO | None) -> str:
    """Says in a user's terms why a file cannot be read."""
    if isinstance(error, FileNotFoundError):
        return "no such file (or a link to nothing)"
    if isinstance(error, PermissionError):
        return "no permission to read it"
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return f"too large ({error}); the limit is {MAX_PIXELS} pixels. Cut it into tiles"
    if isinstance(error, UnidentifiedImageError):
        with open(path, "rb") if stream is None else stream as file:
            file.seek(0)
            start = file.read(8)
        if not start:
            return "the file is empty (0 bytes)"
        return f"not an image, or its header is damaged (it starts with {start!r})"
    return f"damaged or truncated ({type(error).__name__}: {error})"


def _shown(path: str | os.PathLike[str]) -> str:
    """Returns a path that can be printed: names that are not UTF-8 hold lone surrogates."""
    return os.fspath(path).encode("utf-8", "backslashreplace").decode()


def _looks_complete(image: ImageFile.ImageFile, path: str | os.PathLike[str]) -> bool:
    """Tells from the file's end, or its declared length, whether all of it is there."""
    length = os.path.getsize(path)
    with open(path, "rb") as file:
        head = file.read(12)
        file.seek(max(0, length - _TAIL))
        tail = file.read()
    if image.format in ("JPEG", "MPO"):
        return b"\xff\xd9" in tail
    if image.format == "PNG":
        return b"IEND\xaeB`\x82" in tail
    if image.format == "WEBP":
        return struct.unpack("<I", head[4:8])[0] + 8 <= length
    if image.format == "TIFF":
        tags = image.tag_v2  # type: ignore[attr-defined]
        pieces = [(a, n) for at, size in _TIFF_PIECES for a, n in _pairs(tags, at, size)]
        return all(offset + count <= length for offset, count in pieces)
    return True


def _bands(image: ImageFile.ImageFile) -> int:
    """Returns how many bands a TIFF stores."""
    return image.tag_v2.get(_TIFF_BANDS, 1)  # type: ignore[attr-defined]


def _pairs(tags: dict[int, tuple[int, ...]], at: int, size: int) -> list[tuple[int, int]]:
    return list(zip(tags.get(at, ()), tags.get(size, ()), strict=False))


def _loaded(image: ImageFile.ImageFile, upright: bool) -> ImageFile.ImageFile:
    """Decodes an image and, if asked, turns it as its EXIF orientation says."""
    image.load()
    if upright:
        # Malformed EXIF is common in photographs and says nothing of the pixels.
        with contextlib.suppress(Exception):
            ImageOps.exif_transpose(image, in_place=True)
    return image


def _rgb(image: Image.Image, path: str | os.PathLike[str]) -> np.ndarray:
    """Converts a decoded image of any mode to u8[H W 3]."""
    if image.mode in ("I;16", "I;16L", "I;16B", "I;16N", "I"):
        grey = np.asarray(image).astype(np.int64)
        if grey.min() < 0 or grey.max() > 65535:
            raise Unreadable(
                f"cannot read image {_shown(path)}: its values go from {grey.min()} to "
                f"{grey.max()}; expected 0 to 65535. Rescale it and save it with 8 or 16 bits"
            )
        return np.repeat(_eight_bits(grey)[:, :, None], 3, axis=2)
    if image.mode == "F":
        raise Unreadable(
            f"cannot read image {_shown(path)}: floating-point pixels have no fixed range; "
            "expected 8 or 16 bits. Rescale it and save it with 8 or 16 bits"
        )
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow warns when it drops a palette's alpha in one go
    if image.mode != "RGB":
        image = image.convert("RGB")
    return np.asarray(image)


def _four_bands(
    image: ImageFile.ImageFile, path: str | os.PathLike[str], upright: bool
) -> np.ndarray:
    """Returns the four stored bands of a file, u8[H W 4]."""
    if image.format == "TIFF" and image.mode == "RGB" and _bands(image) == 4:
        # Pillow drops a fourth band whose meaning the TIFF does not state (ExtraSamples = 0), as it
        # is in aerial images with infrared. OpenCV keeps it, and gives blue, green, red, infrared.
        bands = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
        if bands is None or bands.shape != (image.height, image.width, 4):
            raise Unreadable(f"cannot read image {_shown(path)}: damaged or truncated (OpenCV)")
        return np.ascontiguousarray(bands[:, :, [2, 1, 0, 3]])
    if image.mode not in ("RGBA", "RGBX", "CMYK"):
        found = f"mode {image.mode} with {len(image.getbands())} bands"
    elif image.format == "TIFF" and 1 in image.tag_v2.get(_TIFF_EXTRA_SAMPLES, ()):  # type: ignore[attr-defined]
        # Pillow would divide the colours by what it takes for premultiplied alpha.
        found = "a fourth band that the TIFF declares as premultiplied alpha (ExtraSamples = 1)"
    else:
        return np.asarray(_loaded(image, upright))
    raise Unreadable(
        f"cannot read image {_shown(path)} as four channels: found {found}; expected red, green, "
        "blue, infrared stored as an RGBA PNG or TIFF (ExtraSamples = 0 or 2). Convert it, or read "
        "three channels (data.channels = 3)"
    )
