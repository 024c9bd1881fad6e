"""The page of results: complete, true to its sources, and never one table for two protocols."""

import json
import pathlib

import pytest

from jaxseg.commands import results
from jaxseg.core import UserError
from tests.conftest import DATA

ROOT = pathlib.Path(__file__).parents[2]
PUBLISHED = json.loads((ROOT / "jaxseg/report/published.json").read_text())


def tables(page):
    """Yields (title, rows as dicts) of a page."""
    for part in page.split("\n## ")[1:]:
        title, _, text = part.partition("\n\n")
        lines = [
            [cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split("|")]
            for line in text.strip().splitlines()
        ]
        assert len({len(line) for line in lines}) == 1
        yield title, [dict(zip(lines[0], line, strict=True)) for line in lines[2:]]


def test_the_committed_page_is_what_the_program_gives():
    rows = json.loads((ROOT / "docs/results.json").read_text())
    assert (ROOT / "docs/results.md").read_text() == results.render(rows)
    assert rows == results.merge([], rows)


def test_every_published_number_is_on_the_page_once():
    found = [(title, row) for title, rows in tables(results.render([])) for row in rows]
    assert len(found) == sum(len(group) for group in PUBLISHED.values())
    for benchmark, group in PUBLISHED.items():
        for method, result in group.items():
            matching = results.matching_of(benchmark, method)
            (row,) = (
                row
                for title, row in found
                if title.removesuffix(f", {matching}") == results._title(benchmark)
                and (row["method"], row.get("matching", "")) == (method, matching)
            )
            assert row["source"] == result["source"]
            for name, value in result.items():
                if isinstance(value, float | int):
                    assert float(row[name]) == value


def test_the_published_numbers_are_those_of_the_reference():
    path = DATA.parent / "RESULTS.json"
    if not path.is_file():
        pytest.skip(f"no real data: {path} is missing (set JAXSEG_DATA)")
    assert json.loads(path.read_text(encoding="utf-8")) == PUBLISHED


# METHODS.md 1.2, 2.1, 2.2, 2.3, 5.5, 7.4: by benchmark and method, split, CRF and checkpoint.
BEST = "best val mIoU (code)"
KNOWN = {
    ("COCO-Stuff-15", "IIC"): ("train+val (code)", "?", "best epoch"),
    ("COCO-Stuff-15", "IIC [via InfoSeg]"): ("train+val (code)", "?", "best epoch"),
    ("COCO-Stuff-15", "IIC [via SAN]"): ("?", "?", "?"),  # 27.9, and 27.7 in its paper
    ("COCO-Stuff-15", "IIC-res12 [via PiCIE supplement]"): ("?", "?", "?"),
    ("COCO-Stuff-15", "InfoSeg [via SAN]"): ("as IIC", "?", "?"),
    ("COCO-Stuff-15", "AC [via SAN]"): ("?", "?", "?"),
    ("COCO-Stuff-15", "SAN"): ("val", "?", "?"),
    ("COCO-Stuff-15", "HSG (kNN)"): ("val", "no", "?"),
    ("Potsdam-6", "HSG (kNN)"): ("test", "no", "?"),
    ("Potsdam-6", "IIC [via SAN]"): ("labelled (code)", "?", "best epoch"),
    ("Potsdam-3", "IIC [via SmooSeg]"): ("labelled (code)", "?", "best epoch"),
    ("Potsdam-3", "InfoSeg [via SmooSeg]"): ("as IIC", "?", "?"),
    ("Potsdam-3", "Random CNN [via SmooSeg]"): ("?", "?", "?"),
    ("Potsdam-3", "DINOv2+SmooSeg"): ("test", "yes", BEST),
    ("COCO-Stuff-27", "STEGO"): ("val", "yes", BEST),
    ("COCO-Stuff-27", "DINO"): ("?", "?", "?"),
    ("COCO-Stuff-27", "PiCIE+H [via SAN]"): ("val", "no", "?"),
    ("COCO-Stuff-27", "IIC"): ("?", "?", "?"),  # of the PiCIE paper, without code
    ("Cityscapes-27", "SmooSeg"): ("val", "yes", BEST),
    ("Cityscapes-27", "PiCIE"): ("val+train (code)", "no", "?"),
    ("CRF ablation", "SmooSeg w/o CRF"): ("val (Potsdam: test)", "no", BEST),
    ("CRF ablation", "STEGO with CRF"): ("val (Potsdam: test)", "yes", BEST),
    ("InfoSeg ablation (COCO-Stuff-3)", "IIC-MI objective instead of MI step"): (
        "as IIC", "?", "?"),
    ("SmooSeg ablation: objective (COCO-Stuff-27)", "without data term"): ("val", "?", BEST),
    ("Potsdam-3 single large image (25 crops of 224)", "SmooSeg"): ("one image", "?", "?"),
}  # fmt: skip


def protocols():
    """Yields (benchmark, method, (split, CRF, checkpoint)) of the published results."""
    for (benchmark, _), rows in results.published_rows().items():
        for row in rows:
            if row.get("matching"):
                yield benchmark, row["method"], (row["split"], row["CRF"], row["checkpoint"])


def test_the_protocol_is_said_where_it_is_known():
    found = {(benchmark, method): protocol for benchmark, method, protocol in protocols()}
    assert {key: found[key] for key in KNOWN} == KNOWN


def test_a_copy_has_the_protocol_of_its_original():
    originals = {}
    for benchmark, method, protocol in protocols():
        if (benchmark, method) not in results._UNTRACED:
            name = (benchmark, method.partition(" [via ")[0])
            assert originals.setdefault(name, protocol) == protocol, (benchmark, method)


MEASURED = {
    "data": "cocostuff15", "method": "hsg", "Acc": "1.00", "mIoU": "2.00", "split": "val (2175)",
    "matching": results.RETRIEVAL, "CRF": "no", "k": "20", "seed": "0", "checkpoint": "last",
    "source": "class",
}  # fmt: skip


@pytest.mark.parametrize("data", ["cocostuff15", "potsdam", "camvid"])
def test_retrieval_and_assignment_never_share_a_table(data):
    measured = [
        MEASURED | {"data": data, "matching": matching, "method": matching}
        for matching in (results.HUNGARIAN, results.RETRIEVAL)
    ]
    for title, rows in tables(results.render(measured)):
        assert len({row.get("matching") for row in rows}) == 1, title
        for row in rows:
            if row.get("matching") == results.HUNGARIAN:
                assert "(kNN)" not in row["method"]
                assert not row["source"].startswith(("HSG paper Table 1", "HSG supplement"))


def test_hsg_is_retrieval_everywhere():
    for benchmark, group in PUBLISHED.items():
        for method in group:
            if "HSG" in method and "latency" not in benchmark:
                assert results.matching_of(benchmark, method) == results.RETRIEVAL


def workdir(path, data="cocostuff27", count=2175, **protocol):
    """Writes what a run leaves of its evaluations."""
    (path / "evaluation").mkdir(parents=True)
    config = {"method": {"name": "infoseg"}, "data": {"name": data, "root": str(path)}}
    (path / "config.json").write_text(json.dumps(config))
    record = {
        "name": "infoseg",
        "scores": {"accuracy": 0.21875, "miou": None},
        "protocol": {
            "model": "trained", "probe": "Argmax()", "matching": "hungarian, over the test split",
            "label": "class", "data": data, "train_split": "train (9)",
            "test_split": f"val ({count})", "seed": 3, "steps": 7, "select": "last",
            "selected_step": 7,
        } | protocol,
    }  # fmt: skip
    (path / "evaluation" / "infoseg.json").write_text(json.dumps(record))
    unlabelled = {"scores": {"usage": 1}, "protocol": {}}
    (path / "evaluation" / "other.json").write_text(json.dumps(unlabelled))
    return path


def test_a_run_stands_beside_the_published_numbers(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run = workdir(tmp_path / "run", "potsdam", 855)
    assert results.main([str(run)]) == 0
    page = dict(tables((tmp_path / "docs/results.md").read_text()))
    (row,) = (row for row in page["Potsdam-6, Hungarian"] if row[""] == "**measured**")
    assert (row["Acc"], row["seed"], row["split"]) == ("21.88", "3", "val (855)")
    assert row["checkpoint"] == "last, step 7"
    assert {r["method"] for r in page["Potsdam-6, Hungarian"]} >= {"infoseg", "InfoSeg", "IIC"}
    # Without the work directory, and with it again, the page stays as it is.
    before = (tmp_path / "docs/results.md").read_text()
    for again in ([], [str(run)]):
        results.main(again)
        assert (tmp_path / "docs/results.md").read_text() == before
    assert "1 measured rows" in capsys.readouterr().out


def test_another_number_of_images_is_said(tmp_path):
    (row,) = results.measured_rows(workdir(tmp_path / "run", "potsdam", 17))
    assert row["split"] == "val (17), official: 855"


def test_runs_on_packed_data_and_retrieval(tmp_path):
    run = workdir(tmp_path / "run", "packed", 855, matching="retrieval", k=20, refine="crf")
    manifest = {"format": "jaxseg-packed", "version": 1, "source": "potsdam"}
    (run / "manifest.json").write_text(json.dumps(manifest))
    (row,) = results.measured_rows(run)
    assert (row["data"], row["matching"], row["k"], row["CRF"]) == (
        "potsdam", results.RETRIEVAL, "20", "crf",
    )  # fmt: skip


def test_backbone_and_weights_are_named(tmp_path):
    """As the evaluation says, or, where it was made before it did, as the config can tell."""
    said = {"backbone": "vit_small_8, frozen", "weights": "DINO (0123abcd)"}
    (row,) = results.measured_rows(workdir(tmp_path / "new", "potsdam", 855, **said))
    assert {name: row[name] for name in said} == said
    page = dict(tables(results.render([row])))
    (shown,) = (row for row in page["Potsdam-6, Hungarian"] if row[""] == "**measured**")
    assert {name: shown[name] for name in said} == said
    other = row | {"weights": "DINO (89abcdef)"}
    assert len(results.merge([row], [other])) == 2

    run = workdir(tmp_path / "old", "potsdam", 855)
    (row,) = results.measured_rows(run)
    assert (row["backbone"], row["weights"]) == ("?", "?")
    config = json.loads((run / "config.json").read_text())
    config["method"] |= {"backbone": "vit_tiny_16", "weights": "a/b/vit.safetensors"}
    config["method"]["weights_sha256"] = "0123456789"
    (run / "config.json").write_text(json.dumps(config))
    (row,) = results.measured_rows(run)
    assert (row["backbone"], row["weights"]) == ("vit_tiny_16", "vit.safetensors (01234567)")
    (row,) = results.measured_rows(workdir(tmp_path / "grey", model="colour"))
    assert (row["backbone"], row["weights"]) == ("", "")


def test_what_has_learned_from_labels_has_a_table_of_its_own(tmp_path):
    run = workdir(tmp_path / "run", "potsdam", 855, matching="identity, over the test split")
    path = run / "evaluation" / "infoseg.json"
    record = json.loads(path.read_text()) | {"name": "linear_probe", "supervised": True}
    path.write_text(json.dumps(record))
    (row,) = results.measured_rows(run)
    assert (row["method"], row["matching"]) == ("infoseg: linear_probe", results.SUPERVISED)
    page = dict(tables(results.render([row])))
    assert [r["Acc"] for r in page[f"Potsdam-6, {results.SUPERVISED}"]] == ["21.88"]


def test_levels_of_groups_have_a_table_of_their_own(tmp_path):
    run = workdir(tmp_path / "run", "potsdam", 855, matching="none", probe="Hierarchy()")
    path = run / "evaluation" / "infoseg.json"
    scores = {
        "groups_level0": 36.0, "groups_level1": 8.0, "covering_level0_class": 0.5,
        "fscore_level1_part": None,
    }  # fmt: skip
    path.write_text(
        json.dumps(json.loads(path.read_text()) | {"kind": "hierarchy", "scores": scores})
    )
    rows = results.measured_rows(run)
    assert [row["level"] for row in rows] == ["0", "1"]
    changed = [row | {"covering class": "1.00"} for row in rows]
    assert results.merge(rows, changed) == results.merge([], changed)
    page = dict(tables(results.render(rows)))
    fine, coarse = page[f"potsdam, {results.HIERARCHY}"]
    assert (fine["groups"], fine["covering class"], coarse["groups"]) == ("36.0", "50.00", "8.0")
    assert all("covering class" not in row for title, t in page.items() for row in t
               if results.HIERARCHY not in title)  # fmt: skip


def test_a_folder_without_a_run(tmp_path):
    with pytest.raises(UserError, match="holds no evaluation"):
        results.measured_rows(tmp_path)
