"""Names that people give to the clusters of a run: WORKDIR/names.json, which `jaxseg.load` reads.

They belong to the clusters of one entry of `evals` as they were fitted: those of a run that was
trained or evaluated anew are other clusters, and the names are left alone.
"""

import json
import pathlib
from collections.abc import Callable, Sequence

from absl import logging

from jaxseg.core import UserError
from jaxseg.writer import write_atomic

FILE = "names.json"
_LONGEST = 80  # letters


def given_names(workdir: pathlib.Path, entry: str, clusters: Callable[[], str]) -> list[str]:
    """Returns the names of an entry's clusters; [] where none were given to them.

    Args:
        entry: of `evals`; "" = the method's own clusters, never evaluated.
        clusters: finds what stands for them, `Trained.clusters`; asked only where there are names.

    Raises:
        UserError: the file is not what `keep_names` wrote.
    """
    found = _read(workdir / FILE).get(entry)
    if found is None:
        return []
    if found["clusters"] != clusters():
        logging.warning(
            "%s names clusters that the run has no longer, for it was evaluated again; the names "
            "are not used.", workdir / FILE,
        )  # fmt: skip
        return []
    return found["names"]


def keep_names(workdir: pathlib.Path, entry: str, clusters: str, names: Sequence[str]) -> None:
    """Writes the names of an entry's clusters, atomically, beside those of other entries."""
    found = _read(workdir / FILE) | {entry: {"clusters": clusters, "names": list(names)}}
    write_atomic(workdir / FILE, json.dumps(found, indent=2) + "\n")


def check_names(names: object, count: int) -> list[str]:
    """Returns `count` names without blanks around them.

    Raises:
        UserError: there are others than that, or one is empty, too long, or not to be printed.
    """
    if not isinstance(names, list) or len(names) != count:
        raise UserError(f"There are {count} clusters; give a list of {count} names.")
    for number, name in enumerate(names):
        if not isinstance(name, str) or not 0 < len(name.strip()) <= _LONGEST:
            raise UserError(
                f"The name of cluster {number} is {name!r}; give one of 1 to {_LONGEST} letters."
            )
        if not name.strip().isprintable():
            raise UserError(f"The name of cluster {number} is {name!r}; it holds control letters.")
    return [name.strip() for name in names]


def _read(path: pathlib.Path) -> dict[str, dict]:
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text())
        for entry in found.values():
            check_names(entry["names"], len(entry["names"]))
            entry["clusters"].strip()
        return found
    except (ValueError, TypeError, KeyError, AttributeError, UserError) as error:
        raise UserError(
            f"{path} holds no names of clusters ({error}); delete it, and give the names again "
            "(python -m jaxseg.demo)."
        ) from error
