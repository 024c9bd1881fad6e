"""The annotation files of COCO: reading one, and finding the images that it names."""

import json
import os
from collections.abc import Iterable, Sequence
from typing import Any

from jaxseg.core import UserError
from jaxseg.data.folder import few
from jaxseg.data.labelled import list_folder


def read_annotations(path: str, **fields: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Returns the lists of a COCO annotation file, such as "images" and "annotations".

    The whole file is parsed in memory, which takes several times its size.

    Args:
      path: the JSON file.
      fields: for each list that is needed, the fields that every one of its records must have.

    Raises:
      UserError: the file is missing, truncated, no JSON, or lacks a list or a field.
    """
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:  # JSON and UTF-8 errors
        raise UserError(
            f"{path} ({os.path.getsize(path):,} bytes) is damaged or truncated: {error}. "
            "Unpack or download it again"
        ) from error
    lists = {}
    for name, needed in fields.items():
        records = content.get(name) if isinstance(content, dict) else None
        if not isinstance(records, list):
            raise UserError(f"{path} has no list {name!r}; expected a COCO annotation file")
        for number, record in enumerate(records):
            lacking = [f for f in needed if not isinstance(record, dict) or f not in record]
            if lacking:
                raise UserError(
                    f"{path}: {name}[{number}] has no {lacking[0]!r}; expected a COCO annotation "
                    f"file whose {name} have {', '.join(needed)}"
                )
        lists[name] = records
    return lists


def require_files(top: str, names: Iterable[str], source: str, remedy: str) -> None:
    """Raises UserError unless all `names` are files below `top`; lists each folder once.

    Args:
      top: root of the data set.
      names: paths below it.
      source: what names them, for the message.
      remedy: what to do about missing ones.
    """
    wanted = list(names)
    there: set[str] = set()
    for folder in {os.path.dirname(name) for name in wanted}:
        there |= {os.path.join(folder, n) for n in list_folder(os.path.join(top, folder))}
    if missing := [name for name in wanted if name not in there]:
        raise UserError(
            f"{len(missing)} of {len(wanted)} files that {source} names are not in data.root "
            f"{top}: {few(missing)}. {remedy}"
        )
