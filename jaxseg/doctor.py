"""What would go wrong in a run, before it: python -m jaxseg.doctor --config=configs/x.py

The config and its overrides (--config.data.root=DIR) are given as to jaxseg.main, and --workdir,
where the run is to live. Prints a line for each check, ok, warning or problem, and exits with 1
where a problem would stop or spoil the run. --json prints the same as JSON; --all reads all images
rather than for --seconds; --nomemory leaves out the step's memory, for which it is compiled.
"""

import dataclasses
import json
import math
import sys
import textwrap

from absl import app, flags, logging

from jaxseg import compiled
from jaxseg import main as training
from jaxseg.commands.doctor import Doctor
from jaxseg.commands.doctor_parts import Check
from jaxseg.core import UserError

_JSON = flags.DEFINE_bool("json", False, "Print the checks as JSON.")
_ALL = flags.DEFINE_bool("all", False, "Read all images and labels.")
_SECONDS = flags.DEFINE_float("seconds", 10.0, "That reading images may take.", lower_bound=0.0)
_MEMORY = flags.DEFINE_bool("memory", True, "Compile a step to estimate its memory.")


def main(argv: list[str]) -> None:
    """Runs the checks; exits with 1 where there is a problem.

    Raises:
        UserError: the flags are wrong.
    """
    config, workdir = training.given(argv)
    logging.set_verbosity(logging.ERROR)
    compiled.keep()
    seconds = math.inf if _ALL.value else _SECONDS.value
    doctor = Doctor(config, workdir, seconds, _MEMORY.value)
    if _JSON.value:
        print(json.dumps([dataclasses.asdict(check) for check in doctor.checks], indent=2))
    else:
        print(format_checks(doctor.checks))
    sys.exit(0 if doctor.healthy else 1)


def format_checks(checks: list[Check]) -> str:
    """Returns a line for each check, what to do below it, and a line that sums up."""
    lines = []
    for check in checks:
        rest = f" -> {check.remedy}" if check.remedy else ""
        text = f"{check.status:<8} {check.subject}: {check.text}{rest}"
        lines += [
            textwrap.fill(part, 100, initial_indent=" " * 9 * (i > 0), subsequent_indent=" " * 9)
            for i, part in enumerate(text.splitlines())
        ]
    counts = [sum(c.status == status for c in checks) for status in ("ok", "warning", "problem")]
    return "\n".join([*lines, "", f"{counts[0]} ok, {counts[1]} warnings, {counts[2]} problems"])


def run_main() -> None:
    """Runs `main`; what a user can mend ends in one message and exit status 1."""
    try:
        app.run(main, flags_parser=training.parse_flags)
    except UserError as error:
        sys.exit(f"jaxseg: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    run_main()
