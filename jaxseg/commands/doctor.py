"""What would go wrong in a run, found before it: each check is made though another failed.

What a run itself checks is checked by the same code.
"""

import contextlib
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jaxseg import build
from jaxseg.commands import doctor_room as room
from jaxseg.commands.doctor_parts import (
    OK,
    PROBLEM,
    WARNING,
    Check,
    of_bytes,
    of_entry,
    of_regions,
    of_split,
)
from jaxseg.core import Method, State, UserError
from jaxseg.data.source import Source
from jaxseg.pretrained import Weights
from jaxseg.run_checks import check_refits, check_step, drawing, name_of
from jaxseg.sections import DataSection, TrainSection, call, read_config
from jaxseg.sharding import make_mesh
from jaxseg.train import Transforms, make_step
from jaxseg.workdir import claim_workdir, has_begun, init_from


class Doctor:
    """Checks a config; `checks` are what was found.

    Args:
        config: sections method, data, optim, train, evals.
        workdir: where the run is to live; nothing is written there.
        seconds: that reading images may take, about; infinity reads all.
        memory: whether to compile a step for an estimate of its memory.
    """

    def __init__(
        self, config: ConfigDict, workdir: pathlib.Path, seconds: float, memory: bool = True
    ):
        self.checks: list[Check] = []
        self._workdir, self._seconds = workdir, seconds
        # What later checks need of earlier ones; None where those failed.
        self._sections: dict[str, dict[str, Any]] = {}
        self._train: TrainSection | None = None
        self._method: Method | None = None
        self._section: DataSection | None = None
        self._splits: dict[str, Source] = {}
        self._data: build.Data | None = None
        self._shapes: State | None = None
        self._transforms: Transforms | None = None
        with self._checking("config"):
            self._sections = read_config(config)
        if self._sections:
            self._check_sections()
            self._check_splits()
            self._check_batches()
            self._check_network()
            self._check_step(memory)
            self._check_evals()
            self._check_workdir()
            self._check_devices()
            self._check_room()

    @property
    def healthy(self) -> bool:
        """Whether there is no problem."""
        return all(check.status != PROBLEM for check in self.checks)

    def _add(self, subject: str, text: str, status: str = OK, remedy: str = "") -> None:
        self.checks.append(Check(subject, text, status, remedy))

    @contextlib.contextmanager
    def _checking(self, subject: str) -> Iterator[None]:
        """Makes a problem of whatever is raised inside, so that the next check comes."""
        try:
            yield
        except (UserError, ValueError) as error:
            self._add(subject, str(error), PROBLEM)
        except Exception as error:  # a check must not end the others
            self._add(subject, f"{type(error).__name__}: {error}", PROBLEM)

    def _lacks(self, subject: str, what: str) -> None:
        self._add(subject, f"not checked, for want of {what}", WARNING, "mend that first")

    def _check_sections(self) -> None:
        with self._checking("train"):
            self._train = call("train", TrainSection, self._sections["train"])
        with self._checking("method"):
            self._method = build.make_method(self._sections["method"])
            if self._train:
                check_refits(self._method, self._train)
            self._add("method", name_of(self._method))

    def _check_splits(self) -> None:
        """Opens the splits, and reads of each as much as there is time for."""
        values = self._sections["data"]
        with self._checking("data"):
            # All damaged files are to be found at once, and counted.
            self._section, openers = build.split_openers(values, on_corrupt="skip")
            for split, open_split in openers.items():
                with self._checking(f"data, {split!r}"):
                    self._splits[split] = open_split()
                    self.checks += of_split(
                        self._splits[split], split, self._section, self._method,
                        skipping=values.get("on_corrupt") == "skip",
                        official=not values.get("count"),
                        seconds=self._seconds / len(openers),
                    )  # fmt: skip
            if len(openers) == 1 and any(source.classes for source in self._splits.values()):
                self._add(
                    "data", f"training and test split are both {self._section.test_split!r}",
                    WARNING, "scores will be those of images that were trained on",
                )  # fmt: skip

    def _check_batches(self) -> None:
        """Puts the data together as a run does; regions by themselves, for they may fail alone."""
        section, train, splits = self._section, self._train, self._splits
        if not section or not train or not {section.train_split, section.test_split} <= {*splits}:
            return self._lacks("batches", "data, or of a section `train`")
        if section.regions:
            with self._checking("regions"):
                source = splits[section.train_split]
                self.checks.append(of_regions(source, section, self._seconds))
        with self._checking("batches"):
            data = build.combine_data(
                section.without_regions(), splits, train.seed, self._mesh(train),
                self._method is not None and self._method.reads_labels,
            )  # fmt: skip
            if section.tokens:
                data.pipeline.check_fixed()
            self._data = data
            self._add(
                "batches", f"{len(data.train)} training and {len(data.test)} test images, "
                f"{self._steps} steps of {section.batch_size}, {data.pipeline.steps_per_epoch} an "
                "epoch",
            )  # fmt: skip

    def _mesh(self, train: TrainSection) -> Mesh:
        return make_mesh(shards=train.shards)

    @property
    def _steps(self) -> int:
        """Steps of the run, 1 where that is not known."""
        if self._train is None or self._data is None:
            return 1
        return self._train.steps or self._train.epochs * self._data.pipeline.steps_per_epoch

    def _check_network(self) -> None:
        """Draws abstract parameters, and reads the weights files that are to fill them."""
        method, section = self._method, self._section
        if method is None or section is None:
            return self._lacks("network", "a method, or of data")
        with self._checking("network"):
            self._shapes = jax.eval_shape(drawing(method, section), jax.random.key(0))
        if self._shapes is None:
            return None
        named = [field for field in build.WEIGHTS if self._sections["method"].get(field)]
        for field in named:
            with self._checking(f"method.{field}"):
                read = Weights.read(field, self._sections["method"][field], self._shapes)
                self._add(f"method.{field}", read.line)
        if "backbone" in self._shapes.frozen and not named:
            self._add(
                "method.weights", "the frozen backbone has random weights", WARNING,
                "name a file that python -m jaxseg.convert made",
            )  # fmt: skip

    def _check_step(self, memory: bool) -> None:
        """Traces a step; and compiles it, to estimate the memory that it takes."""
        method, section, train, shapes = self._method, self._section, self._train, self._shapes
        if not method or not section or not train or not shapes:
            return self._lacks("step", "a network, or of a section `train`")
        compilable = False
        with self._checking("step"):
            optim = self._sections["optim"]
            self._transforms = build.make_transforms(optim, shapes.params, self._steps)
            labels = self._data.train.classes if self._data and method.reads_labels else ()
            spec = build.batch_spec(section, labels, method)
            step = make_step(method, self._transforms, jax.random.key(train.seed))
            check_step(step, shapes, self._transforms, spec)
            count = sum(x.size for x in jax.tree.leaves(shapes.params))
            self._add("step", f"fits together; {count:,} parameters learn")
            compilable = memory
        if compilable:
            with self._checking("memory"):
                transforms = self._transforms or {}
                need = room.step_bytes(step, shapes, transforms, spec, self._mesh(train))
                self.checks.append(of_bytes(
                    "memory", "a step takes", need, room.device_bytes(), "a device",
                    "lower data.batch_size or data.crop, or set method.remat where there is one",
                ))  # fmt: skip
        return None

    def _check_evals(self) -> None:
        method, data, train = self._method, self._data, self._train
        if method is None or data is None or train is None:
            return self._lacks("evals", "a method, or of data")
        if not self._sections["evals"]:
            self._add("evals", "the config has none: the run will have no scores", WARNING)
        for name, values in self._sections["evals"].items():
            with self._checking(f"evals.{name}"):
                self.checks.append(of_entry(name, values, method, data, train.samples, train.seed))
        return None

    def _check_workdir(self) -> None:
        """Checks that the run can begin, or go on, in its work directory."""
        with self._checking("workdir"):
            if has_begun(self._workdir):
                unread = tuple(f"method.{field}_sha256" for field in build.WEIGHTS)
                claim_workdir(self._workdir, self._sections, "train", unread)
                self._add("workdir", f"{self._workdir} holds a run of this config; it will go on")
            else:
                self._add("workdir", f"{room.writable(self._workdir)} can be written")
        if self._train and self._train.init_from and self._shapes:
            with self._checking("train.init_from"):
                given = self._train.init_from, self._train.init_groups
                lines = init_from(self._shapes, *given)[1]
                unfit = any(line.startswith("did not fit") for line in lines)
                self._add("train.init_from", "; ".join(lines), WARNING if unfit else OK)

    def _check_devices(self) -> None:
        with self._checking("devices"):
            devices = jax.devices()
            kinds = ", ".join(sorted({device.device_kind for device in devices}))
            text = f"{len(devices)} of {devices[0].platform} ({kinds})"
            if room.has_idle_gpu():
                text += ", but the machine has an NVIDIA GPU"
                self._add("devices", text, WARNING, "pip install '.[cuda]'")
            else:
                self._add("devices", text)

    def _check_room(self) -> None:
        """Compares what a run keeps in memory and on disks with what there is."""
        section, train, shapes = self._section, self._train, self._shapes
        if not section or not train or not shapes or self._transforms is None:
            return self._lacks("disk", "a step that fits together")
        if section.cache and self._splits:
            with self._checking("data.cache"):
                need = sum(room.decoded_bytes(source) for source in self._splits.values())
                self.checks.append(of_bytes(
                    "data.cache", "decoded images take", need, room.host_bytes(), "the machine",
                    "set data.cache=False",
                ))  # fmt: skip
        with self._checking("disk"):
            needs = room.disk_bytes(self._workdir, shapes, self._transforms, train)
            if section.tokens and self._data and self._method:
                spec = build.batch_spec(section, (), self._method)
                needs |= room.token_bytes(section.tokens, spec, len(self._data.pipeline.source))
            for folder, (need, free, parts) in room.by_disk(needs).items():
                self.checks.append(of_bytes(
                    "disk", f"{parts} take", need, free, f"the disk of {folder}",
                    "free some space, or name folders on another disk",
                ))  # fmt: skip
        return None
