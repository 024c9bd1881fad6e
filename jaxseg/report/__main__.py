"""Draws the report of a finished run again: python -m jaxseg.report WORKDIR..."""

import pathlib
import sys

from jaxseg import report

if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python -m jaxseg.report WORKDIR...")
    for directory in sys.argv[1:]:
        if not (pathlib.Path(directory) / "metrics.jsonl").exists():
            sys.exit(f"{directory} holds no run: it has no metrics.jsonl.")
        print("\n".join(str(path) for path in report.write(pathlib.Path(directory))))
