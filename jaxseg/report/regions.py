"""The page of a folder of region maps: how many regions images have, and what they look like."""

import base64
import html
import io
import json
import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

from jaxseg.report.segments import borders

_WIDTH, _HEIGHT, _CAPTION, _GAP = 1900, 200, 16, 6  # pixels of the sheet and of a tile
# The narrowest and widest picture of a tile: longer strips are shown squeezed or stretched.
_NARROW, _WIDE = 80, 940
_BINS = 40  # of the histogram, at most
_BORDER = np.array([255, 230, 0], np.uint8)

Read = Callable[[str], tuple[np.ndarray, np.ndarray]]  # name -> image u8[H W 3], regions i32[H W]


def write_report(
    folder: pathlib.Path, facts: Mapping[str, Any], counts: Mapping[str, int],
    failures: Mapping[str, str], read: Read, samples: int,
) -> None:  # fmt: skip
    """Writes index.html, which needs no other file, and beside it its pictures and failures.json.

    Args:
        folder: where to; made if it is not there.
        facts: how the maps were made, to be told.
        counts: regions by image; failures: why, by image without a map.
        read: reads an image and its map.
        samples: images on the contact sheet, evenly over all of them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "failures.json").write_text(json.dumps(dict(failures), indent=2) + "\n")
    parts = [f"<tr><th>{_text(k)}<td>{_text(v)}" for k, v in facts.items()]
    body = f"<h1>Coherent regions</h1><table>{''.join(parts)}</table>"
    body += f"<p>{len(counts):,} images have a map, {len(failures):,} have none.</p>"
    if counts:
        histogram(list(counts.values())).savefig(folder / "histogram.png", dpi=100)
        names = list(counts)
        shown = min(samples, len(names))
        chosen = [names[i * len(names) // shown] for i in range(shown)]
        sheet = contact_sheet((name, *read(name)) for name in chosen)
        sheet.save(folder / "contact_sheet.png")
        body += _embedded(Image.open(folder / "histogram.png").convert("RGB"), "histogram")
        body += "<h2>Borders, and the mean colour of each region</h2>"
        body += _embedded(sheet, "contact sheet")
    if failures:
        rows = "".join(f"<tr><td>{_text(k)}<td>{_text(v)}" for k, v in failures.items())
        body += f"<h2>Images without a map</h2><table>{rows}</table>"
    style = "body{font:14px sans-serif;margin:2em}th,td{text-align:left;padding:2px 12px 2px 0}"
    (folder / "index.html").write_text(
        f"<!doctype html><meta charset=utf-8><title>Coherent regions</title><style>{style}</style>"
        f"{body}\n"
    )


def histogram(counts: list[int]) -> Figure:
    """Returns the histogram of how many regions images have."""
    figure = Figure(figsize=(7, 2.6), layout="constrained")
    axis = figure.subplots()
    width = (max(counts) - min(counts)) // _BINS + 1  # of whole numbers, so that no bin has more
    bins = np.arange(min(counts), max(counts) + width + 1, width) - 0.5
    axis.hist(counts, bins.tolist(), color="#4477aa", edgecolor="white", linewidth=0.5)
    axis.set_xlabel("regions an image")
    axis.set_ylabel("images")
    return figure


def contact_sheet(samples: Iterable[tuple[str, np.ndarray, np.ndarray]]) -> Image.Image:
    """Returns (name, image u8[H W 3], regions i[H W]) in tiles, each captioned with its count."""
    places, x, y, tiles = [], _GAP, _GAP, [_tile(*sample) for sample in samples]
    for tile in tiles:
        if x > _GAP and x + tile.width + _GAP > _WIDTH:
            x, y = _GAP, y + tile.height + _GAP
        places.append((x, y))
        x += tile.width + _GAP
    width = max(x + tile.width for (x, _), tile in zip(places, tiles, strict=True)) + _GAP
    sheet = Image.new("RGB", (width, y + tiles[-1].height + _GAP), "white")
    for place, tile in zip(places, tiles, strict=True):
        sheet.paste(tile, place)
    return sheet


def mean_colours(image: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """Returns u8[H W 3], each region of i[H W] in the mean colour of its pixels."""
    numbers = regions.ravel()
    sizes = np.bincount(numbers)
    means = [np.bincount(numbers, image[..., c].ravel()) / np.maximum(sizes, 1) for c in range(3)]
    return np.stack(means, axis=-1).round().astype(np.uint8)[regions]


def _tile(name: str, image: np.ndarray, regions: np.ndarray) -> Image.Image:
    """Returns an image with borders beside its mean colours, with a caption below."""
    width = min(max(_NARROW, round(image.shape[1] * _HEIGHT / image.shape[0])), _WIDE)
    shown = np.array(Image.fromarray(image).resize((width, _HEIGHT)))
    numbers = Image.fromarray(regions.astype(np.int32)).resize(
        (width, _HEIGHT), Image.Resampling.NEAREST
    )
    shown[borders(np.asarray(numbers))] = _BORDER
    flat = Image.fromarray(mean_colours(image, regions)).resize((width, _HEIGHT))
    tile = Image.new("RGB", (2 * width + 2, _HEIGHT + _CAPTION), "white")
    tile.paste(Image.fromarray(shown), (0, 0))
    tile.paste(flat, (width + 2, 0))
    room = 2 * width // 7  # letters
    caption = f"{name[-(room - 14) :]}: {len(np.unique(regions))} regions"
    ImageDraw.Draw(tile).text((2, _HEIGHT + 2), caption, fill="black")
    return tile


def _embedded(picture: Image.Image, title: str) -> str:
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=88)
    data = base64.b64encode(stream.getvalue()).decode()
    return f'<p><img alt="{title}" src="data:image/jpeg;base64,{data}"></p>'


def _text(value: Any) -> str:
    """Returns text for HTML; names of files that are not UTF-8 hold lone surrogates."""
    return html.escape(str(value).encode("utf-8", "backslashreplace").decode())
