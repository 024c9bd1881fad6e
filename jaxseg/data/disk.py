"""Files that are whole or not there, a lock between processes, and the error of a full disk.

`field` is the field of the config, or the option, that names the folder, for the messages.
"""

import contextlib
import errno
import fcntl
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import IO

from absl import logging

from jaxseg.core import UserError

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


@contextlib.contextmanager
def locked(folder: pathlib.Path, field: str, busy: str = "") -> Iterator[bool]:
    """Makes the folder and holds its lock; waits for it. A killed process gives its lock back.

    Yields false where the file system has no locks: others may be at work in the folder.
    Raises UserError if the folder cannot be written; and, with the message `busy` where there is
    one, in the place of waiting.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / "lock").open("wb")
    except OSError as error:
        raise UserError(
            f"{field}: cannot write below {folder}: {error.strerror}. Give a folder that can be "
            "written"
        ) from error
    with file:
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                if busy:
                    raise UserError(busy) from error
                logging.warning("another process writes %s; waiting for it", folder)
                fcntl.flock(file, fcntl.LOCK_EX)
            alone = True
        except OSError:
            alone = False
        yield alone


@contextlib.contextmanager
def new_file(path: pathlib.Path, needed: int, field: str) -> Iterator[IO[bytes]]:
    """Opens a file that gets its name once it is written and on the disk; else it is removed.

    Raises UserError, which says that `needed` bytes are wanted, if the disk is full.
    """
    temporary = path.with_name(f"{path.name}.{os.urandom(6).hex()}.tmp")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in _NO_SPACE:
            free = shutil.disk_usage(path.parent).free
            raise too_full(path.parent, needed, free, field) from error
        raise


def require_room(folder: pathlib.Path, needed: int, field: str) -> None:
    """Raises UserError unless the disk of a folder that is there has `needed` bytes free."""
    if (free := shutil.disk_usage(folder).free) < needed:
        raise too_full(folder, needed, free, field)


@contextlib.contextmanager
def writing(folder: pathlib.Path, field: str, kept: str) -> Iterator[None]:
    """Turns what the system refuses inside into a UserError; `kept` says what is not lost."""
    try:
        yield
    except OSError as error:
        if error.errno in _NO_SPACE:
            raise UserError(
                f"{field}: no room is left in {folder}. Make room, and give the same command again "
                f"to go on: {kept}"
            ) from error
        raise UserError(
            f"{field}: cannot write to {folder}: {error.strerror or error}. Mend that, or give "
            f"another folder; {kept}"
        ) from error


def too_full(folder: pathlib.Path, needed: int, free: int, field: str) -> UserError:
    """Returns the error of a disk that has `free` bytes where `needed` are wanted."""
    return UserError(
        f"{field}: the disk of {folder} is full: what is still to be written there needs "
        f"{needed:,} bytes ({needed / 2**30:.1f} GiB), and {free:,} are free. Free some space, or "
        f"name a folder on another disk in {field}"
    )
