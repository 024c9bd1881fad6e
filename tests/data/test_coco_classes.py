"""The label spaces of COCO-Stuff, entry by entry against the reference tables."""

import hashlib
import json
import pathlib

import numpy as np
import pytest

from jaxseg.data import coco_classes, densepose, voc
from jaxseg.data.coco_classes import CLASSES, OUTSIDE, TABLES
from tests.conftest import DATA

# Of the tables' first 256 entries as i32, little-endian, values that no map has as -1.
HASHES = {
    "182": "a21e1c5070de5e45",
    "171": "add5181a94dc4302",
    "27": "cba1fec0ac0e9866",
    "15": "aaaaeeaafd6c6a1b",
    "3": "a7a8635439be56eb",
}


@pytest.fixture(scope="module")
def reference():
    path = pathlib.Path(DATA).parent / "label_maps.json"
    if not path.is_file():
        pytest.skip(f"no real data: {path} is missing")
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("classes", TABLES)
def test_hashes(classes):
    table = np.maximum(TABLES[classes][:256], -1).astype("<i4")
    assert hashlib.sha256(table.tobytes()).hexdigest()[:16] == HASHES[classes]
    # Exactly 182 to 254 and what 8 bits do not hold are outside.
    outside = np.flatnonzero(TABLES[classes] == OUTSIDE)
    np.testing.assert_array_equal(outside, [*range(182, 255), *range(256, 2**16)])
    # Every class is reached, but for the 11 fine ids that no pixel has.
    assert set(TABLES[classes]) - {-1, OUTSIDE} == set(range(len(CLASSES[classes])))


def test_every_entry_of_the_coco_maps(reference):
    stuff = reference["cocostuff"]
    assert len(stuff["fine"]) == len(coco_classes.FINE) == 182
    for entry in stuff["fine"]:
        value = entry["id0"]
        assert entry["category_id"] == value + 1
        assert CLASSES["182"][value] == entry["name"]
        assert TABLES["182"][value] == value
        assert TABLES["171"][value] == (entry["idx171"] if entry["in_171"] else -1)
        assert TABLES["27"][value] == entry["coarse27"]
        assert TABLES["15"][value] == entry["stuff15"]
        assert TABLES["3"][value] == entry["coco3"]
        assert (entry["kind"] == "stuff") == (entry["coarse27"] in coco_classes.STUFF)
    for name, key in (("27", "coarse27"), ("15", "stuff15"), ("3", "coco3")):
        table = np.maximum(TABLES[name][:256], -1)
        np.testing.assert_array_equal(table, stuff[f"lut256_to_{key}"])
        assert list(CLASSES[name]) == stuff[f"{key}_names"]
    assert list(coco_classes.UNUSED) == stuff["unused_ids_0based"]
    assert list(np.flatnonzero(TABLES["171"][:182] >= 0)) == stuff["ids171_to_182_0based"]
    assert CLASSES["171"] == tuple(CLASSES["182"][k] for k in stuff["ids171_to_182_0based"])


def test_voc_and_densepose_names(reference):
    assert list(voc.CLASSES) == reference["voc12"]["names21"]
    assert reference["voc12"]["ignore"] == voc.VOID
    parts = reference["densepose"]["parts15"]
    assert [part["name"] for part in parts[1:]] == list(densepose.PARTS)
    assert [part["part_group"].replace("_", " ") for part in parts[1:]] == list(
        densepose.PARTS.values()
    )
    groups = reference["densepose"]["groups_fine"]
    assert [group.replace("_", " ") for group in groups] == list(densepose.GROUPS)
