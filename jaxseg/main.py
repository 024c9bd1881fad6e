"""Train and evaluate: python -m jaxseg.main --config=configs/infoseg_scenes.py

Flags: --config (with overrides such as --config.optim.learning_rate=3e-4), --workdir (default
runs/CONFIG) and --mode (train, evaluate what a work directory holds, robustness of the same,
suggest_thresholds, or sweep_k).
Starting again with the same command goes on where the run stopped.
"""

import itertools
import os
import pathlib
import runpy
import signal
import sys
import traceback

import jax
from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from jaxseg import compiled, memory, processes, record, report, robustness, thresholds
from jaxseg.core import UserError
from jaxseg.run import Run
from jaxseg.sections import check_keys
from jaxseg.sweep import command as sweep
from jaxseg.sweep.measures import CLUSTERS, Settings

CONFIG = config_flags.DEFINE_config_file("config", None, "The config file.")
WORKDIR = flags.DEFINE_string("workdir", None, "Where the run lives; default: runs/CONFIG.")
MODE = flags.DEFINE_enum(
    "mode",
    "train",
    ["train", "evaluate", "robustness", "suggest_thresholds", "sweep_k"],
    "Train, evaluate a run, score it on disturbed test images, search SmooSeg's thresholds by "
    "short runs, or look for the number of clusters; the last two without labels.",
)
TRIAL_STEPS = flags.DEFINE_integer(
    "trial_steps",
    300,
    "Steps of each short run of --mode=suggest_thresholds or --mode=sweep_k.",
    lower_bound=1,
)
SWEEP_CLUSTERS = flags.DEFINE_list(
    "sweep_clusters", list(map(str, CLUSTERS)), "Numbers that --mode=sweep_k tries."
)
SWEEP_SEEDS = flags.DEFINE_integer(
    "sweep_seeds", 3, "Clusterings or runs of --mode=sweep_k with each number.", lower_bound=2
)
SWEEP_ENTRY = flags.DEFINE_string(
    "sweep_entry",
    "",
    "Entry of evals, with probe='cluster', that --mode=sweep_k probes; default: short runs of a "
    "method that has `clusters` among its fields, else the first such entry of the trained model.",
)


DISTRIBUTED = flags.DEFINE_bool(
    "distributed",
    False,
    "Join the processes that Slurm, Open MPI or a Cloud TPU started with this one; elsewhere the "
    "environment says which: JAXSEG_COORDINATOR, JAXSEG_PROCESSES and JAXSEG_PROCESS.",
)


class StopSignal:
    """Inside its `with`, SIGTERM and Ctrl-C mean "save, then stop"; a second Ctrl-C interrupts."""

    def __init__(self):
        self.received: int | None = None  # the first of them
        self._interrupted = False

    def __enter__(self):
        numbers = (signal.SIGTERM, signal.SIGINT)
        self._before = {number: signal.signal(number, self._receive) for number in numbers}
        return self

    def __exit__(self, *error):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number, frame):
        del frame
        if number == signal.SIGINT:
            if self._interrupted:
                raise KeyboardInterrupt
            self._interrupted = True
        if self.received is None:
            self.received = number
            print("\nStopping after this step, to save it.", file=sys.stderr, flush=True)

    def __call__(self) -> bool:
        return self.received is not None


def given(argv: list[str]) -> tuple[ConfigDict, pathlib.Path]:
    """Returns the config and the work directory that the flags give.

    Raises:
        UserError: there is no config, or there are words that are no flags.
    """
    if len(argv) > 1:
        raise UserError(f"Unexpected argument {argv[1]!r}; flags have the form --name=value.")
    if CONFIG.value is None:
        raise UserError("Give a config: --config=configs/infoseg_scenes.py")
    name = pathlib.Path(config_flags.get_config_filename(flags.FLAGS["config"]))
    return CONFIG.value, pathlib.Path(WORKDIR.value or pathlib.Path("runs") / name.stem)


def main(argv: list[str]) -> None:
    """Runs the config of --config; raises UserError for what a user can mend."""
    config, workdir = given(argv)
    if not flags.FLAGS["verbosity"].present:
        # jax tells of every backend that it does not find, Orbax of every file that it writes.
        logging.set_verbosity(logging.WARNING)
    memory.keep()
    try:
        processes.join(detect=DISTRIBUTED.value)
    except (ValueError, RuntimeError) as error:
        raise UserError(f"The processes could not be joined: {error}") from error
    compiled.keep()
    if not processes.is_first():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - to the end of the process
    if MODE.value == "suggest_thresholds":
        suggestion = thresholds.search(config, workdir / "thresholds", TRIAL_STEPS.value)
        print(suggestion.table())
        return
    if MODE.value == "sweep_k":
        settings = Settings(
            clusters=sweep.parse_clusters(SWEEP_CLUSTERS.value),
            seeds=SWEEP_SEEDS.value,
            steps=TRIAL_STEPS.value,
            entry=SWEEP_ENTRY.value,
        )
        print(sweep.sweep_config(config, workdir, settings).table())
        return
    run = Run(config, workdir, MODE.value)
    print(run.describe(), flush=True)
    if MODE.value == "robustness":
        print(robustness.of_run(run))
        return
    if MODE.value == "train":
        with StopSignal() as stop:
            done = run.fit(stop)
            # A signal may have come to another process, or after the last step.
            stopped = processes.any_of(stop())
        if stopped or not done:
            logging.warning("Stopped by a signal and saved; the same command goes on from there.")
            sys.exit(128 + (stop.received or signal.SIGTERM))
    print(record.score_table(run.evaluate()))
    print(f"Report: {workdir / 'report' / report.PAGE}")


def parse_flags(argv: list[str]) -> list[str]:
    """Parses the command line; raises UserError for a config file or field that is not there."""
    # Both forms: --config=FILE and --config FILE.
    words = [part for word in argv for part in word.split("=", 1)]
    named = [value for name, value in itertools.pairwise(words) if name == "--config"]
    file = named[-1] if named else ""
    if named and not pathlib.Path(file).is_file():
        raise UserError(f"--config: there is no file {file!r}.")
    try:
        return app.parse_flags_with_usage(argv)
    except (AttributeError, KeyError):
        if file:
            check_overrides(argv, file)
        raise


def check_overrides(argv: list[str], file: str) -> None:
    """Raises UserError for the first --config.SECTION.KEY that the config file does not have."""
    for word in argv:
        if word.startswith("--config."):
            # The flag's own parser gives up at the first fault, so that the file is read anew.
            section = runpy.run_path(file)["get_config"]()
            path = word.partition("=")[0].removeprefix("--").split(".")
            for depth, key in enumerate(path[1:], 1):
                check_keys(".".join(path[:depth]), [key], section)
                section = section[key]


def run_main() -> None:
    """Runs `main`; what a user can mend ends in one message and exit status 1.

    Of several processes, one that meets an error ends at once, with status 1, and the others soon
    after it: with status 75 (EX_TEMPFAIL) where an operation of all failed, or aborted by JAX, see
    `processes.end`. Both mean that the same command may go on from the last checkpoint.
    """
    try:
        app.run(main, flags_parser=parse_flags)
    except UserError as error:
        print(f"jaxseg: {error}", file=sys.stderr)
        processes.end(1)
    except KeyboardInterrupt:
        processes.end(128 + signal.SIGINT)
    except Exception as error:
        if not processes.joined():
            raise
        traceback.print_exc()
        # A device that has no room left is this process's own trouble.
        if not isinstance(error, jax.errors.JaxRuntimeError) or "RESOURCE_EXHAUSTED" in str(error):
            processes.end(1)
        print(
            "jaxseg: an operation of all processes failed, probably because one of them ended; "
            "start all again, to go on from the last checkpoint.",
            file=sys.stderr,
        )
        processes.end(os.EX_TEMPFAIL)


if __name__ == "__main__":
    run_main()
