"""The import rule: which part of jaxseg may import which."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1] / "jaxseg"

# A part is a module or a package directly below jaxseg. Parts that are not listed import anything.
ALLOWED = {
    "core": set(),
    "processes": set(),
    "optim": {"core"},
    "losses": {"clustering"},
    "views": set(),
    "clustering": set(),
    "models": {"core", "clustering"},
    "boundaries": {"core", "models"},
    "methods": {"core", "models", "losses", "clustering", "views"},
    "data": {"core", "views", "boundaries", "sharding"},
    "evaluation": {"core", "clustering"},
    "refine": {"core", "clustering"},
    "checkpoint": {"core"},
    "writer": set(),
    "sharding": {"core"},
    "train": {"core", "checkpoint", "writer", "sharding"},
    "record": {"writer"},
    "evaluate": {"core", "evaluation", "refine", "record"},
    "evaluate_hierarchy": {"core", "evaluation", "record"},
    "report": {"core", "record", "sections", "writer"},
}
NARROWER = {"evaluation/scores.py": set(), "evaluation/matching.py": set()}


def imported(path: pathlib.Path) -> set[str]:
    """Names of modules of jaxseg, below it, that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.removeprefix("jaxseg.") for name in found if name.startswith("jaxseg.")}


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_one_way(path):
    place = path.relative_to(ROOT)
    part = place.parts[0].removesuffix(".py")
    if part not in ALLOWED:
        return
    # What is true of all processes concerns every part.
    allowed = {"processes"} | NARROWER.get(str(place), ALLOWED[part] | {part})
    breaches = {name for name in imported(path) if name.split(".")[0] not in allowed}
    if part == "methods" and path.name != "__init__.py":
        # A method knows no other method, but may have a base in common with it.
        others = {name for name in imported(path) if name.startswith("methods")}
        breaches |= {name for name in others if not name.startswith("methods.segment_method.")}
    assert not breaches, f"{place} imports {sorted(breaches)}; it may import {sorted(allowed)}"


def test_there_is_no_module_without_a_meaning():
    assert not [p for p in ROOT.rglob("*.py") if p.stem in ("utils", "helpers", "misc", "common")]
