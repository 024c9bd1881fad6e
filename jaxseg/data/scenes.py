"""`scenes`, the embedded data set: pictures drawn by the program from a seed, labelled exactly.

People, houses, trees and cars stand in front of sky, ground, water and foliage. Every picture comes
with two levels of ground truth: wholes (a person) and parts (head, torso, limbs). Colours are drawn
so broadly that they hardly tell the classes apart; texture, shape and context do.

The difficulty of the pictures is fixed, by the two bounds in tests/data/test_scenes.py: change
nothing here that changes a picture, or scores are no longer comparable.

Coordinates are unit coordinates: x to the right, y down, the image is [0, 1] x [0, 1].
"""

import dataclasses
import operator
from collections.abc import Callable

import numpy as np

from jaxseg.core import UserError
from jaxseg.data import scene_textures as canvases
from jaxseg.data.fingerprint import digest
from jaxseg.data.scene_textures import (
    Canvas,
    Look,
    Palette,
    Point,
    Shape,
    Surface,
    material,
)
from jaxseg.data.source import Example

PARTS_OF = {
    "sky": ("sky",),
    "ground": ("ground",),
    "water": ("water",),
    "foliage": ("foliage",),
    "person": ("head", "torso", "limbs"),
    "house": ("wall", "roof", "door"),
    "tree": ("trunk", "crown"),
    "car": ("body", "windows", "wheels"),
}
WHOLES = tuple(PARTS_OF)
PARTS = tuple(part for parts in PARTS_OF.values() for part in parts)
# For every part, by its number, the number of the whole that it belongs to.
PART_TO_WHOLE = tuple(k for k, parts in enumerate(PARTS_OF.values()) for _ in parts)

DEFAULT_COUNT = {"train": 2000, "val": 300}
SIZES = (32, 512)


@dataclasses.dataclass(frozen=True)
class Scenes:
    """A `Source` of drawn pictures; every (split, seed) is a fixed stream of its own.

    Picture i depends on split, seed, size and i alone; at another size it is the same scene.
    """

    split: str = "train"  # "train" or "val"
    size: int = 96  # side of the square picture in pixels, 32 to 512
    count: int | None = None  # number of pictures; None = 2,000 for train, 300 for val
    seed: int = 0

    def __post_init__(self) -> None:
        """Raises `UserError` if a field has a value that it cannot have."""
        if self.split not in DEFAULT_COUNT:
            raise UserError(
                f"scenes: split is {self.split!r}, expected one of {', '.join(DEFAULT_COUNT)}"
            )
        _check_integer("size", self.size, *SIZES)
        _check_integer("seed", self.seed, 0, 2**32 - 1)
        if self.count is not None:
            _check_integer("count", self.count, 1, 2**32 - 1)

    @property
    def classes(self) -> dict[str, tuple[str, ...]]:
        """Names of the label values: "class" for the wholes, "part" for the parts."""
        return {"class": WHOLES, "part": PARTS}

    @property
    def fingerprint(self) -> str:
        """Of what the pictures depend on; how they are drawn never changes (see above)."""
        return digest("scenes", self.split, self.size, len(self), self.seed)

    def __len__(self) -> int:
        return DEFAULT_COUNT[self.split] if self.count is None else self.count

    def __getitem__(self, index: int) -> Example:
        """Returns picture u8[S S 3] with labels i32[S S] "class", "part" and "instance".

        An instance is one object or one stretch of background; they are numbered from 0, from back
        to front, and some may be hidden. Raises `IndexError` if index is not in 0 to len - 1.
        """
        index = operator.index(index)
        if not 0 <= index < len(self):
            raise IndexError(f"scenes: index is {index}, expected 0 to {len(self) - 1}")
        split = list(DEFAULT_COUNT).index(self.split)
        rng = np.random.default_rng([self.seed, split, index])
        canvas = Canvas(self.size)
        _draw_scene(canvas, rng)
        part, instance = canvas.labels()
        label = {
            "class": np.array(PART_TO_WHOLE, np.int32)[part],
            "part": part,
            "instance": instance,
        }
        return Example(canvas.photograph(rng), label, name=f"{self.split}/{index:06d}")


def _check_integer(name: str, value: object, low: int, high: int) -> None:
    if type(value) is not int or not low <= value <= high:
        raise UserError(f"scenes: {name} is {value!r}, expected an integer from {low} to {high}")


# ------------------------------------------------------------------------------------ the colours

PLANTS: Palette = (
    (0.28, 0.05, 0.4, 0.75, 0.25, 0.5),
    (0.23, 0.04, 0.4, 0.7, 0.25, 0.5),
    (0.34, 0.05, 0.3, 0.6, 0.25, 0.5),
    (0.16, 0.06, 0.4, 0.7, 0.25, 0.5),
)
GROUNDS: Palette = (
    (0.24, 0.05, 0.3, 0.6, 0.35, 0.65),
    (0.08, 0.03, 0.25, 0.6, 0.3, 0.65),
    (0.11, 0.03, 0.15, 0.4, 0.5, 0.85),
    (0.1, 0.05, 0.0, 0.15, 0.35, 0.8),
)
SKIES: Palette = (
    (0.58, 0.05, 0.15, 0.7, 0.6, 0.95),
    (0.6, 0.5, 0.0, 0.1, 0.5, 0.95),
    (0.06, 0.06, 0.15, 0.5, 0.6, 0.95),
)
WATERS: Palette = (
    (0.57, 0.05, 0.3, 0.7, 0.35, 0.75),
    (0.58, 0.05, 0.15, 0.4, 0.4, 0.8),
    (0.46, 0.05, 0.25, 0.5, 0.35, 0.7),
)
SKINS: Palette = ((0.06, 0.02, 0.35, 0.6, 0.35, 0.9),)
CLOTHES: Palette = ((0.85, 0.25, 0.5, 0.9, 0.35, 0.9), (0.64, 0.05, 0.5, 0.9, 0.2, 0.7))
WALLS: Palette = ((0.08, 0.06, 0.1, 0.45, 0.55, 0.95), (0.5, 0.5, 0.05, 0.4, 0.5, 0.9))
ROOFS: Palette = ((0.02, 0.03, 0.4, 0.7, 0.4, 0.7), (0.6, 0.5, 0.0, 0.3, 0.25, 0.6))
PAINTS: Palette = ((0.5, 0.5, 0.6, 0.95, 0.4, 0.95), (0.6, 0.1, 0.0, 0.1, 0.15, 0.95))
WOODS: Palette = ((0.07, 0.03, 0.2, 0.6, 0.15, 0.45),)
GLASS: Palette = ((0.56, 0.05, 0.05, 0.3, 0.5, 0.9),)
DARK: Palette = ((0.6, 0.2, 0.0, 0.3, 0.05, 0.2),)


# --------------------------------------------------------------------------------------- the scene


class Scene:
    """What all things of a picture share: the canvas, the plane that they stand on and the sun."""

    def __init__(self, canvas: Canvas, rng: np.random.Generator):
        self.canvas, self.rng = canvas, rng
        self.horizon = rng.uniform(0.18, 0.55)  # y at the middle of the picture
        self.tilt = rng.uniform(-0.1, 0.1)  # y gained from the left to the right border
        self.near = (self.horizon + 0.08, 1.05)  # the y between which things can stand
        self.sun = rng.uniform(-1, 1)  # where the light comes from: -1 left, 1 right
        self.sharp = rng.uniform(0, 1)  # how directly it comes: 0 overcast, 1 clear
        self.instances = 0

    def new_instance(self) -> int:
        """Returns the number of the next object or stretch of background."""
        self.instances += 1
        return self.instances - 1


def _draw_scene(canvas: Canvas, rng: np.random.Generator) -> None:
    """Draws the background, then what stands in front of it, from the farthest to the nearest."""
    scene = Scene(canvas, rng)
    _draw_background(scene)
    count = rng.choice(5, p=(0.15, 0.35, 0.3, 0.15, 0.05))
    kinds = rng.choice(len(OBJECTS), count, p=[odds for _, _, odds in OBJECTS])
    crowd = [OBJECTS[kind][:2] for kind in kinds] + [(_draw_bush, 0.5)] * rng.integers(0, 2)
    feet = rng.uniform(*scene.near, len(crowd))
    for k in np.argsort(feet):
        draw, height = crowd[k]
        x, y = rng.uniform(-0.05, 1.05), feet[k]
        height *= (0.4 + 0.6 * (y - scene.horizon)) * rng.uniform(0.85, 1.25)
        draw(Thing(scene, (x, y + scene.tilt * (x - 0.5)), height))


def _draw_background(scene: Scene) -> None:
    """Draws sky, hedge and ground, and often water: a lake behind, a shore in front or a pond."""
    rng, horizon = scene.rng, scene.horizon
    _draw_plane(scene, "sky", canvases.below(np.zeros_like), 0.0)
    if rng.random() < 0.65:
        _draw_hedge(scene)
    kind, shore = rng.random(), horizon
    if kind < 0.3:
        shore += rng.uniform(0.1, 0.3)
        _draw_plane(scene, "water", _line(scene, horizon, 0.0), horizon)
        scene.near = (shore + 0.05, 1.05)
    _draw_plane(scene, "ground", _line(scene, shore, 0.01), horizon)
    if 0.3 <= kind < 0.55:
        shore = horizon + rng.uniform(0.4, 0.8) * (1 - horizon)
        _draw_plane(scene, "water", _line(scene, shore, 0.02), horizon)
        scene.near = (scene.near[0], shore)
    elif 0.55 <= kind < 0.7:
        y = rng.uniform(horizon + 0.1, 1.0)
        rx = rng.uniform(0.25, 0.6)
        pond = canvases.ellipse((rng.random(), y), rx, 0.5 * (y - horizon))
        _draw_plane(scene, "water", pond, horizon)


def _line(scene: Scene, y: float, rough: float) -> Shape:
    """Returns all that lies below a wavy line, which crosses the middle of the picture near y."""
    heights, phases = scene.rng.uniform(0, rough, 3), scene.rng.uniform(0, 2 * np.pi, 3)

    def curve(x: np.ndarray) -> np.ndarray:
        waves = heights[:, None] * np.sin(np.outer((5, 13, 37), x) + phases[:, None])
        return y + scene.tilt * (x - 0.5) + waves.sum(axis=0)

    return canvases.below(curve)


def _draw_plane(scene: Scene, part: str, shape: Shape, y: float) -> None:
    """Paints a stretch of background that recedes towards y."""
    rng = scene.rng
    look = {
        "sky": lambda: material(rng, SKIES, "cloud", (0.0, 0.3), 1.6),
        "ground": lambda: material(
            rng, GROUNDS, ("grass", "gravel")[rng.integers(2)], (0.35, 0.7), 1.3, angle=0.2
        ),
        "water": lambda: material(rng, WATERS, "ripple", (0.35, 0.7), 1.5, 1.3),
    }[part]()
    slope = rng.uniform(-0.3, 0.3), rng.uniform(-0.3, 0.3)
    recede = 0.0 if part == "sky" else 0.45
    instance = scene.new_instance()
    surface = Surface(PARTS.index(part), instance, look, (0.5, y), slope=slope, recede=recede)
    scene.canvas.paint(shape, surface)


def _draw_hedge(scene: Scene) -> None:
    """Draws the edge of a wood on the horizon, over the whole width or a stretch of it."""
    rng = scene.rng
    top = _line(scene, scene.horizon - rng.uniform(0.05, 0.25), 0.025)
    left, right = (0.0, 1.0) if rng.random() < 0.5 else sorted(rng.uniform(-0.2, 1.2, 2))
    shape = Shape((left, 0.0, right, 1.0), top.inside)
    look = material(rng, PLANTS, "leaves", (0.5, 0.8), 1.4, angle=3.0)
    slope = rng.uniform(-0.2, 0.2), -0.3
    surface = Surface(PARTS.index("foliage"), scene.new_instance(), look, (0.5, 0.5), slope=slope)
    scene.canvas.paint(shape, surface)


# ------------------------------------------------------------------------------------- the objects


class Thing:
    """Something that stands on the plane, drawn in coordinates of its own.

    A point (u, v) is u to the side of its foot and v above it, in units of its height.
    """

    def __init__(self, scene: Scene, foot: Point, height: float):
        self.scene, self.rng = scene, scene.rng
        self.foot, self.height = foot, height
        self.instance = scene.new_instance()
        self.flip = 1 if self.rng.random() < 0.5 else -1
        self.lean = scene.tilt / 2 + self.rng.uniform(-0.05, 0.05)

    def at(self, u: float, v: float) -> Point:
        """Returns the point (u, v) of the thing in the picture."""
        x, y = self.foot
        return x + self.height * (self.flip * u + self.lean * v), y - self.height * v

    def look(
        self,
        palette: Palette,
        texture: str = "plain",
        contrast: Point = (0, 0.5),
        angle: float = 0.06,
    ) -> Look:
        """Returns a material whose texture grows with the thing, but stays visible."""
        return material(
            self.rng, palette, texture, contrast, max(1.1, 1.8 * self.height), angle=angle
        )

    def paint(self, part: str, shape: Shape, look: Look, bulge: float = 0.0) -> None:
        """Paints a part, brighter towards the sun and above."""
        x0, y0, x1, y1 = shape.box
        slope = 0.3 * self.scene.sun * self.scene.sharp, -0.12
        centre, radius = ((x0 + x1) / 2, (y0 + y1) / 2), max(x1 - x0, y1 - y0) / 2
        surface = Surface(
            PARTS.index(part), self.instance, look, centre, radius, slope=slope, bulge=bulge
        )
        self.scene.canvas.paint(shape, surface)

    def polygon(self, part: str, look: Look, *points: Point) -> None:
        """Paints a convex polygon."""
        self.paint(part, canvases.polygon([self.at(u, v) for u, v in points]), look)

    def ellipse(self, part: str, look: Look, centre: Point, ru: float, rv: float) -> None:
        """Paints an ellipse, shaded like a ball."""
        shape = canvases.ellipse(self.at(*centre), ru * self.height, rv * self.height)
        self.paint(part, shape, look, bulge=0.25)

    def capsule(self, part: str, look: Look, start: Point, end: Point, radius: float) -> None:
        """Paints a thick line with round ends."""
        shape = canvases.capsule(self.at(*start), self.at(*end), radius * self.height)
        self.paint(part, shape, look)

    def blob(self, part: str, look: Look, centre: Point, ru: float, rv: float) -> None:
        """Paints a mass of leaves: a wavy rim, darker outside than in the middle."""
        phases = self.rng.uniform(0, 2 * np.pi, 3)
        waves = list(zip((3, 7, 13), (0.07, 0.05, 0.04), phases, strict=True))
        shape = canvases.blob(self.at(*centre), ru * self.height, rv * self.height, waves)
        self.paint(part, shape, look, bulge=0.3)

    def shadow(self, ru: float) -> None:
        """Casts a shadow on the plane, away from the sun."""
        x, y = self.foot
        reach = self.height * ru
        shape = canvases.ellipse((x - self.scene.sun * reach, y), 1.3 * reach, 0.3 * reach)
        self.scene.canvas.darken(shape, 1 - 0.5 * self.scene.sharp)


def _draw_bush(thing: Thing) -> None:
    width = thing.rng.uniform(0.6, 1.2)
    thing.shadow(width)
    look = thing.look(PLANTS, "leaves", (0.4, 0.8), angle=3.0)
    thing.blob("foliage", look, (0.0, 0.35), width, 0.6)


def _draw_person(thing: Thing) -> None:
    rng = thing.rng
    stride, build = rng.uniform(0.0, 0.16), rng.uniform(1.2, 1.5)
    shoulder, hip = 0.13 * build, 0.1 * build
    shirt, trousers = thing.look(CLOTHES, "cloth", (0.2, 0.6), angle=3.0), thing.look(CLOTHES)
    skin = thing.look(SKINS)
    sleeve = shirt if rng.random() < 0.5 else skin
    thing.shadow(0.25)
    for side in (-1, 1):
        foot = (side * (hip / 2 + stride), 0.03)
        thing.capsule("limbs", trousers, (side * hip * 0.55, 0.47), foot, 0.055 * build)
    thing.polygon(
        "torso", shirt, (-hip, 0.42), (hip, 0.42), (shoulder, 0.82), (0, 0.86), (-shoulder, 0.82)
    )
    for side in (-1, 1):
        angle = rng.uniform(-0.1, 1.2) * side
        elbow = (side * shoulder + 0.17 * np.sin(angle), 0.78 - 0.17 * np.cos(angle))
        hand = (elbow[0] + 0.16 * np.sin(1.4 * angle), elbow[1] - 0.16 * np.cos(1.4 * angle))
        thing.capsule("limbs", sleeve, (side * shoulder, 0.78), elbow, 0.042 * build)
        thing.capsule("limbs", sleeve, elbow, hand, 0.038 * build)
    thing.ellipse("head", thing.look(WOODS), (-0.01, 0.935), 0.075 * build, 0.085)
    thing.ellipse("head", skin, (0.015, 0.915), 0.06 * build, 0.075)


def _draw_house(thing: Thing) -> None:
    rng = thing.rng
    half, eaves = rng.uniform(0.45, 0.8), rng.uniform(0.5, 0.65)
    ridge, over = rng.uniform(0.0, 0.8) * half, rng.uniform(1.05, 1.2) * half
    wall = thing.look(WALLS, ("brick", "plank")[rng.integers(2)], (0.3, 0.6))
    roof, pane = thing.look(ROOFS, "shingle", (0.35, 0.7)), thing.look(DARK)
    thing.shadow(half)
    thing.polygon("wall", wall, (-half, 0), (half, 0), (half, eaves), (-half, eaves))
    if rng.random() < 0.5:
        side = rng.uniform(-0.6, 0.6) * half
        thing.polygon(
            "roof", wall, (side, 0.7), (side + 0.1, 0.7), (side + 0.1, 1.05), (side, 1.05)
        )
    thing.polygon("roof", roof, (-over, eaves), (over, eaves), (ridge, 1.0), (-ridge, 1.0))
    door = rng.uniform(-0.3, 0.3) * half
    thing.polygon(
        "door",
        thing.look(PAINTS, "bark", (0, 0.4)),
        (door - 0.09, 0),
        (door + 0.09, 0),
        (door + 0.09, 0.33),
        (door - 0.09, 0.33),
    )
    for side in (-0.72, 0.72):
        u = side * half
        thing.polygon(
            "wall", pane, (u - 0.07, 0.2), (u + 0.07, 0.2), (u + 0.07, 0.36), (u - 0.07, 0.36)
        )


def _draw_tree(thing: Thing) -> None:
    rng = thing.rng
    start, foot = rng.uniform(0.25, 0.45), rng.uniform(0.05, 0.09)
    bark = thing.look(WOODS, "bark", (0.3, 0.7))
    crown = thing.look(PLANTS, "needles", (0.4, 0.8), angle=3.0)
    thing.shadow(0.4)
    thing.polygon("trunk", bark, (-foot, 0), (foot, 0), (0.6 * foot, 0.6), (-0.6 * foot, 0.6))
    if rng.random() < 0.3:
        for low, high, half in ((start, 0.7, 0.36), (start + 0.2, 0.85, 0.29), (0.65, 1.0, 0.2)):
            thing.polygon("crown", crown, (-half, low), (half, low), (0, high))
    else:
        middle = (start + 1) / 2
        thing.blob("crown", crown, (0, middle), rng.uniform(0.28, 0.48), 1 - middle)


def _draw_car(thing: Thing) -> None:
    rng = thing.rng
    half, belt = rng.uniform(1.2, 1.5), rng.uniform(0.5, 0.6)
    back, front = rng.uniform(-1.0, -0.7) * half, rng.uniform(0.3, 0.55) * half
    slant = rng.uniform(0.08, 0.3)
    body, glass = thing.look(PAINTS, "plain", (0, 0.15)), thing.look(GLASS)
    tyre, hub = thing.look(DARK), thing.look(GLASS)
    thing.shadow(half)
    cabin = ((back, belt - 0.1), (front, belt - 0.1), (front - slant, 1.0), (back + slant / 2, 1.0))
    thing.polygon("body", body, *cabin)
    lower = ((-half, 0.15), (half, 0.15), (half, 0.42), (0.9 * half, belt), (-half, belt))
    thing.polygon("body", body, *lower)
    post = (back + front - slant / 2) / 2
    for left, right, cut_left, cut_right in (
        (back + 0.1, post - 0.03, slant / 2, 0.0),
        (post + 0.03, front - 0.08, 0.0, slant),
    ):
        thing.polygon(
            "windows",
            glass,
            (left, belt + 0.02),
            (right, belt + 0.02),
            (right - cut_right, 0.92),
            (left + cut_left, 0.92),
        )
    for u in (-0.6 * half, 0.6 * half):
        thing.ellipse("wheels", tyre, (u, 0.2), 0.22, 0.22)
        thing.ellipse("wheels", hub, (u, 0.2), 0.1, 0.1)


# How to draw a kind of object, its height on the scale of the scene and how often it is drawn.
OBJECTS: tuple[tuple[Callable[[Thing], None], float, float], ...] = (
    (_draw_person, 1.2, 0.3),
    (_draw_house, 1.0, 0.2),
    (_draw_tree, 1.35, 0.26),
    (_draw_car, 0.58, 0.24),
)
