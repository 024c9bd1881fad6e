"""Checks of parts of a run: a split, its regions, an entry of `evals`, an amount of bytes."""

import dataclasses
import math
from collections.abc import Iterator

import jax

from jaxseg import build
from jaxseg.commands.check import Finding, check_split
from jaxseg.core import Method
from jaxseg.data.catalogue import CATALOGUE, Entry
from jaxseg.data.pipeline import spread
from jaxseg.data.source import Source
from jaxseg.data.with_regions import open_regions
from jaxseg.run_checks import check_probe, drawing
from jaxseg.sections import DataSection

OK, WARNING, PROBLEM = "ok", "warning", "problem"
_UNKNOWN = Entry("", "", "", "", "")  # of data sets about which no counts are known
_REGION_MAPS = 20  # that are read, spread over the split


@dataclasses.dataclass(frozen=True)
class Check:
    """One line of the doctor's.

    Attributes:
        subject: what was looked at.
        text: what was found.
        status: OK; WARNING, of what a run survives or may be meant; PROBLEM, of what would stop or
            spoil it.
        remedy: what to do, where `text` does not say it.
    """

    subject: str
    text: str
    status: str = OK
    remedy: str = ""


def of_split(
    source: Source,
    split: str,
    section: DataSection,
    method: Method | None,
    skipping: bool,
    official: bool,
    seconds: float,
) -> Iterator[Check]:
    """Yields what `prepare check` finds of a split.

    Args:
        skipping: a run puts other images in the place of those that cannot be read.
        official: the data set should have as many images as its release.
        seconds: that reading may take.
    """
    entry = CATALOGUE.get(section.name, _UNKNOWN)
    if not official:
        entry = dataclasses.replace(entry, expected={})
    found = check_split(split, lambda: source, entry, seconds, "skip" if skipping else "error")
    tested = split == section.test_split
    needed = tested or (method is not None and method.reads_labels)
    for finding in found:
        expected = f" (expected {finding.expected})" if finding.wrong and finding.expected else ""
        yield Check(
            f"data, {split!r}",
            f"{finding.subject}: {finding.found}{expected}",
            _status(finding, skipping, needed),
            finding.remedy if finding.wrong else "",
        )
    if tested and not source.classes:
        yield Check(f"data, {split!r}", "no labels, so that nothing is scored", WARNING)


def _status(finding: Finding, skipping: bool, needed: bool) -> str:
    """Says how bad a finding is for a run, which may go on with what is not complete.

    `needed` says that it reads the labels.
    """
    if not finding.wrong:
        return OK
    harmless = {
        "images": finding.found != "0",
        "labels without image": True,
        "unreadable files": skipping,
    }
    labels = finding.subject.startswith("labelled")
    return WARNING if harmless.get(finding.subject, labels and not needed) else PROBLEM


def of_regions(source: Source, section: DataSection, seconds: float) -> Check:
    """Reads regions of the training split: some of them, or all with infinite `seconds`.

    Raises:
        UserError: there are none, or they do not fit the images.
    """
    found, line = open_regions(source, section.regions, section.regions_limit)
    indices = spread(len(found), None if math.isinf(seconds) else _REGION_MAPS)
    maps = [found[index].regions for index in indices]
    most = max(int(one.max()) + 1 for one in maps if one is not None)
    return Check("regions", f"{line}; {len(maps)} read, at most {most} of an image")


def of_entry(
    name: str, values: dict, method: Method, data: build.Data, samples: int, seed: int
) -> Check:
    """Checks one entry of `evals`.

    Raises:
        UserError: a field of it is wrong, or its probe cannot read what the model says.
    """
    ((section, evaluator),) = build.make_evaluators({name: values}, data, samples).values()
    other = build.MODELS[section.model]
    model = method if other is None else other()
    shapes = jax.eval_shape(drawing(model, data.section), jax.random.key(seed))
    image = data.pipeline.eval_view(data.test[0].image, {}).image
    output = check_probe(section, evaluator, model, shapes, image)
    subject, classes = f"evals.{name}", len(getattr(evaluator, "classes", ()))
    if getattr(evaluator, "retrieves", False) and section.label not in data.train.classes:
        return Check(
            subject, f"the training split has no label {section.label!r} to look up", PROBLEM,
            "name another data.train_split, or another probe",
        )  # fmt: skip
    if section.probe not in ("argmax", "cluster") or not classes:
        return Check(subject, "fits")
    clusters = getattr(evaluator.probe, "clusters", 0)
    clusters = clusters or output.part(evaluator.probe.source).shape[-1]
    text = f"{clusters} clusters for {classes} classes"
    if section.matching == "identity" and clusters != classes:
        return Check(subject, text, PROBLEM, "identity matching wants as many of both")
    if clusters < classes:
        remedy = f"at least {classes - clusters} classes get no cluster, and so an IoU of 0"
        return Check(subject, text, WARNING, remedy)
    return Check(subject, text)


def of_bytes(
    subject: str, what: str, need: int, free: int | None, where: str, remedy: str
) -> Check:
    """Compares an estimate of bytes with those that are free, None = not known."""
    status = OK
    if free is not None and need > 0.8 * free:
        status = PROBLEM if need > free else WARNING
    known = "an unknown amount" if free is None else _shown(free)
    text = f"{what} about {_shown(need)} (an estimate); {known} free on {where}"
    return Check(subject, text, status, "" if status == OK else remedy)


def _shown(size: int) -> str:
    return f"{size / 2**30:.2f} GiB" if size > 2**30 else f"{size / 2**20:.1f} MiB"
