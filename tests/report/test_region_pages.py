import json

import numpy as np
from PIL import Image

from jaxseg.report.regions import contact_sheet, histogram, mean_colours, write_report


def sample(height, width):
    rng = np.random.default_rng(height)
    image = rng.integers(0, 256, (height, width, 3), np.uint8)
    regions = (np.arange(width) >= width // 2)[None] + np.zeros((height, 1), np.int32)
    return image, regions


def test_mean_colours_are_those_of_a_loop():
    image, regions = sample(7, 10)
    shown = mean_colours(image, regions)
    for number in (0, 1):
        inside = regions == number
        expected = image[inside].astype(np.float64).mean(axis=0).round()
        np.testing.assert_array_equal(shown[inside], np.broadcast_to(expected, (inside.sum(), 3)))


def test_a_sheet_holds_images_of_all_shapes_and_marks_borders():
    shapes = [(300, 200), (20, 700), (100, 100), (1, 1), (400, 30), (2, 3000), (900, 1)]
    sheet = np.asarray(contact_sheet((str(shape), *sample(*shape)) for shape in shapes))
    assert sheet.shape[1] <= 1900  # a picture of a strip would be longer than a JPEG can be
    yellow = (sheet == [255, 230, 0]).all(axis=-1)
    assert yellow.sum() >= 200 * (len(shapes) - 2)  # two are one pixel wide: a single region


def test_the_histogram_counts_every_image():
    for counts in ([5], [1, 2, 2, 48], list(range(1000))):
        bars = histogram(counts).axes[0].patches
        assert sum(bar.get_height() for bar in bars) == len(counts)
        assert len(bars) <= 41


def test_the_page_tells_settings_counts_and_failures_and_is_safe(tmp_path):
    name = "<b>.png"
    write_report(
        tmp_path, {"edges": "gradient"}, {name: 2}, {"bad & worse.png": "no <image>"},
        lambda asked: sample(20, 30), 5,
    )  # fmt: skip
    page = (tmp_path / "index.html").read_text()
    assert "gradient" in page
    assert "1 images have a map, 1 have none" in page
    assert "bad &amp; worse.png<td>no &lt;image&gt;" in page
    assert page.count("data:image/jpeg;base64,") == 2
    assert json.loads((tmp_path / "failures.json").read_text()) == {"bad & worse.png": "no <image>"}
    assert Image.open(tmp_path / "contact_sheet.png").width > 600


def test_without_any_map_there_is_a_page(tmp_path):
    write_report(tmp_path, {}, {}, {"a.png": "broken"}, lambda name: sample(2, 2), 5)
    assert "broken" in (tmp_path / "index.html").read_text()
    assert not (tmp_path / "contact_sheet.png").exists()
