"""The page of results: what the papers print, beside what runs of jaxseg measured.

Published numbers are report/published.json, as the papers print them (a result that several papers
print is kept apart, by its source). Measured ones are kept in a JSON file beside the page, a row
for each evaluation of a work directory, so that the page can be made again without those.

Labels tell a retrieval (kNN) which class a segment has, and an assignment (Hungarian) only which
cluster is which class: the two never share a table. Nor do runs that have learned from labels, or
the scores of hierarchies.
"""

import argparse
import importlib.resources
import json
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jaxseg.core import UserError
from jaxseg.data.catalogue import CATALOGUE
from jaxseg.data.packed import read_manifest
from jaxseg.writer import write_atomic

RETRIEVAL, HUNGARIAN = "retrieval (kNN)", "Hungarian"
SUPERVISED = "learned from labels"  # a linear probe, say: an upper mark
HIERARCHY = "levels of groups"  # within each image, against labelled regions

# The benchmark of published.json that a data set and a way of matching belong to.
BENCHMARKS = {
    ("cocostuff27", HUNGARIAN): "COCO-Stuff-27",
    ("cocostuff15", HUNGARIAN): "COCO-Stuff-15",
    ("cocostuff15", RETRIEVAL): "COCO-Stuff-15",
    ("cocostuff3", HUNGARIAN): "COCO-Stuff-3",
    ("cocopersons", HUNGARIAN): "COCO-Persons",
    ("cityscapes27", HUNGARIAN): "Cityscapes-27",
    ("cityscapes19", RETRIEVAL): "Cityscapes (kNN, 19 cls)",
    ("kitti_step", RETRIEVAL): "KITTI-STEP (kNN, 19 cls)",
    ("potsdam", HUNGARIAN): "Potsdam-6",
    ("potsdam", RETRIEVAL): "Potsdam-6",
    ("potsdam3", HUNGARIAN): "Potsdam-3",
    ("voc12", RETRIEVAL): "VOC12 val (train MSCOCO, kNN, 21 cls)",
}

# How a result was scored: test split, CRF and checkpoint, by whose protocol it is and by a part of
# what the benchmark is called; "?" = not stated, "code" = in the released code alone. Sources:
# METHODS.md 1.2, 2, 5.5 and 7.4. None of the papers states a seed.
_UNKNOWN = ("?", "?", "?")
_BEST = "best val mIoU (code)"
_FROZEN = {
    "CRF ablation": ("val (Potsdam: test)", "yes", _BEST),
    "Potsdam": ("test", "yes", _BEST),
    "27) without": ("val", "?", _BEST),  # ablations of SmooSeg
    "27": ("val", "yes", _BEST),
}
PROTOCOLS: dict[str, dict[str, tuple[str, str, str]]] = {
    "HSG": {"Potsdam": ("test", "no", "?"), "": ("val", "no", "?")},
    "InfoSeg": dict.fromkeys(("COCO-Stuff-15", "COCO-Stuff-3", "Potsdam"), ("as IIC", "?", "?")),
    "SAN": {"": ("val", "?", "?")},
    "SmooSeg": _FROZEN,
    "STEGO": _FROZEN,
    "PiCIE": {"Cityscapes": ("val+train (code)", "no", "?"), "27": ("val", "no", "?")},
    "MDC": {"Cityscapes": ("val+train (code)", "?", "?"), "27": ("val", "?", "?")},
    "IIC": {
        "COCO-Stuff-15": ("train+val (code)", "?", "best epoch"),
        "COCO-Stuff-3": ("train+val (code)", "?", "best epoch"),
        "Potsdam": ("labelled (code)", "?", "best epoch"),
    },
}
# Copies of numbers that the papers of their method do not have.
_UNTRACED = {("COCO-Stuff-27", "PiCIE (R18 row) [via SAN]"), ("COCO-Stuff-15", "IIC [via SAN]")}

_NETWORK = ("backbone", "weights")
_PROTOCOL = (*_NETWORK, "split", "matching", "CRF", "k", "seed", "checkpoint")
_SCORES = ("Acc", "mIoU")
_IDENTITY = ("data", "method", "level", *_PROTOCOL, "source")  # a new row replaces one of the same
_HEAD = """# Results

Made by `python -m jaxseg.results`; do not edit. Scores in %.

- **Published** rows are as printed in the paper that the last column names; "[via X]" is another
  paper's result as X prints it, and its protocol that paper's, where it is known. "?" = not stated.
- **Measured** rows are runs of this program. A run that was not scored on the official number of
  images says so in the column "split". "backbone" is the network that a method learns on, and says
  whether it stays frozen; it is empty for a network of the method's own. "weights" is what training
  began with: a weights file's name and the first digits of its hash, another run, or "none". Papers
  name theirs, if at all, in the method's name or in "source".
- Retrieval (kNN) learns the class of a segment from labelled training images; Hungarian matching
  assigns whole clusters to classes. The two are not comparable, and never share a table.
- Levels of groups are scored region by region, without classes: level 0 are the base segments.
"""

Row = dict[str, str]


def published_rows() -> dict[tuple[str, str], list[Row]]:
    """Returns the published results as rows by (benchmark, matching)."""
    file = importlib.resources.files("jaxseg.report") / "published.json"
    tables: dict[tuple[str, str], list[Row]] = {}
    for benchmark, results in json.loads(file.read_text()).items():
        for method, result in results.items():
            matching = matching_of(benchmark, method)
            row = _published_row(benchmark, method, result, matching)
            tables.setdefault((_title(benchmark), matching), []).append(row)
    return tables


def _title(benchmark: str) -> str:
    return benchmark.strip("_").replace("_", " ").capitalize() if benchmark[0] == "_" else benchmark


def matching_of(benchmark: str, method: str) -> str:
    """Returns how a published result was matched with classes; "" for what is no score."""
    if "latency" in benchmark:
        return ""
    is_hsg = benchmark.startswith("HSG ablation") or method.startswith(("HSG VOC", "HSG City"))
    return RETRIEVAL if "kNN" in benchmark or "(kNN)" in method or is_hsg else HUNGARIAN


def _published_row(benchmark: str, method: str, result: Mapping[str, Any], matching: str) -> Row:
    source = result["source"]
    row = {"method": method, "": "published"}
    row |= {name: _number(value) for name, value in result.items() if name != "source"}
    protocol = _protocol(benchmark, method, source, matching) if matching else {}
    return row | protocol | {"source": source}


def _protocol(benchmark: str, method: str, source: str, matching: str) -> Row:
    """Returns the protocol columns of a published result."""
    owner = "HSG" if matching == RETRIEVAL else _owner(benchmark, method)
    if (benchmark, method) in _UNTRACED or source.startswith("public issue"):
        owner = ""
    place = f"{benchmark} {method}"
    found = (p for part, p in PROTOCOLS.get(owner, {}).items() if part in place)
    split, crf, checkpoint = next(found, _UNKNOWN)
    if "w/o CRF" in method:
        crf = "no"
    if "single large image" in benchmark:
        split, crf, checkpoint = "one image", "?", "?"
    return {
        "split": split,
        "matching": matching,
        "CRF": crf,
        "k": "20 (code)" if matching == RETRIEVAL else "",
        "seed": "?",
        "checkpoint": checkpoint,
    }


def _owner(benchmark: str, method: str) -> str:
    """Returns whose protocol a result has: that of its own paper, whichever prints it; "" = none.

    The rows of an ablation are variants of the method that its title begins with.
    """
    words = re.split(r"[ +:]", method.partition(" [via ")[0])
    return next((word for word in (benchmark.split()[0], *words) if word in PROTOCOLS), "")


def _number(value: Any) -> str:
    """Returns a number as it is printed in the paper; text as it is, "" for None."""
    if isinstance(value, list):
        return " / ".join(map(_number, value))
    return "" if value is None else value if isinstance(value, str) else f"{value:g}"


def measured_rows(workdir: pathlib.Path) -> list[dict[str, Any]]:
    """Returns a row for each evaluation in a work directory; raises UserError without any."""
    paths = sorted((workdir / "evaluation").glob("*.json"))
    if not paths:
        raise UserError(f"{workdir} holds no evaluation; score the run first (--mode=evaluate)")
    config = json.loads((workdir / "config.json").read_text())
    rows = []
    for path in paths:
        record = json.loads(path.read_text())
        if record.get("kind") == "hierarchy":
            rows += _level_rows(record, config)
        elif "accuracy" in record["scores"]:
            rows.append(_measured_row(record, config))
    return rows


def _measured_row(record: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    protocol, scores = record["protocol"], record["scores"]
    retrieved = "retrieval" in protocol["matching"].lower() or "Retrieval" in protocol["probe"]
    matching = RETRIEVAL if retrieved else SUPERVISED if record.get("supervised") else HUNGARIAN
    found = {"Acc": _percent(scores["accuracy"]), "mIoU": _percent(scores["miou"])}
    return _row(record, config, found, matching)


def _level_rows(record: Mapping[str, Any], config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns a row for each level of a hierarchy."""
    levels: dict[str, dict[str, str]] = {}
    for name, value in record["scores"].items():
        measure, _, rest = name.partition("_level")
        level, _, label = rest.partition("_")
        shown = f"{value:.1f}" if measure == "groups" else _percent(value)
        levels.setdefault(level, {"level": level})[f"{measure} {label}".strip()] = shown
    return [_row(record, config, found, HIERARCHY) for found in levels.values()]


def _row(
    record: Mapping[str, Any], config: Mapping[str, Any], found: Row, matching: str
) -> dict[str, Any]:
    """Returns a row of scores with its protocol."""
    protocol, method = record["protocol"], config["method"]["name"]
    data = protocol["data"]
    if data == "packed":
        data = _source_of_packed(config["data"]["root"])
    refine = protocol.get("refine", "none")
    return {
        "data": data,
        "method": method if record["name"] == method else f"{method}: {record['name']}",
        **found,
        **_network(protocol, config["method"]),
        "split": _split(protocol["test_split"], data),
        "matching": matching,
        "CRF": "no" if refine == "none" else refine,
        "k": str(protocol.get("k", "")),
        "seed": str(protocol["seed"]),
        "checkpoint": f"{protocol['select']}, step {protocol['selected_step']}",
        "source": f"{protocol['label']}, trained on {protocol['train_split']}, "
        f"{protocol['steps']} steps",
    }


def _network(protocol: Mapping[str, Any], method: Mapping[str, Any]) -> Row:
    """Returns the columns on the network; "?" where an evaluation of old does not say."""
    if "weights" in protocol:
        return {name: protocol[name] for name in _NETWORK}
    if protocol["model"] not in ("trained", "untrained"):
        return dict.fromkeys(_NETWORK, "")
    if not method.get("weights"):
        return dict.fromkeys(_NETWORK, "?")
    file = pathlib.PurePath(method["weights"]).name
    return {"backbone": method["backbone"], "weights": f"{file} ({method['weights_sha256'][:8]})"}


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.2f}"


def _split(split: str, data: str) -> str:
    """Returns "val (500)", with a remark where the official split has another size."""
    name, _, count = split.rpartition(" (")
    official = CATALOGUE[data].expected.get(name) if data in CATALOGUE else None
    unlike = official is not None and str(official) != count.rstrip(")")
    return f"{split}, official: {official}" if unlike else split


def _source_of_packed(root: str) -> str:
    try:
        return read_manifest(root)["source"]
    except UserError:
        return "packed"


def render(measured: Sequence[Mapping[str, Any]]) -> str:
    """Returns the page, from the published results and rows of `measured_rows`."""
    tables = published_rows()
    for row in measured:
        # What has learned from labels stands by the name of the benchmark that it is a mark for.
        kind = HUNGARIAN if row["matching"] == SUPERVISED else row["matching"]
        key = (BENCHMARKS.get((row["data"], kind), row["data"]), row["matching"])
        shown = {name: str(value) for name, value in row.items() if name != "data"}
        tables.setdefault(key, []).append(shown | {"": "**measured**"})
    parts = [_HEAD]
    for (benchmark, matching), rows in tables.items():
        title = (
            benchmark if not matching or matching[:4] in benchmark else f"{benchmark}, {matching}"
        )
        parts.append(f"## {title}\n\n{_table(rows)}\n")
    return "\n".join(parts)


def _table(rows: Sequence[Row]) -> str:
    """Returns a Markdown table; its columns are those that any row fills, in a fixed order."""
    first = ("method", "", *_NETWORK, *_SCORES)
    last = (*(name for name in _PROTOCOL if name not in _NETWORK), "source")
    others = [name for row in rows for name in row if name not in (*first, *last)]
    columns = [*first, *dict.fromkeys(others), *last]
    columns = [name for name in columns if name == "" or any(row.get(name) for row in rows)]
    lines = [columns, ["---"] * len(columns), *([row.get(c, "") for c in columns] for row in rows)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def merge(
    kept: Iterable[Mapping[str, Any]], new: Iterable[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Returns the rows in a fixed order; a new row replaces one of the same run and protocol."""

    def identity(row: Mapping[str, Any]) -> tuple:
        return tuple(sorted((k, str(v)) for k, v in row.items() if k in _IDENTITY))

    rows = {identity(row): dict(row) for row in (*kept, *new)}
    return [rows[key] for key in sorted(rows)]


def main(argv: Sequence[str] | None = None) -> int:
    """Adds the runs of work directories to the rows beside the page, and writes the page."""
    parser = argparse.ArgumentParser(
        prog="python -m jaxseg.results", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("workdir", nargs="*", type=pathlib.Path, metavar="WORKDIR")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("docs/results.md"))
    arguments = parser.parse_args(argv)
    store = arguments.out.with_suffix(".json")
    kept = json.loads(store.read_text()) if store.exists() else []
    rows = merge(kept, (row for path in arguments.workdir for row in measured_rows(path)))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(store, json.dumps(rows, indent=1) + "\n")
    write_atomic(arguments.out, render(rows))
    print(f"{arguments.out}: {len(rows)} measured rows, kept in {store}")
    return 0
