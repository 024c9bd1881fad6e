"""GeoTIFF tags go from one file into another as they are."""

import numpy as np
import tifffile
from PIL import Image

from jaxseg.data.geotiff import read_tags, write_labels

LABELS = np.arange(12, dtype=np.uint16).reshape(3, 4)
MATRIX = (2.0, 0.0, 0.0, 7e5, 0.0, -2.0, 0.0, 5e6, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
NUMBERS = (6378137.0, 298.257223563)
EXTRA = [(34264, "d", 16, MATRIX, True), (34736, "d", 2, NUMBERS, True)]


def test_tags_are_written_as_they_were_read(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", LABELS, extratags=EXTRA)
    tags = read_tags(tmp_path / "a.tif")
    assert {tag: value for tag, (_, value) in tags.items()} == {34264: MATRIX, 34736: NUMBERS}
    write_labels(tmp_path / "b.tif", LABELS, tags)
    assert read_tags(tmp_path / "b.tif") == tags
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "b.tif"), LABELS)


def test_other_files_have_none(tmp_path):
    turned = [(274, "H", 1, 6, True)]
    tifffile.imwrite(tmp_path / "turned.tif", LABELS, extratags=EXTRA + turned)
    Image.fromarray(LABELS.astype(np.uint8)).save(tmp_path / "plain.png")
    (tmp_path / "broken.tif").write_bytes(b"II*\0")
    for name in ("turned.tif", "plain.png", "broken.tif", "absent.tif"):
        assert read_tags(tmp_path / name) == {}
