"""What is behind python -m jaxseg.train_boundaries: makes the weights of the boundary network.

It learns from the images of BSDS500's train and val splits, with the segmentations that several
people drew of each, and never opens a test image.
"""

import argparse
import concurrent.futures
import contextlib
import dataclasses
import json
import pathlib
import sys
import time
from collections.abc import Iterator, Sequence

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxseg.boundaries.network import NET, write_network
from jaxseg.checkpoint import Checkpoints
from jaxseg.core import PyTree, State, UserError
from jaxseg.data.bsds500 import open_bsds500
from jaxseg.writer import format_seconds

Array = jax.Array

CROP = 320  # pixels
_ZOOM = (0.7, 1.5)
_TURN = 25.0  # degrees to either side
_BESIDE = 0.5  # of a cell next to one that an annotator's boundary goes through
_COARSE = 0.5  # what the loss of a coarser level counts
_EMA = 0.999
_LOG_EVERY = 50
_SAVE_EVERY = 500


@dataclasses.dataclass(frozen=True)
class Drawn:
    """An image u8[H W 3] and what each annotator made of it, i16[H W] each, ids from 1."""

    image: np.ndarray
    segmentations: tuple[np.ndarray, ...]


def read_split(root: str, split: str) -> list[Drawn]:
    """Reads a split of BSDS500 into memory; about 2 MB an image. Raises as `open_bsds500`."""
    source = open_bsds500(root, split)
    return [
        Drawn(
            source[index].image,
            tuple(one.astype(np.int16) for one in source.segmentations(index)),
        )
        for index in range(len(source))
    ]


def draw(drawn: Drawn, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Returns a random crop and its target: (u8[CROP CROP 3], f32[CROP/2 CROP/2]).

    The crop is turned, zoomed, mirrored and changed in colour. The target is the share of
    annotators whose boundary goes through a cell of 2 x 2 pixels, half for a cell beside one; it is
    -1 where the crop leaves the image.
    """
    height, width = drawn.image.shape[:2]
    zoom = np.exp(rng.uniform(*np.log(_ZOOM)))
    turn = np.deg2rad(rng.uniform(-_TURN, _TURN)) if rng.random() < 0.5 else 0.0
    mirror = rng.choice([-1.0, 1.0])
    # From the crop's pixels, about its centre, to the image's. The centre is drawn so that an
    # unturned crop stays inside where it can.
    turned = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    matrix = turned @ np.diag([mirror, 1.0]) / zoom
    reach = CROP / (2 * zoom)
    centre = [rng.uniform(min(reach, side / 2), max(side - reach, side / 2))
              for side in (width, height)]  # fmt: skip

    def warp(picture: np.ndarray, side: int, how: int, **border) -> np.ndarray:
        scale = CROP / side
        middle = np.full(2, (side - 1) / 2)
        shift = np.asarray(centre) - 0.5 - scale * matrix @ middle
        to_image = np.concatenate([scale * matrix, shift[:, None]], axis=1)
        return cv2.warpAffine(
            picture, to_image, (side, side), flags=how | cv2.WARP_INVERSE_MAP, **border
        )

    image = warp(drawn.image, CROP, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    maps = [warp(one, CROP // 2, cv2.INTER_NEAREST) for one in drawn.segmentations]
    target = np.mean([_boundary(one) for one in maps], axis=0, dtype=np.float32)
    return _recolour(image, rng), np.where(maps[0] == 0, np.float32(-1), target)


def _boundary(regions: np.ndarray) -> np.ndarray:
    """Returns f32[h w]: 1 where a cell's region ends to the right or below, less beside it."""
    there = np.zeros(regions.shape, np.float32)
    there[:, :-1] = _ends(regions[:, :-1], regions[:, 1:])
    there[:-1] = np.maximum(there[:-1], _ends(regions[:-1], regions[1:]))
    return np.maximum(there, _BESIDE * cv2.dilate(there, np.ones((3, 3), np.uint8)))


def _ends(regions: np.ndarray, beside: np.ndarray) -> np.ndarray:
    """Whether two cells are in different regions; the end of the image is no boundary."""
    return (regions != beside) & (regions > 0) & (beside > 0)


def _recolour(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Changes brightness, contrast and saturation, or takes the colour away."""
    x = image.astype(np.float32)
    grey = x @ np.array([[0.299], [0.587], [0.114]], np.float32)
    saturation = 0.0 if rng.random() < 0.1 else rng.uniform(0.6, 1.4)
    x = grey + np.float32(saturation) * (x - grey)
    contrast, brightness = np.float32(rng.uniform(0.7, 1.3)), np.float32(rng.uniform(-25, 25))
    x = contrast * (x - x.mean()) + x.mean() + brightness
    return np.clip(x, 0, 255).astype(np.uint8)


def batches(
    images: Sequence[Drawn], batch: int, steps: range, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields the batch of each step, made ahead in a thread; a step's is always the same."""

    def make(step: int) -> tuple[np.ndarray, np.ndarray]:
        rows = []
        for place in range(step * batch, (step + 1) * batch):
            epoch, index = divmod(place, len(images))
            order = np.random.default_rng([seed, epoch]).permutation(len(images))
            rows.append(draw(images[order[index]], np.random.default_rng([seed, 1, place])))
        crops, targets = zip(*rows, strict=True)
        return np.stack(crops), np.stack(targets)

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        ahead = [pool.submit(make, step) for step in steps[:2]]
        for step in steps:
            if step + 2 < steps.stop:
                ahead.append(pool.submit(make, step + 2))
            yield ahead.pop(0).result()


def loss(logits: Sequence[Array], target: Array) -> Array:
    """Binary cross-entropy with the share of annotators, f32[], over all levels.

    Args:
        logits: of `BoundaryNet`, finest first.
        target: f32[B h w] of `draw`, for the finest level; coarser ones have the largest of 2 x 2.
    """
    total = jnp.zeros(())
    for level, predicted in enumerate(logits):
        known = target >= 0
        terms = optax.sigmoid_binary_cross_entropy(predicted, jnp.maximum(target, 0))
        mean = jnp.sum(terms * known) / jnp.maximum(jnp.sum(known), 1)
        total += mean if level == 0 else _COARSE * mean
        batch, height, width = target.shape
        target = target.reshape(batch, height // 2, 2, width // 2, 2).max(axis=(2, 4))
    return total


def make_optimiser(steps: int, rate: float) -> optax.GradientTransformation:
    """AdamW at a rate that rises for a twentieth of the steps and falls as a cosine."""
    schedule = optax.warmup_cosine_decay_schedule(0.0, rate, max(steps // 20, 1), steps, 0.0)
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=0.02))


def make_step(optimiser: optax.GradientTransformation):
    """Returns the jitted step (state, crops u8, targets f32) -> (state, loss)."""

    def step(state: State, crops: Array, targets: Array) -> tuple[State, Array]:
        def objective(params: PyTree) -> tuple[Array, PyTree]:
            variables = {"params": params, "batch_stats": state.extra["batch_stats"]}
            image = crops.astype(jnp.float32) / 127.5 - 1
            logits, moved = NET.apply(variables, image, True, mutable=["batch_stats"])
            return loss(logits, targets), moved["batch_stats"]

        (value, stats), grads = jax.value_and_grad(objective, has_aux=True)(state.params)
        updates, opt_state = optimiser.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        now = {"params": params, "batch_stats": stats}
        keep = jnp.minimum(_EMA, (1 + state.step) / (10 + state.step))
        mean = jax.tree.map(lambda a, b: keep * a + (1 - keep) * b, state.extra["mean"], now)
        extra = {"batch_stats": stats, "mean": mean}
        return state.replace(
            step=state.step + 1, params=params, extra=extra, opt_state=opt_state
        ), value

    return jax.jit(step, donate_argnums=0)


def init(optimiser: optax.GradientTransformation, seed: int) -> State:
    """Returns the state before the first step."""
    image = jnp.zeros((1, CROP, CROP, 3))
    variables = jax.jit(lambda key: NET.init(key, image, True))(jax.random.key(seed))
    extra = {"batch_stats": variables["batch_stats"], "mean": jax.tree.map(jnp.copy, variables)}
    return State(
        step=jnp.zeros((), jnp.int32),
        params=variables["params"],
        extra=extra,
        frozen={},
        opt_state=optimiser.init(variables["params"]),
    )


def train(arguments: argparse.Namespace) -> None:
    """Trains, or goes on where a killed run stopped, and writes the weights."""
    workdir, out = (pathlib.Path(x).expanduser() for x in (arguments.workdir, arguments.out))
    _check(arguments, workdir, out)
    images = read_split(arguments.root, arguments.split)
    # Closing waits for what is being saved, also where training is interrupted.
    with contextlib.closing(Checkpoints(workdir / "checkpoints", keep=1)) as checkpoints:
        state = _train(arguments, images, workdir, checkpoints)
    write_network(out, state.extra["mean"])


def _train(
    arguments: argparse.Namespace,
    images: Sequence[Drawn],
    workdir: pathlib.Path,
    checkpoints: Checkpoints,
) -> State:
    optimiser = make_optimiser(arguments.steps, arguments.rate)
    step, state = make_step(optimiser), init(optimiser, arguments.seed)
    if checkpoints.latest() is not None:
        state, notes = checkpoints.restore(state)
        if notes != _settings(arguments):
            raise UserError(
                f"{workdir} holds a run with {notes}, not {_settings(arguments)}; "
                "give the same options, or another --workdir"
            )
        print(f"going on at step {int(state.step)}", flush=True)
    values, began = [], time.perf_counter()
    first = int(state.step)
    steps = range(first, arguments.steps)
    for crops, targets in batches(images, arguments.batch, steps, arguments.seed):
        state, value = step(state, crops, targets)
        values.append(value)
        done = first + len(values)
        if done % _LOG_EVERY == 0 or done == arguments.steps:
            mean = float(jnp.mean(jnp.stack(values[-_LOG_EVERY:])))
            seconds = time.perf_counter() - began
            left = seconds / len(values) * (arguments.steps - done)
            with open(workdir / "log.jsonl", "a") as log:
                log.write(json.dumps({"step": done, "loss": mean, "seconds": seconds}) + "\n")
            print(f"step {done}  loss {mean:.4f}  {format_seconds(left)} left", flush=True)
        if done % _SAVE_EVERY == 0 or done == arguments.steps:
            checkpoints.save(state, _settings(arguments))
            write_network(workdir / f"network_{done}.safetensors", state.extra["mean"])
    return state


def _check(arguments: argparse.Namespace, workdir: pathlib.Path, out: pathlib.Path) -> None:
    """Makes the folders that are written to.

    Raises UserError, before hours of training, where a flag or a folder will not do.
    """
    for name in ("steps", "batch", "rate"):
        if not getattr(arguments, name) > 0:
            raise UserError(f"--{name} is {getattr(arguments, name)}; it must be more than 0")
    if out.is_dir():
        raise UserError(f"--out: {out} is a folder; give the file that the weights are to be in")
    for flag, folder in (("--workdir", workdir), ("--out", out.parent)):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"{flag}: cannot make the folder {folder}: {error.strerror}. Give another"
            ) from error


def _settings(arguments: argparse.Namespace) -> dict[str, int | float | str]:
    """What a run must have in common with the one that it goes on with."""
    return {name: getattr(arguments, name) for name in ("split", "steps", "batch", "rate", "seed")}


def make_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command."""
    parser = argparse.ArgumentParser(prog="python -m jaxseg.train_boundaries", description=__doc__)
    parser.add_argument("--root", required=True, help="folder of BSDS500: images/, groundTruth/")
    parser.add_argument("--out", required=True, help="the weights, .safetensors")
    parser.add_argument("--workdir", required=True, help="checkpoints and the log")
    parser.add_argument("--split", default="train+val", help="to learn from (%(default)s)")
    parser.add_argument("--steps", type=int, default=7000, help="(%(default)s)")
    parser.add_argument("--batch", type=int, default=4, help="crops of a step (%(default)s)")
    parser.add_argument("--rate", type=float, default=2e-3, help="largest (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(%(default)s)")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Trains; what a user can mend ends in one message and exit status 1."""
    try:
        train(make_parser().parse_args(argv))
    except UserError as error:
        sys.exit(f"jaxseg: {error}")
