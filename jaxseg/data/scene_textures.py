"""The canvas of `scenes`: shapes painted back to front, then texture, light and camera.

A canvas first holds only the number of the surface that each pixel shows. Colour comes last, in one
pass over all pixels, from a table with one row per surface. So the labels are exact by
construction, and the cost of a picture hardly depends on how many things are in it.

Coordinates are unit coordinates: x to the right, y down, the image is [0, 1] x [0, 1].
"""

import colorsys
import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import spatial

TILE = 256  # texels along one side of a tile, a power of two; tiles are periodic
TEXTURES = (
    "plain",
    "cloud",
    "grass",
    "gravel",
    "ripple",
    "leaves",
    "needles",
    "brick",
    "plank",
    "shingle",
    "bark",
    "cloth",
)

Point = tuple[float, float]
Colour = tuple[float, float, float]
# Where colours come from: (hue, its spread, saturation low and high, brightness low and high).
Palette = Sequence[tuple[float, float, float, float, float, float]]


class Shape(NamedTuple):
    """A region: a box around it and a test for points x f[1 w], y f[h 1], which gives bool[h w]."""

    box: tuple[float, float, float, float]  # x0 y0 x1 y1
    inside: Callable[[np.ndarray, np.ndarray], np.ndarray]


def below(curve: Callable[[np.ndarray], np.ndarray]) -> Shape:
    """Returns all that lies below a line y = curve(x)."""
    return Shape((0, 0, 1, 1), lambda x, y: y >= curve(x))


def polygon(points: Sequence[Point]) -> Shape:
    """Returns a convex polygon; its corners may go round either way."""
    edges = list(zip(points, [*points[1:], points[0]], strict=True))
    turn = 1 if sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in edges) > 0 else -1
    # One row for each edge: a point lies inside where across * x + down * y >= least.
    across, down = np.array(
        [(turn * (y0 - y1), turn * (x1 - x0)) for (x0, y0), (x1, y1) in edges]
    ).T
    least = across * [x for x, _ in points] + down * [y for _, y in points]

    def inside(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        right, below = across[:, None] * x, least - down * y
        return (right[:, None, :] >= below.T[:, :, None]).all(axis=0)

    xs, ys = zip(*points, strict=True)
    return Shape((min(xs), min(ys), max(xs), max(ys)), inside)


def ellipse(centre: Point, rx: float, ry: float) -> Shape:
    """Returns an upright ellipse."""
    cx, cy = centre
    return Shape(
        (cx - rx, cy - ry, cx + rx, cy + ry),
        lambda x, y: ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 <= 1,
    )


def capsule(start: Point, end: Point, radius: float) -> Shape:
    """Returns all points within a radius of the straight line between two points."""
    (x0, y0), (x1, y1) = start, end
    dx, dy = x1 - x0, y1 - y0
    scale = 1 / max(dx * dx + dy * dy, 1e-9)
    rx, ry = dx * scale, dy * scale

    def inside(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        along = np.maximum(np.minimum((x - x0) * rx + (y - y0) * ry, 1), 0)
        return (x - x0 - along * dx) ** 2 + (y - y0 - along * dy) ** 2 <= radius * radius

    left, right, top, bottom = min(x0, x1), max(x0, x1), min(y0, y1), max(y0, y1)
    return Shape((left - radius, top - radius, right + radius, bottom + radius), inside)


def blob(centre: Point, rx: float, ry: float, waves: Sequence[tuple[int, float, float]]) -> Shape:
    """Returns an ellipse with a wavy rim; a wave is (how many around, height, phase)."""
    cx, cy = centre
    reach = 1 + sum(abs(height) for _, height, _ in waves)

    def inside(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        x, y = (x - cx) / rx, (y - cy) / ry
        angle = np.arctan2(y, x)
        rim = sum((height * np.sin(n * angle + phase) for n, height, phase in waves), 1.0)
        return x * x + y * y <= rim * rim

    return Shape((cx - rx * reach, cy - ry * reach, cx + rx * reach, cy + ry * reach), inside)


class Look(NamedTuple):
    """A material: its colour, and the texture on it."""

    colour: Colour  # linear RGB, about [0, 1]
    accent: Colour = (0.0, 0.0, 0.0)  # added where the texture is 1, taken away where it is -1
    texture: str = "plain"
    period: Point = (1.0, 1.0)  # width and height of one tile
    angle: float = 0.0  # of the tile, radians
    phase: Point = (0.0, 0.0)  # of the tile, in tiles


def material(
    rng: np.random.Generator,
    palette: Palette,
    texture: str,
    contrast: Point,
    period: float,
    aspect: float = 1.0,
    angle: float = 0.06,
) -> Look:
    """Returns a material; `contrast` is (low, high), `aspect` stretches the texture in width."""
    # One draw for all: a picture has dozens of materials, and each call of the generator counts.
    pick, hue, saturation, value, strength, turn, grow, u, v, *tints = rng.random(12).tolist()
    middle, spread, low, high, dark, bright = palette[int(pick * len(palette))]
    colour = colorsys.hsv_to_rgb(
        (middle + spread * (2 * hue - 1)) % 1,
        low + (high - low) * saturation,
        dark + (bright - dark) * value,
    )
    strength = contrast[0] + (contrast[1] - contrast[0]) * strength
    red, green, blue = (
        strength * (0.85 + 0.3 * tint) * (0.75 * channel + 0.12)
        for channel, tint in zip(colour, tints, strict=True)
    )
    period *= 0.8 + 0.5 * grow
    return Look(
        colour,
        (red, green, blue),
        texture,
        (period * aspect, period),
        angle * (2 * turn - 1),
        (u, v),
    )


class Surface(NamedTuple):
    """One surface of a picture: what it is, what it is made of and how it takes the light."""

    part: int
    instance: int
    look: Look
    centre: Point = (0.5, 0.5)  # x y: the origin of light and texture
    radius: float = 1.0  # the length in which light is measured
    slope: Point = (0.0, 0.0)  # light gained per radius to the right and down
    bulge: float = 0.0  # light lost at one radius from the centre
    recede: float = 0.0  # how fast the rows of the texture get wider below the centre

    def row(self) -> tuple[float, ...]:
        """Returns the numbers that `_shade` needs, in the order in which it reads them."""
        look = self.look
        cos, sin = math.cos(look.angle) * TILE, math.sin(look.angle) * TILE
        (width, height), (u, v) = look.period, look.phase
        texture = (cos / width, sin / width, u * TILE, -sin / height, cos / height, v * TILE)
        bend = -self.recede * TILE / height
        light = (*self.centre, 1 / self.radius, *self.slope, self.bulge)
        kind = TEXTURES.index(look.texture)
        return (kind, *texture, bend, *light, *look.colour, *look.accent)


class Canvas:
    """Which surface each pixel shows."""

    def __init__(self, size: int):
        self.size = size
        self.centres = (np.arange(size) + 0.5) / size
        self.number = np.zeros((size, size), np.intp)
        self.shadow = np.ones((size, size), np.float32)
        self.surfaces: list[Surface] = []

    def paint(self, shape: Shape, surface: Surface) -> None:
        """Covers a region with a surface, over everything that was there."""
        where, mask = self._cut(shape)
        self.number[where][mask] = len(self.surfaces)
        self.shadow[where][mask] = 1
        self.surfaces.append(surface)

    def darken(self, shape: Shape, light: float) -> None:
        """Casts a shadow on what is there already; `light` in [0, 1] is what remains."""
        where, mask = self._cut(shape)
        self.shadow[where][mask] = light

    def _cut(self, shape: Shape) -> tuple[tuple[slice, slice], np.ndarray]:
        """Returns the pixels whose centres may lie in a shape, and which of them do."""
        size = self.size
        x0, y0, x1, y1 = [min(max(int(edge * size + 0.5), 0), size) for edge in shape.box]
        return (slice(y0, y1), slice(x0, x1)), shape.inside(
            self.centres[None, x0:x1], self.centres[y0:y1, None]
        )

    def labels(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the part and the instance of every pixel, i32[S S] each."""
        part = np.array([surface.part for surface in self.surfaces], np.int32)
        instance = np.array([surface.instance for surface in self.surfaces], np.int32)
        return part.take(self.number, mode="clip"), instance.take(self.number, mode="clip")

    def photograph(self, rng: np.random.Generator) -> np.ndarray:
        """Returns the picture u8[S S 3]: lit, in some white balance, a little soft and noisy."""
        tint = rng.uniform(0.92, 1.08, 3) * rng.uniform(0.8, 1.1)
        soft, grain, patchy = rng.uniform((0, 0.03, 0.05), (0.1, 0.1, 0.2))
        x, y = (self.centres[None] + rng.random((2, 1))) * (TILE / 2)
        patches = tiles()[TEXTURES.index("cloud")][np.ix_(y.astype(int), x.astype(int))]
        light = _shade(self.number, self.surfaces)
        light *= self.shadow * (1 + np.float32(patchy) * patches)
        light *= tint.astype(np.float32)[:, None, None]
        light = _soften(light, np.float32(soft))
        # Last of all draws: a scene keeps its layout and colours at every size.
        noise = rng.random(light.shape, np.float32)
        light += (noise - np.float32(0.5)) * np.float32(grain)
        np.clip(light * np.float32(255), 0, 255, out=light)
        return np.stack(list(light.astype(np.uint8)), axis=-1)


def _shade(number: np.ndarray, surfaces: list[Surface]) -> np.ndarray:
    """Returns the light f32[3 S S] that the surfaces with the numbers i[S S] send out."""
    size = len(number)
    table = np.array([surface.row() for surface in surfaces], np.float32).T
    (kind, ux, uy, u0, vx, vy, v0, bend, cx, cy, inverse, gx, gy, bulge, *rgb) = table.take(
        number, axis=1, mode="clip"
    )
    centres = (np.arange(size, dtype=np.float32) + np.float32(0.5)) / np.float32(size)
    x, y = centres[None, :] - cx, centres[:, None] - cy
    # The offset keeps coordinates positive, where truncation rounds down; it is a multiple of TILE.
    offset = np.float32(64 * TILE)
    u = (ux * x + uy * y + u0 + offset).astype(np.int32) & (TILE - 1)
    v = (vx * x + (vy + bend * y) * y + v0 + offset).astype(np.int32) & (TILE - 1)
    texel = tiles().ravel().take((kind.astype(np.intp) * TILE + v) * TILE + u, mode="clip")
    x, y = x * inverse, y * inverse
    light = 1 + gx * x + gy * y - bulge * (x * x + y * y)
    return (np.stack(rgb[:3]) + np.stack(rgb[3:]) * texel) * light


def _soften(light: np.ndarray, soft: np.float32) -> np.ndarray:
    """Mixes each pixel of f32[3 S S] with its four neighbours, each with the weight `soft`."""
    around = np.empty_like(light)
    around[:, 1:-1] = light[:, :-2] + light[:, 2:]
    around[:, 0], around[:, -1] = light[:, 0] + light[:, 1], light[:, -1] + light[:, -2]
    around[:, :, 1:] += light[:, :, :-1]
    around[:, :, :-1] += light[:, :, 1:]
    around[:, :, 0] += light[:, :, 0]
    around[:, :, -1] += light[:, :, -1]
    around *= soft
    around += light * (1 - 4 * soft)
    return around


@functools.lru_cache(maxsize=1)
def tiles() -> np.ndarray:
    """Returns all tiles, f32[T TILE TILE] in [-1, 1] in the order of `TEXTURES`, read-only.

    They are made once in a process, from fixed seeds, and rounded to 1/64, so that the last digit
    of a Fourier transform does not reach a picture.
    """
    stack = np.stack([_MAKERS[name](np.random.default_rng(k)) for k, name in enumerate(TEXTURES)])
    stack = (np.round(np.clip(stack, -1, 1) * 64) / 64).astype(np.float32)
    stack.flags.writeable = False
    return stack


def _band(
    rng: np.random.Generator, fx: float, fy: float, width: float, sharp: float = 1.0
) -> np.ndarray:
    """Returns periodic noise with about fx and fy waves along a tile, in [-1, 1]."""
    wave = np.fft.fftfreq(TILE, 1 / TILE)
    radius = np.hypot(wave[None, :] / fx, wave[:, None] / fy)
    gain = np.exp(-0.5 * ((radius - 1) / width) ** 2) * (radius > 0)
    noise = np.fft.ifft2(np.fft.fft2(rng.random((TILE, TILE)) - 0.5) * gain).real
    return np.tanh(sharp * noise / noise.std())


def _cells(rng: np.random.Generator, count: int) -> np.ndarray:
    """Returns leaf-like cells: a bright middle with a dark rim, each of its own brightness."""
    points = rng.random((count, 2))
    tree = spatial.cKDTree(points, boxsize=1.0)
    grid = (np.moveaxis(np.mgrid[:TILE, :TILE], 0, -1) + 0.5) / TILE
    distance, nearest = tree.query(grid, k=2)
    rim = (distance[..., 1] - distance[..., 0]) * np.sqrt(count)
    own = rng.uniform(-0.5, 0.5, count)[nearest[..., 0]]
    return np.clip(2.2 * rim, 0, 1.2) - 0.75 + own


def _courses(
    rng: np.random.Generator, rows: int, columns: int, joint: float, shift: float
) -> np.ndarray:
    """Returns rows of blocks with dark joints; odd rows are shifted by `shift` blocks."""
    y, x = np.mgrid[:TILE, :TILE] / TILE
    row = np.floor(y * rows).astype(int)
    column = x * columns + shift * (row % 2)
    own = rng.uniform(-0.35, 0.35, (rows, columns))[row, np.floor(column).astype(int) % columns]
    edge_y, edge_x = (y * rows) % 1, column % 1
    apart = (edge_y < joint) | (edge_x < joint * columns / rows)
    return np.where(apart, -1.0, 0.3 + own)


def _shingle(rng: np.random.Generator) -> np.ndarray:
    """Returns overlapping rows of tiles, each bright at its lower edge and dark under the next."""
    rows, columns = 16, 16
    y, x = np.mgrid[:TILE, :TILE] / TILE
    row = np.floor(y * rows).astype(int)
    along = (x * columns + 0.5 * (row % 2)) % 1
    sag = y * rows + 0.35 * np.cos(2 * np.pi * along)
    return 1.6 * (sag % 1) - 0.8 + 0.15 * _band(rng, 20, 20, 0.5)


def _stripes(rng: np.random.Generator, count: int) -> np.ndarray:
    """Returns soft level stripes, crossed by a fine thread."""
    y = np.mgrid[:TILE, :TILE][0] / TILE
    return np.sin(2 * np.pi * count * y) * 0.7 + 0.3 * _band(rng, 40, 12, 0.3)


_MAKERS: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "plain": lambda rng: 0.2 * _band(rng, 8, 8, 1.0),
    "cloud": lambda rng: _band(rng, 2.5, 5, 0.7, 0.8),
    "grass": lambda rng: _band(rng, 34, 8, 0.5, 1.2),
    "gravel": lambda rng: _band(rng, 30, 30, 0.4, 1.5) * (0.6 + 0.4 * _band(rng, 5, 5, 0.5)),
    "ripple": lambda rng: _band(rng, 5, 26, 0.25, 1.2),
    "leaves": lambda rng: _cells(rng, 170),
    "needles": lambda rng: 0.5 * _cells(rng, 1200) + 0.7 * _band(rng, 9, 9, 0.4),
    "brick": lambda rng: _courses(rng, 20, 8, 0.25, 0.5),
    "plank": lambda rng: _courses(rng, 16, 1, 0.22, 0.3) + 0.2 * _band(rng, 4, 40, 0.5),
    "shingle": _shingle,
    "bark": lambda rng: _band(rng, 26, 3, 0.5, 1.5),
    "cloth": lambda rng: _stripes(rng, 14),
}
