"""Writes the report of runs, and of several a page that compares them.

python -m jaxseg.report WORKDIR... [--out=FILE]
"""

import argparse
import pathlib
import sys

from jaxseg import report
from jaxseg.core import UserError
from jaxseg.report.recorded import find_runs


def main(argv: list[str]) -> None:
    """Runs the command line; raises UserError for a folder that holds no run."""
    parser = argparse.ArgumentParser(
        prog="python -m jaxseg.report", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("workdirs", nargs="+", type=pathlib.Path, metavar="WORKDIR")
    parser.add_argument(
        "--out", type=pathlib.Path, default=None, metavar="FILE",
        help="the page that compares several runs (default: comparison.html)",
    )  # fmt: skip
    arguments = parser.parse_args(argv)
    workdirs: list[pathlib.Path] = []
    for workdir in arguments.workdirs:
        # The same folder twice is one run.
        if not any(workdir.resolve() == other.resolve() for other in workdirs):
            workdirs.append(workdir)
    find_runs(workdirs)
    if arguments.out is not None and len(workdirs) == 1:
        raise UserError(
            f"--out names the page that compares runs, but there is only {workdirs[0]}; give "
            "another work directory beside it, or leave --out away."
        )
    for workdir in workdirs:
        report.write(workdir)
        print(workdir / "report" / report.PAGE)
    if len(workdirs) > 1:
        out = arguments.out or pathlib.Path("comparison.html")
        report.compare(workdirs, out)
        print(out)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(f"jaxseg: {error}")
