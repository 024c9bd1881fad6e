"""A run: one config in one work directory, put together from its sections.

A work directory holds config.json, checkpoints/ (to go on from), best/ (with
train.select='lowest_loss'), final/ (the state that is evaluated), metrics.jsonl, tensorboard/,
evaluation/ (scores and samples by evaluator), parameters.txt, versions.json, report/ (index.html
and pictures) and lock (held by the process that trains).
"""

import contextlib
import dataclasses
import functools
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from clu import parameter_overview
from ml_collections import ConfigDict

from jaxseg import build, evaluate, record, report, similar_pixels
from jaxseg.checkpoint import Checkpoints
from jaxseg.core import Method, State, UserError
from jaxseg.evaluation.outputs import Predict
from jaxseg.pretrained import Weights, keep_features
from jaxseg.processes import is_first, wait_for_all
from jaxseg.run_checks import check_probe, check_refits, check_step, drawing, name_of
from jaxseg.sections import TrainSection, call, read_config
from jaxseg.sharding import layout, make_mesh, place
from jaxseg.train import Hook, Loop, conclude, make_step
from jaxseg.workdir import claim_workdir, init_from, keep_versions, training_in
from jaxseg.writer import Silent, Writer, write_atomic

# Of the picture of similar pixels: images with a pixel to search for, and images to search in.
SEARCHED_FOR, SEARCHED = 4, 200


class Run:
    """What `main` does, without flags and signals.

    Args:
        config: sections method, data, optim, train, evals.
        workdir: created where it is not there; a run found in it is continued.
        mode: "train", or anything else to score a trained run; then the sections `train` and
            `optim` are those that it was trained with, whatever the config says.

    Raises:
        UserError: anything in the config, the data or the work directory that a user can mend.
    """

    def __init__(self, config: ConfigDict, workdir: pathlib.Path, mode: str = "train"):
        sections = read_config(config)
        if mode != "train":
            # The weights are not read yet; their hash is compared below.
            unread = tuple(f"method.{field}_sha256" for field in build.WEIGHTS)
            stored = claim_workdir(workdir, sections, mode, unread)
            sections |= {name: stored[name] for name in ("train", "optim")}
        self.train = call("train", TrainSection, sections["train"])
        self.method = build.make_method(sections["method"])
        check_refits(self.method, self.train)
        if self.train.seconds and jax.process_count() > 1:
            raise UserError(
                f"train.seconds is {self.train.seconds}, but the clocks of {jax.process_count()} "
                "processes would not agree on the last step; set train.steps instead."
            )
        self.mesh = make_mesh(shards=self.train.shards)
        self.data = build.make_data(
            sections["data"], self.train.seed, self.mesh, self.method.reads_labels
        )
        pipeline = self.data.pipeline
        self.steps = self.train.steps or self.train.epochs * pipeline.steps_per_epoch
        self.key = jax.random.key(self.train.seed)
        labels = pipeline.source.classes if self.method.reads_labels else ()
        self._spec = build.batch_spec(self.data.section, labels, self.method)
        self._entries = sections["evals"]
        self.evaluators = build.make_evaluators(sections["evals"], self.data, self.train.samples)
        try:
            shapes = self._shapes(self.method)
            self.weights = self._read_weights(sections["method"], shapes)
            self.transforms = build.make_transforms(sections["optim"], shapes.params, self.steps)
            check_step(make_step(self.method, self.transforms, self.key), shapes, self.transforms,
                       self._spec)  # fmt: skip
            image = self.data.pipeline.eval_view(self.data.test[0].image, {}).image
            for section, evaluator in self.evaluators.values():
                model = self._model(section.model)
                check_probe(section, evaluator, model, self._shapes(model), image)
        except ValueError as error:
            raise UserError(f"The config does not fit together: {error}") from error
        # The first thing on disk: after all that a config can get wrong, before all that is slow.
        with training_in(workdir) if mode == "train" else contextlib.nullcontext():
            claim_workdir(workdir, sections, mode)
        self._sections = sections
        self.workdir = workdir
        self.untrained = self._init(self.method)
        self.data = keep_features(self.data, self.method, self.untrained)
        self.final = Checkpoints(workdir / "final", keep=1)
        self._predict = jax.jit(self.method.predict)

    def _read_weights(self, section: dict[str, Any], shapes: State) -> tuple[Weights, ...]:
        """Returns the weights that the section names; adds their hashes to it, to be compared."""
        found = {
            field: Weights.read(field, section[field], shapes)
            for field in build.WEIGHTS
            if section.get(field)
        }
        section |= {f"{field}_sha256": weights.sha256 for field, weights in found.items()}
        return tuple(found.values())

    def _model(self, name: str) -> Method:
        """Returns the method that an entry of `evals` scores."""
        other = build.MODELS[name]
        return self.method if other is None else other()

    def _drawing(self, method: Method) -> Callable[[jax.Array], State]:
        return drawing(method, self.data.section)

    def _shapes(self, method: Method) -> State:
        return jax.eval_shape(self._drawing(method), self.key)

    def _init(self, method: Method) -> State:
        # One compiled program: array by array, drawing a large network takes minutes.
        where = layout(self._shapes(method), self.mesh)
        state = jax.jit(self._drawing(method), out_shardings=where)(self.key)
        for weights in self.weights if method is self.method else ():
            state = weights.put(state)
        return place(state, self.mesh)

    @property
    def _name(self) -> str:
        return name_of(self.method)

    def describe(self) -> str:
        """Returns what will run, on what, where, in a few lines; writes parameters.txt."""
        train, test, pipeline = self.data.train, self.data.test, self.data.pipeline
        params = self.untrained.params
        overview = parameter_overview.get_parameter_overview(params, include_stats=False)
        if is_first():
            write_atomic(self.workdir / "parameters.txt", overview + "\n")
        among = f" of {processes} processes" if (processes := jax.process_count()) > 1 else ""
        lines = [
            f"{parameter_overview.count_parameters(params):,} parameters, listed in "
            f"{self.workdir / 'parameters.txt'}",
            f"{self._name} on {self.data.section.name}: {len(train)} training and "
            f"{len(test)} test images, {self.steps} steps of {pipeline.batch_size} images, "
            f"{self.mesh.size} {jax.devices()[0].platform} device(s){among}, in {self.workdir}",
        ]
        if self.data.regions:
            lines.append(self.data.regions)
        lines += [weights.line for weights in self.weights]
        if not self.weights and "backbone" in self.untrained.frozen:
            lines.append("The frozen backbone has random weights: method.weights names none.")
        for source in {id(s): s for s in (train, test)}.values():
            if skipped := getattr(source, "skipped", ()):
                lines.append(
                    f"{len(skipped)} unreadable files, others in their place; first {skipped[0]}"
                )
        return "\n".join(lines)

    def fit(self, stop: Callable[[], bool] = lambda: False) -> bool:
        """Trains to the end and keeps the final state; false where `stop` ended it early.

        Raises:
            UserError: another run trains in the work directory, or has begun there since this one
                was made; or this one became non-finite.
        """
        if self.final.latest() is not None:
            print("This run is trained already; another --workdir starts a new one.")
            return True
        with training_in(self.workdir):
            claim_workdir(self.workdir, self._sections, "train")
            return self._fit(stop)

    def _fit(self, stop: Callable[[], bool]) -> bool:
        if is_first():
            keep_versions(self.workdir)
        checkpoints = Checkpoints(self.workdir / "checkpoints", self.train.keep)
        state = self.untrained
        if self.train.init_from and checkpoints.latest() is None:
            state, lines = init_from(state, self.train.init_from, self.train.init_groups)
            print("\n".join(lines))
        best = None
        if self.train.select == "lowest_loss":
            best = Checkpoints(self.workdir / "best", keep=1)
        resume = checkpoints.latest() or 0
        writer = Writer(self.workdir, resume) if is_first() else Silent()
        pipeline = self.data.pipeline
        loop = Loop(
            method=self.method, transforms=self.transforms, key=self.key, mesh=self.mesh,
            batches=pipeline.batches, stream=pipeline.stream, steps=self.steps,
            steps_per_epoch=pipeline.steps_per_epoch, batch_size=pipeline.batch_size,
            checkpoints=checkpoints, best=best, writer=writer, refit_every=self.train.refit_every,
            save_every=self.train.save_every, log_every=self.train.log_every,
            max_nonfinite=self.train.max_nonfinite, hooks=self._hooks(writer), stop=stop,
            seconds=self.train.seconds,
        )  # fmt: skip
        # The first step is given the state's buffers; the untrained network is wanted again.
        state = loop.run(jax.tree.map(jnp.copy, state))
        writer.close()
        done = loop.ended(state)
        if done:
            conclude(loop, state, self.final)
        return done

    def _hooks(self, writer: Writer) -> tuple[Hook, ...]:
        """The collapse monitor, and evaluations of the trained model on the way."""
        watched = self.data.pipeline.eval_stream(self.data.train, self.data.section.batch_size)
        look = evaluate.collapse_monitor(watched)

        def monitor(state: State) -> dict[str, float]:
            scalars, histograms = look(functools.partial(self._predict, state))
            if histograms:
                writer.histograms(int(state.step), histograms)
            return scalars

        def score(state: State) -> dict[str, float]:
            found: dict[str, float] = {}
            for name, (section, evaluator) in self.evaluators.items():
                if section.model == "trained":
                    result = evaluator.run(functools.partial(self._predict, state), self.eval_key)
                    found |= {f"{name}/{k}": v for k, v in result.scalars.items()}
                    writer.images(int(state.step), {f"{name}/samples": report.strips(result)})
            return found

        return Hook(self.train.monitor_every, monitor), Hook(self.train.evaluate_every, score)

    @property
    def eval_key(self) -> jax.Array:
        return jax.random.fold_in(self.key, 4)

    def evaluate(self, pictures: bool = True) -> list[record.Result]:
        """Runs every evaluator on the final state; keeps the results and draws the report.

        Without `pictures` there is no report.
        """
        results = []
        for name, (section, evaluator) in self.evaluators.items():
            protocol = self._protocol(name)
            found = evaluator.run(self.predictor(section.model), self.eval_key)
            results.append(dataclasses.replace(found, protocol=protocol))
            if is_first():
                record.save_result(self.workdir / "evaluation", found, protocol)
        if pictures:
            self._draw_similar_pixels()
            if is_first():
                report.write(self.workdir, results)
        wait_for_all("evaluated")
        return results

    def _draw_similar_pixels(self) -> None:
        """Draws the pixels most alike to a few, over up to SEARCHED test images."""
        stream, test = self.data.pipeline.eval_stream, self.data.test
        found = similar_pixels.search(
            self.predictor("trained"), stream(test, SEARCHED_FOR), stream(test, SEARCHED)
        )
        if is_first():
            directory = self.workdir / "report"
            directory.mkdir(exist_ok=True)
            figure = report.figures.similar_pixels(found)
            figure.savefig(directory / "similar_pixels.png", dpi=110)

    def predictor(self, model: str) -> Predict:
        """Returns the jitted `predict` of a key of `build.MODELS`, "trained" in its final state."""
        method = self._model(model)
        if method is not self.method:
            return functools.partial(jax.jit(method.predict), self._init(method))
        state = self._trained if model == "trained" else self.untrained
        return functools.partial(self._predict, state)

    @functools.cached_property
    def _trained(self) -> State:
        return self.final.restore(self.untrained)[0]

    def _protocol(self, name: str) -> dict[str, Any]:
        """What has to be known to compare the scores."""
        section, evaluator = self.evaluators[name]
        return {
            "model": section.model,
            "probe": repr(evaluator.probe),
            **self._network(section.model),
            **evaluator.protocol(),
            "refine": section.refine,
            "tile": section.tile,
            "fit_limit": section.fit_limit,
            "data": self.data.section.name,
            "test_resize": self.data.section.test_resize,
            "test_crop": self.data.section.test_crop,
            "train_split": f"{self.data.section.train_split} ({len(self.data.train)})",
            "test_split": f"{self.data.section.test_split} ({len(self.data.test)})",
            "seed": self.train.seed,
            "steps": self.steps,
            "select": self.train.select,
            "selected_step": self.final.latest(),
            # With these two a segmenter does to other images what was done to those scored.
            "entry": self._entries[name],
            "view": dataclasses.asdict(self.data.pipeline.eval_view),
        }

    def _network(self, model: str) -> dict[str, str]:
        """Returns the backbone of a key of `build.MODELS`, and where its weights are from."""
        if self._model(model) is not self.method:
            return {"backbone": "", "weights": ""}
        named = getattr(getattr(self.method, "inner", self.method), "backbone", "")
        frozen = "backbone" in self.untrained.frozen
        backbone = f"{named}, frozen" if frozen else named
        if not frozen and "backbone" not in self.untrained.params:
            backbone = ""  # a network of the method's own
        names = [f"{w.name} ({w.sha256[:8]})" for w in self.weights]
        if self.train.init_from and model == "trained":
            names.append(f"run {pathlib.Path(self.train.init_from).name}")
        return {"backbone": backbone, "weights": "; ".join(names) or "none"}
