"""The report of a run: WORKDIR/report/index.html, and its pictures as PNG files beside it.

Both are drawn from what the run has written. A section is a function from that to a value
(`contents`), to which later ones are added; `page` makes HTML of the values.
"""

import pathlib
from collections.abc import Sequence
from contextlib import AbstractContextManager

import matplotlib

from jaxseg.record import Result
from jaxseg.report import comparison, contents, figures, page
from jaxseg.report.contents import SECTIONS
from jaxseg.report.figures import strips
from jaxseg.report.parts import pictures
from jaxseg.report.recorded import Recorded
from jaxseg.writer import write_atomic

__all__ = ["PAGE", "SECTIONS", "compare", "figures", "strips", "write"]

PAGE = "index.html"


def write(workdir: pathlib.Path, results: Sequence[Result] | None = None) -> list[pathlib.Path]:
    """Writes the report of the run in `workdir`; returns its PNG files in order.

    `results` are those of one evaluation; default: all that lie in the work directory.

    Raises:
        UserError: a file of the run cannot be read.
    """
    run = Recorded.read(workdir, results)
    with _plain_text():
        sections = [section(run) for section in SECTIONS]
    directory = workdir / "report"
    directory.mkdir(exist_ok=True)
    paths = []
    for section in sections:
        for picture in pictures(section.parts):
            paths.append(directory / f"{picture.name}.png")
            paths[-1].write_bytes(picture.png)
    write_atomic(directory / PAGE, page.render(run.name, contents.summary(run), sections))
    return paths


def compare(workdirs: Sequence[pathlib.Path], out: pathlib.Path) -> None:
    """Writes a page `out` that shows the runs in work directories beside one another.

    Raises:
        UserError: a file of a run cannot be read.
    """
    found = [Recorded.read(workdir) for workdir in workdirs]
    runs = dict(zip(comparison.names_of(found), found, strict=True))
    with _plain_text():
        sections = comparison.sections(runs)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(out, page.render("Comparison", comparison.summary(runs), sections))


def _plain_text() -> AbstractContextManager[None]:
    """Makes matplotlib take names as they are: a class may be called "$x", which is no formula."""
    return matplotlib.rc_context({"text.parse_math": False})
