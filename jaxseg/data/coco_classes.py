"""The label spaces of COCO-Stuff: 182 fine ids, merged into 27, 15 and 3 classes, or cut to 171.

A fine id is the value of a stuffthingmaps pixel, COCO's category id - 1; 255 is unlabelled. The 27
classes are the same in the released code of IIC, PiCIE, STEGO and SmooSeg (METHODS 1.1): 0 to 11
things, 12 to 26 stuff. Tables are i32[65536], from any value of a PNG to a class: -1 = ignored, and
`OUTSIDE` for values that stuffthingmaps do not have.
"""

import numpy as np

OUTSIDE = -2

COARSE = (
    "electronic-things", "appliance-things", "food-things", "furniture-things", "indoor-things",
    "kitchen-things", "accessory-things", "animal-things", "outdoor-things", "person-things",
    "sports-things", "vehicle-things", "ceiling-stuff", "floor-stuff", "food-stuff",
    "furniture-stuff", "rawmaterial-stuff", "textile-stuff", "wall-stuff", "window-stuff",
    "building-stuff", "ground-stuff", "plant-stuff", "sky-stuff", "solid-stuff", "structural-stuff",
    "water-stuff",
)  # fmt: skip
THINGS = COARSE[:12]
STUFF = tuple(range(12, 27))  # the superclasses of stuff
SKY, PLANT, GROUND = 23, 22, 21

# The 182 fine classes in the order of their ids, each with its superclass of the 27.
_FINE = """
person:9, bicycle:11, car:11, motorcycle:11, airplane:11, bus:11, train:11, truck:11, boat:11,
traffic light:8, fire hydrant:8, street sign:8, stop sign:8, parking meter:8, bench:8, bird:7,
cat:7, dog:7, horse:7, sheep:7, cow:7, elephant:7, bear:7, zebra:7, giraffe:7, hat:6,
backpack:6, umbrella:6, shoe:6, eye glasses:6, handbag:6, tie:6, suitcase:6, frisbee:10,
skis:10, snowboard:10, sports ball:10, kite:10, baseball bat:10, baseball glove:10,
skateboard:10, surfboard:10, tennis racket:10, bottle:5, plate:5, wine glass:5, cup:5, fork:5,
knife:5, spoon:5, bowl:5, banana:2, apple:2, sandwich:2, orange:2, broccoli:2, carrot:2, hot
dog:2, pizza:2, donut:2, cake:2, chair:3, couch:3, potted plant:3, bed:3, mirror:3, dining
table:3, window:3, desk:3, toilet:3, door:3, tv:0, laptop:0, mouse:0, remote:0, keyboard:0, cell
phone:0, microwave:1, oven:1, toaster:1, sink:1, refrigerator:1, blender:1, book:4, clock:4,
vase:4, scissors:4, teddy bear:4, hair drier:4, toothbrush:4, hair brush:4, banner:17,
blanket:17, branch:22, bridge:20, building-other:20, bush:22, cabinet:15, cage:25, cardboard:16,
carpet:13, ceiling-other:12, ceiling-tile:12, cloth:17, clothes:17, clouds:23, counter:15,
cupboard:15, curtain:17, desk-stuff:15, dirt:21, door-stuff:15, fence:25, floor-marble:13,
floor-other:13, floor-stone:13, floor-tile:13, floor-wood:13, flower:22, fog:26, food-other:14,
fruit:14, furniture-other:15, grass:22, gravel:21, ground-other:21, hill:24, house:20,
leaves:22, light:15, mat:17, metal:16, mirror-stuff:15, moss:22, mountain:24, mud:21, napkin:17,
net:25, paper:16, pavement:21, pillow:17, plant-other:22, plastic:16, platform:21,
playingfield:21, railing:25, railroad:21, river:26, road:21, rock:24, roof:20, rug:17, salad:14,
sand:21, sea:26, shelf:15, sky-other:23, skyscraper:20, snow:21, solid-other:24, stairs:15,
stone:24, straw:22, structural-other:25, table:15, tent:20, textile-other:17, towel:17, tree:22,
vegetable:14, wall-brick:18, wall-concrete:18, wall-other:18, wall-panel:18, wall-stone:18,
wall-tile:18, wall-wood:18, water-other:26, waterdrops:26, window-blind:19, window-other:19,
wood:24
"""
_ROWS = tuple(row.split(":") for row in _FINE.replace("\n", " ").strip().split(", "))
FINE = tuple(name for name, _ in _ROWS)
FINE_TO_COARSE = np.array([int(coarse) for _, coarse in _ROWS])

# Ids of the 182 that no pixel has: COCO removed them before the release.
UNUSED = (11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90)


def _table(fine_to_class: np.ndarray) -> np.ndarray:
    table = np.full(2**16, OUTSIDE, np.int32)
    table[: len(FINE)] = fine_to_class
    table[255] = -1
    return table


def _merged(superclasses: tuple[int, ...]) -> np.ndarray:
    """Returns the class of each fine id: the place of its superclass, -1 without one."""
    place = np.full(len(COARSE), -1)
    place[list(superclasses)] = np.arange(len(superclasses))
    return place[FINE_TO_COARSE]


_USED = np.isin(np.arange(len(FINE)), UNUSED, invert=True)

# By number of classes: the names in the order of label values, and the table.
CLASSES: dict[str, tuple[str, ...]] = {
    "182": FINE,
    "171": tuple(name for name, used in zip(FINE, _USED, strict=True) if used),
    "27": COARSE,
    "15": tuple(COARSE[k] for k in STUFF),
    "3": ("sky", "plant", "ground"),
}
TABLES: dict[str, np.ndarray] = {
    "182": _table(np.arange(len(FINE))),
    "171": _table(np.where(_USED, np.cumsum(_USED) - 1, -1)),
    "27": _table(FINE_TO_COARSE),
    "15": _table(_merged(STUFF)),
    "3": _table(_merged((SKY, PLANT, GROUND))),
}
