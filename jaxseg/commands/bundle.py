"""python -m jaxseg.bundle WORKDIR --out=FILE.safetensors

Makes one file of a trained run, with all that it takes to segment images: weights (of a frozen
backbone too), what evaluation fitted, and the names of the classes. jaxseg.load(FILE) and
python -m jaxseg.predict --model=FILE take it for the work directory. It holds arrays and JSON;
nothing in it is executed.
"""

import argparse
import pathlib
import sys

from jaxseg.core import UserError
from jaxseg.trained import Trained


def main(argv: list[str]) -> None:
    """Runs the command line; exits with a message for what a user can mend."""
    parser = argparse.ArgumentParser(
        prog="python -m jaxseg.bundle", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("workdir", help="of a run that was trained and evaluated")
    parser.add_argument("--out", required=True, help="the file to write (.safetensors)")
    parser.add_argument("--entry", default="", help="the entry of evals that names the pixels")
    arguments = parser.parse_args(argv)
    try:
        print(bundle(arguments.workdir, arguments.out, arguments.entry))
    except UserError as error:
        sys.exit(f"jaxseg: {error}")


def bundle(workdir: str, out: str, entry: str = "") -> str:
    """Writes the file, atomically, and returns a line about it.

    Raises:
        UserError: as `Trained.load`, or the file cannot be written.
    """
    path = pathlib.Path(out)
    if path.suffix != ".safetensors" or not path.parent.is_dir():
        raise UserError(f"--out is {out!r}; give a .safetensors file in a folder that exists.")
    trained = Trained.load(workdir, entry)
    try:
        sha256 = trained.save(path)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error}.") from error
    size = path.stat().st_size / 2**20
    return f"{path}: {', '.join(trained.names)}; {size:.1f} MiB, sha256 {sha256[:12]}"
