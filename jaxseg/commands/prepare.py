"""What is behind python -m jaxseg.prepare: list, check, pack and cut data sets, make regions."""

import argparse
import ast
import contextlib
import dataclasses
import functools
import inspect
import os
import pathlib
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxseg.commands.bar import Bar
from jaxseg.commands.check import check, format_findings
from jaxseg.commands.pack import SHARD_BYTES, Packer
from jaxseg.commands.regions import add_parser as add_regions_parser
from jaxseg.core import UserError
from jaxseg.data import SOURCES
from jaxseg.data.catalogue import CATALOGUE, Entry
from jaxseg.data.packed import read_manifest
from jaxseg.data.potsdam_tiles import prepare_potsdam
from jaxseg.data.source import Source
from jaxseg.sections import call, check_keys, pick

# Reading examples may take this long, so that a check is over within a minute.
_SECONDS = 30.0
# Fields of the sources that have lists of images made by a rule; each takes "all", too.
_LISTS = ("train_list", "val_list", "people_list")


def run_list(arguments: argparse.Namespace) -> int:
    """Prints what is known of every data set, or of one."""
    names = [arguments.name] if arguments.name else sorted(CATALOGUE)
    for name in names:
        entry = pick("NAME", name, CATALOGUE)
        counts = ", ".join(f"{split} {count:,}" for split, count in entry.expected.items())
        print(f"{name}: {entry.title}")
        for title, text in (
            ("layout", entry.layout),
            ("classes", entry.classes),
            ("images", counts),
            ("rule", entry.rule),
            ("licence", entry.licence),
            ("tested", entry.tested),
        ):
            if text:
                print(textwrap.fill(text, 96, initial_indent=f"    {title + ':':<9}",
                                    subsequent_indent=" " * 13))  # fmt: skip
    return 0


def run_check(arguments: argparse.Namespace) -> int:
    """Checks the splits of a data set; returns 0 only where all is right."""
    opener, fields = _opener(arguments)
    entry = _entry(arguments)
    listed = [name for name in _LISTS if name in inspect.signature(opener).parameters]
    if entry.complete and not arguments.lists and not set(listed) & set(fields):
        # Making such a list reads every label, which takes minutes.
        fields |= dict.fromkeys(listed, "all")
        entry = dataclasses.replace(entry, expected=entry.complete)
        print(
            "All images that the list is chosen from are checked. --lists makes the list, which "
            f"takes minutes, and checks its images instead: {entry.rule}."
        )
    # All damaged files are to be found at once, and counted.
    for field, value in (("on_corrupt", "skip"), ("check", "headers")):
        if field in inspect.signature(opener).parameters:
            fields.setdefault(field, value)
    optional = CATALOGUE[arguments.name].optional if arguments.split is None else {}
    splits = {
        split: functools.partial(call, "data", opener, fields, split=split)
        for split in [*_splits(arguments), *optional]
    }
    findings = check(splits, entry, arguments.seconds, _absent(arguments.root, optional))
    print(format_findings(findings))
    wrong = sum(finding.wrong for finding in findings)
    print(f"\n{arguments.name}: {f'{wrong} things are wrong' if wrong else 'all is right'}.")
    return int(wrong > 0)


def run_pack(arguments: argparse.Namespace) -> int:
    """Packs the splits of a data set."""
    if arguments.name == "packed":
        raise UserError("NAME is 'packed'; give the data set that is to be packed")
    opener, fields = _opener(arguments)
    splits: dict[str, Source] = {}
    for split in _splits(arguments):
        try:
            splits[split] = call("data", opener, fields, split=split)
        except UserError as error:
            raise UserError(
                f"{error}\nTo pack only the splits that you have: --split=A,B"
            ) from error
    packer = Packer(
        out=pathlib.Path(arguments.out).expanduser(),
        source=arguments.name,
        fields={key: value for key, value in fields.items() if key != "root"},
        channels=fields.get("channels", 3),
        shard_bytes=int(arguments.shard_mib * 2**20),
        rule=CATALOGUE[arguments.name].rule,
        decoded=arguments.decoded,
    )
    manifest = packer.pack(splits, arguments.regions)
    total = sum(
        shard["bytes"] for entry in manifest["splits"].values() for shard in entry["shards"]
    )
    print(
        f"{arguments.out}: {total / 2**20:,.1f} MiB in "
        f"{sum(len(entry['shards']) for entry in manifest['splits'].values())} shard(s). Use it "
        f"with --config.data.name=packed --config.data.root={arguments.out}"
    )
    return 0


def run_tiles(arguments: argparse.Namespace) -> int:
    """Cuts Potsdam's large images into the tiles that the methods were trained on."""
    with contextlib.ExitStack() as stack:
        bars: list[Bar] = []

        def report(done: int, total: int) -> None:
            if not bars:
                bars.append(stack.enter_context(Bar("cutting", total)))
            bars[0].add()

        counts = prepare_potsdam(
            arguments.root,
            arguments.out,
            bands=arguments.bands,
            seed=arguments.seed,
            lists=arguments.lists,
            report=report,
        )
    print(", ".join(f"{name}: {count} tiles" for name, count in counts.items()))
    return 0


def _opener(arguments: argparse.Namespace) -> tuple[Callable[..., Source], dict[str, Any]]:
    """Returns the function that opens the data set, and its fields but for the split."""
    opener = pick("NAME", arguments.name, SOURCES)
    fields = dict(_field(word) for word in arguments.set)
    parameters = inspect.signature(opener).parameters
    check_keys("data", fields, set(parameters) - {"split", "root"})
    if "root" in parameters:
        if not arguments.root:
            raise UserError(f"--root is missing; give the folder of {arguments.name}")
        fields["root"] = arguments.root
    return opener, fields


def _field(word: str) -> tuple[str, Any]:
    """Returns (field, value) of FIELD=VALUE; a value that is no Python literal is text."""
    field, equals, text = word.partition("=")
    if not equals:
        raise UserError(f"--set {word!r}: expected FIELD=VALUE, such as --set channels=4")
    try:
        return field, ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return field, text


def _splits(arguments: argparse.Namespace) -> Sequence[str]:
    if arguments.split is not None:
        return list(dict.fromkeys(arguments.split.split(",")))
    if arguments.name == "packed":
        return list(read_manifest(str(pathlib.Path(arguments.root).expanduser()))["splits"])
    return CATALOGUE[arguments.name].splits


def _absent(root: str, optional: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """Returns the places of each optional split of which none is there."""
    top = os.path.expanduser(root)
    return {
        split: " nor ".join(places)
        for split, places in optional.items()
        if not any(os.path.exists(os.path.join(top, place)) for place in places)
    }


def _entry(arguments: argparse.Namespace) -> Entry:
    """Returns what is known of a data set; of a packed one, what is known of what was packed."""
    name = arguments.name
    if name == "packed":
        name = read_manifest(str(pathlib.Path(arguments.root).expanduser()))["source"]
    return pick("the source of the packed set", name, CATALOGUE)


def make_parser() -> argparse.ArgumentParser:
    """Returns the parser; each subcommand sets `run`, which returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m jaxseg.prepare", description=__doc__)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    listing = commands.add_parser("list", help="what data sets there are, and where to get them")
    listing.add_argument("name", nargs="?", metavar="NAME")
    listing.set_defaults(run=run_list)
    checking = _add_command(commands, "check", run_check, "is a download complete and right?")
    checking.add_argument(
        "--seconds",
        type=float,
        default=_SECONDS,
        help="for reading examples (default: %(default)s)",
    )
    checking.add_argument(
        "--lists",
        action="store_true",
        help="make curated lists of images and compare their counts; reads every label map once",
    )
    packing = _add_command(commands, "pack", run_pack, "write shards that read fast")
    packing.add_argument("--out", required=True, help="folder of the shards")
    packing.add_argument(
        "--regions", default="", help="folder of region PNGs that mirrors the images"
    )
    packing.add_argument(
        "--shard-mib", type=float, default=SHARD_BYTES / 2**20, help="size of a shard (%(default)s)"
    )
    packing.add_argument(
        "--decoded", action="store_true", help="keep pixels: faster to read, many times the room"
    )
    tiling = commands.add_parser("tiles", help="cut the images of ISPRS Potsdam into tiles")
    tiling.add_argument("--root", required=True, help="folder of the release, or of IIC's archive")
    tiling.add_argument("--out", default="", help="folder of the tiles (ROOT/tiles)")
    tiling.add_argument("--seed", type=int, default=0, help="of the test tiles (%(default)s)")
    tiling.add_argument(
        "--lists", default="", help="folder of the lists of tiles, in the place of a draw"
    )
    tiling.add_argument("--bands", default="", help="RGBIR, RGB or IRRG (the first that is there)")
    tiling.set_defaults(run=run_tiles)
    add_regions_parser(commands)
    return parser


def _add_command(commands: Any, name: str, run: Callable, text: str) -> argparse.ArgumentParser:
    """Adds a subcommand that opens a data set."""
    command = commands.add_parser(name, help=text)
    command.add_argument("name", metavar="NAME", help="as `list` gives it")
    command.add_argument("--root", default="", help="folder of the data set")
    command.add_argument("--split", help="A,B: these splits (default: those of the data set)")
    command.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", help="a field of the data set"
    )
    command.set_defaults(run=run)
    return command


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a subcommand; returns the exit status. Raises UserError for what a user can mend."""
    arguments = make_parser().parse_args(argv)
    return arguments.run(arguments)


def run_main() -> None:
    """Runs `main`; what a user can mend ends in one message and exit status 1."""
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"jaxseg: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
