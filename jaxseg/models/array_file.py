"""Named arrays in one safetensors file, with metadata and a hash of all of it.

Nothing in such a file is executed when it is read. The metadata holds "format", which says what the
arrays are, and "sha256" over all else in the file.
"""

import hashlib
import json
import os
import pathlib
from collections.abc import Mapping

import numpy as np
import safetensors
import safetensors.numpy

from jaxseg.core import UserError


def write_arrays(
    path: pathlib.Path, arrays: Mapping[str, np.ndarray], meta: Mapping[str, str], form: str
) -> str:
    """Writes a file of the format `form`, atomically, and returns its sha256."""
    kept = {key: value for key, value in meta.items() if key != "sha256"} | {"format": form}
    kept["sha256"] = digest(arrays, kept)
    flat = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    content = safetensors.numpy.save(flat, metadata=kept)
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    return kept["sha256"]


def read_arrays(
    path: pathlib.Path, form: str, what: str, remedy: str
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Returns (arrays, metadata) of a file of the format `form`, its hash checked.

    Args:
        path: of the file.
        form: the format that is expected.
        what: the file is, in messages.
        remedy: what to do about a file of another format.

    Raises:
        UserError: there is no such file, it is of another format, or it was altered or cut.
    """
    if not path.is_file():
        raise UserError(f"There is no {what} {path}; {remedy}")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            meta = file.metadata() or {}
            if meta.get("format") != form:
                raise UserError(
                    f"{path} is no {what} of jaxseg (format {meta.get('format')!r}, expected "
                    f"{form!r}); {remedy}"
                )
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if digest(arrays, meta) != meta["sha256"]:
            raise ValueError("its contents do not have the hash that it was written with")
    except (safetensors.SafetensorError, OSError, KeyError, ValueError) as error:
        raise UserError(
            f"The {what} {path} is damaged: {error}. Write or copy it again."
        ) from error
    return arrays, meta


def digest(arrays: Mapping[str, np.ndarray], meta: Mapping[str, str]) -> str:
    """Returns the sha256 of metadata and arrays: names, types, shapes and bytes."""
    found = hashlib.sha256(
        json.dumps(sorted((k, v) for k, v in meta.items() if k != "sha256")).encode()
    )
    for name in sorted(arrays):
        array = arrays[name]
        found.update(json.dumps([name, array.dtype.str, array.shape]).encode())
        found.update(array.tobytes())
    return found.hexdigest()
