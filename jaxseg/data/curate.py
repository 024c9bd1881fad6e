"""Lists of images chosen by a rule, computed once over a whole data set and kept as text files.

A list file is named after the rule and a hash of all that it was computed from (`key`), so that a
list of other files is never taken for the list of these. While it is computed, verdicts are added
to a file that ends in ".part", from which a killed run goes on.
"""

import concurrent.futures
import contextlib
import functools
import hashlib
import os
import time
from collections.abc import Callable, Iterable, Sequence

from absl import logging

from jaxseg.core import UserError

_CHUNK = 512  # images judged between two writes
_REPORT_SECONDS = 10.0
# Names of files need not be UTF-8.
_open = functools.partial(open, encoding="utf-8", errors="surrogateescape", newline="\n")


def key_of(rule: str, files: Iterable[str]) -> str:
    """Returns a hash of the rule's text and of the name, size and time of change of every file."""
    digest = hashlib.sha256(rule.encode())
    for path in files:
        status = os.stat(path)
        line = f"\n{os.path.basename(path)} {status.st_size} {status.st_mtime_ns}"
        digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]


def chosen(
    directory: str,
    stem: str,
    rule: str,
    key: str,
    names: Sequence[str],
    keep: Callable[[int], bool],
    threads: int = 0,
) -> tuple[str, ...]:
    """Returns the names that a rule keeps, in their order; from its list file, if it was computed.

    Args:
      directory: where list files are; made if missing.
      stem: start of the file's name, such as "curated7_train".
      rule: the rule in words, for the head of the file.
      key: of `key_of`, the end of the file's name.
      names: of all images, one line each.
      keep: the rule: whether to keep image i; may run in any thread.
      threads: that run it; 0 = one a processor.

    Raises:
      UserError: the directory cannot be written, the list file names other images, or what `keep`
        raises; the verdicts up to there are kept.
    """
    path = os.path.join(directory, f"{stem}-{key}.txt")
    if os.path.exists(path):
        return _from_file(path, names)
    part = path + ".part"
    try:
        os.makedirs(directory, exist_ok=True)
        verdicts = _verdicts(part)
        _append(part, "")
    except OSError as error:
        raise UserError(
            f"data.lists_dir: cannot write {part}: {error.strerror}. The list of images chosen by "
            f"the rule {stem!r} is kept there; set data.lists_dir to a folder that can be written, "
            "or give a list file in the place of the rule"
        ) from error
    _judge(part, stem, names, verdicts, keep, threads)
    kept = [name for name in names if verdicts[name]]
    head = f"# {rule}\n# {len(kept)} of {len(names)} images\n"
    temporary = f"{path}.{os.getpid()}.tmp"
    with _open(temporary, "w") as whole:
        whole.write(head + "".join(f"{name}\n" for name in kept))
    os.replace(temporary, path)
    with contextlib.suppress(FileNotFoundError):  # another process may have computed the same
        os.remove(part)
    logging.info("%s: %d of %d images chosen; the list is %s", stem, len(kept), len(names), path)
    return tuple(kept)


def _append(path: str, text: str) -> None:
    with _open(path, "a") as file:
        file.write(text)


def _judge(
    part: str,
    stem: str,
    names: Sequence[str],
    verdicts: dict[str, bool],
    keep: Callable[[int], bool],
    threads: int,
) -> None:
    """Adds the verdicts that are missing, to the file as well."""
    left = [index for index, name in enumerate(names) if name not in verdicts]
    reported = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
        for start in range(0, len(left), _CHUNK):
            chunk = left[start : start + _CHUNK]
            results = dict(zip(chunk, pool.map(keep, chunk), strict=True))
            verdicts |= {names[index]: kept for index, kept in results.items()}
            text = "".join(f"{int(kept)} {names[index]}\n" for index, kept in results.items())
            _append(part, text)
            if time.monotonic() - reported > _REPORT_SECONDS:
                reported = time.monotonic()
                done = len(names) - len(left) + start + len(chunk)
                logging.info("%s: %d of %d images judged", stem, done, len(names))


def _verdicts(part: str) -> dict[str, bool]:
    """Returns what an unfinished file holds; drops a last line that a kill cut off."""
    if not os.path.exists(part):
        return {}
    with open(part, "rb+") as file:
        text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        file.truncate(len(whole))
    rows = (line.partition(" ") for line in whole.decode("utf-8", "surrogateescape").split("\n"))
    return {name: mark == "1" for mark, _, name in rows if mark in ("0", "1")}


def _from_file(path: str, names: Sequence[str]) -> tuple[str, ...]:
    with _open(path) as file:
        listed = {line.rstrip("\n") for line in file if not line.startswith("#")}
    if unknown := listed.difference(names):
        raise UserError(
            f"the list {path} names {min(unknown)}, which is not among the {len(names)} images it "
            "was made of: it was changed by hand. Delete it, and it is computed again; give a list "
            "of your own as a list file in the config"
        )
    return tuple(name for name in names if name in listed)
