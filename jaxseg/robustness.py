"""How well a trained run does on disturbed test images: --mode=robustness.

Every entry of `evals` that scores classes of the trained model, unrefined, is scored again under
each of `views.disturbances`. A probe is fitted on undisturbed images, and clusters stand for the
classes that they are matched with on the undisturbed test split: so the numbers say what one fixed
segmentation loses, where a match of each disturbed split of its own would make up for a part of it.

Source: Cho et al. 2021 (PiCIE), supplement, table 2.
"""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Callable, Iterable, Mapping

import jax
import jax.numpy as jnp

from jaxseg.core import Array, Batch, Stream, UserError
from jaxseg.evaluate import Evaluator
from jaxseg.evaluate_hierarchy import HierarchyEvaluator
from jaxseg.evaluation import scores
from jaxseg.evaluation.outputs import Predict
from jaxseg.processes import is_first
from jaxseg.record import Result
from jaxseg.report import figures
from jaxseg.run import Run
from jaxseg.sections import EvalSection
from jaxseg.views import colour
from jaxseg.views.disturbances import DISTURBANCES, disturb
from jaxseg.writer import write_atomic

UNDISTURBED = "none"
Measured = dict[str, dict[str, Result]]  # by evaluator and disturbance


def of_run(run: Run) -> str:
    """Scores a trained run; keeps robustness.json and report/robustness_NAME.png.

    Returns the scores as a table.

    Raises:
        UserError: the test split has no labels, or no entry of `evals` can be scored.
    """
    found = measure(run.evaluators, run.predictor, run.eval_key)
    if is_first():
        _keep(run.workdir, found)
    return table(found)


def _keep(workdir: pathlib.Path, found: Measured) -> None:
    kept = {
        evaluator: {name: result.scalars for name, result in results.items()}
        for evaluator, results in found.items()
    }
    write_atomic(workdir / "robustness.json", json.dumps(kept, indent=2) + "\n")
    directory = workdir / "report"
    directory.mkdir(exist_ok=True)
    for evaluator, results in found.items():
        figures.first_samples(results).savefig(directory / f"robustness_{evaluator}.png", dpi=110)


def measure(
    evaluators: Mapping[str, tuple[EvalSection, Evaluator | HierarchyEvaluator]],
    predictor: Callable[[str], Predict],
    key: Array,
) -> Measured:
    """Returns the results under each disturbance, those without one first.

    Their scalars are accuracy and mean IoU, under the match of the undisturbed split.
    """
    found: Measured = {}
    for name, (section, evaluator) in evaluators.items():
        unrefined = section.model == "trained" and section.refine == "none"
        if unrefined and isinstance(evaluator, Evaluator):
            found[name] = _of_evaluator(evaluator, predictor(section.model), key)
    if not found:
        raise UserError(
            "No entry of evals scores classes with model='trained' and refine='none'; add one, for "
            "robustness is that of such."
        )
    return found


def _of_evaluator(evaluator: Evaluator, predict: Predict, key: Array) -> dict[str, Result]:
    found = {UNDISTURBED: evaluator.run(predict, key)}
    match = found[UNDISTURBED].match
    if match is None:
        raise UserError("Robustness needs a test split with labels; set data.test_split to one.")
    for name in DISTURBANCES:
        other = dataclasses.replace(
            evaluator,
            test_stream=disturbed(evaluator.test_stream, name),
            sample_stream=disturbed(evaluator.sample_stream, name),
        )
        found[name] = other.run(predict, key)
    for name, result in found.items():
        assert result.counts is not None
        summary = scores.summarise(result.counts, match, evaluator.absent)
        scalars = {score: summary[score] for score in ("accuracy", "miou")}
        found[name] = dataclasses.replace(result, match=match, scalars=scalars)
    return found


def disturbed(stream: Stream, name: str) -> Stream:
    """Returns the stream with one of DISTURBANCES, drawn for each image from its index."""

    def changed(batch_size: int | None = None, limit: int | None = None) -> Iterable[Batch]:
        # A stream may have a limit of its own, where none is given.
        given = stream(batch_size) if limit is None else stream(batch_size, limit)
        return (_disturbed(name, batch) for batch in given)

    return changed


@functools.partial(jax.jit, static_argnums=0)
def _disturbed(name: str, batch: Batch) -> Batch:
    if batch.size is None:
        raise ValueError("this batch holds no images to disturb")
    image, label = disturb(
        name,
        batch.index.astype(jnp.uint32),
        colour.to_unit(batch.first_view),
        batch.size[:, 0],
        batch.label,
    )
    image = jnp.round(255 * image).astype(jnp.uint8)
    return batch.replace(image=image[:, None], label=label)


def table(found: Measured) -> str:
    """Returns accuracy and mean IoU in percent: disturbances in rows, evaluators in columns."""
    names = list(next(iter(found.values())))
    title = "Acc, mIoU %"
    width = max(map(len, [title, *names]))
    lines = ["  ".join([title.ljust(width), *[name.rjust(len(title)) for name in found]])]
    for name in names:
        cells = []
        for evaluator, results in found.items():
            accuracy, miou = (100 * results[name].scalars[s] for s in ("accuracy", "miou"))
            cells.append(f"{accuracy:5.1f} {miou:5.1f}".rjust(max(len(evaluator), len(title))))
        lines.append("  ".join([name.ljust(width), *cells]))
    return "\n".join(lines)
