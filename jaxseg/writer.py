"""What a run says: metrics.jsonl, TensorBoard files, and the progress line."""

import io
import json
import pathlib
import sys
import time
from collections.abc import Mapping
from typing import TextIO

import numpy as np
from PIL import Image
from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.summary.writer.event_file_writer import EventFileWriter


class Writer:
    """Writes scalars and images of one run below its work directory.

    `metrics.jsonl` holds one JSON object a line: {"step": ..., "time": seconds since the epoch, and
    the scalars or histograms}. Continuing at step `resume` drops its later lines, which the run
    writes again.
    """

    def __init__(self, workdir: pathlib.Path | str, resume: int = 0):
        workdir = pathlib.Path(workdir)
        workdir.mkdir(parents=True, exist_ok=True)
        self.path = workdir / "metrics.jsonl"
        kept = [row for row in read_metrics(self.path) if row["step"] <= resume and resume]
        write_atomic(self.path, "".join(json.dumps(row) + "\n" for row in kept))
        self._file = self.path.open("a")
        self._events = EventFileWriter(str(workdir / "tensorboard"))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Writes finite and non-finite floats by name; the file has null for a non-finite one."""
        values = {name: float(value) for name, value in values.items()}
        self._row(step, {k: v if np.isfinite(v) else None for k, v in values.items()})
        self._event(step, [_scalar(name, value) for name, value in values.items()])

    def histograms(self, step: int, histograms: Mapping[str, np.ndarray]) -> None:
        """Writes histograms f32[bins] by name: shares in bins that cut [0, 1] evenly."""
        self._row(step, {k: [round(float(x), 7) for x in v] for k, v in histograms.items()})
        self._event(step, [_histogram(name, shares) for name, shares in histograms.items()])

    def images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Writes pictures u8[H W 3] by name to the TensorBoard files."""
        self._event(step, [_image(name, picture) for name, picture in images.items()])

    def close(self) -> None:
        """Flushes and closes the files."""
        self._file.close()
        self._events.close()

    def _row(self, step: int, values: Mapping[str, float | list[float] | None]) -> None:
        row = {"step": step, "time": round(time.time(), 3), **values}
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()

    def _event(self, step: int, values: list[summary_pb2.Summary.Value]) -> None:
        event = event_pb2.Event(step=step, wall_time=time.time())
        event.summary.CopyFrom(summary_pb2.Summary(value=values))
        self._events.add_event(event)


class Silent(Writer):
    """A writer that writes nothing: that of every process but the first."""

    def __init__(self):
        pass

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Does nothing."""

    def images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Does nothing."""

    def histograms(self, step: int, histograms: Mapping[str, np.ndarray]) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""


def write_atomic(path: pathlib.Path | str, text: str) -> None:
    """Writes a text file so that a kill leaves either the old one or the new one, never a part."""
    path = pathlib.Path(path)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text)
    temporary.replace(path)


def read_metrics(path: pathlib.Path | str) -> list[dict]:
    """Returns the rows of a metrics.jsonl; a last line cut off by a kill is left out."""
    path = pathlib.Path(path)
    if not path.exists():
        return []
    lines = path.read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("}\n")]


def _scalar(name: str, value: float) -> summary_pb2.Summary.Value:
    return summary_pb2.Summary.Value(tag=name, simple_value=value)


def _histogram(name: str, shares: np.ndarray) -> summary_pb2.Summary.Value:
    edges = np.linspace(0, 1, len(shares) + 1)
    centres = (edges[1:] + edges[:-1]) / 2
    proto = summary_pb2.HistogramProto(
        min=0.0, max=1.0, num=float(np.sum(shares)), sum=float(np.sum(shares * centres)),
        sum_squares=float(np.sum(shares * centres**2)), bucket_limit=edges[1:], bucket=shares,
    )  # fmt: skip
    return summary_pb2.Summary.Value(tag=name, histo=proto)


def _image(name: str, picture: np.ndarray) -> summary_pb2.Summary.Value:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG")
    height, width, channels = picture.shape
    image = summary_pb2.Summary.Image(
        height=height,
        width=width,
        colorspace=channels,
        encoded_image_string=stream.getvalue(),
    )
    return summary_pb2.Summary.Value(tag=name, image=image)


class Progress:
    """The progress line: step, images/s, time left, loss terms.

    On a terminal it rewrites one line; into a file it writes a line each time.
    """

    def __init__(
        self,
        steps: int,
        start: int,
        batch_size: int,
        stream: TextIO | None = None,
        shown: bool = True,
    ):
        self._shown = shown
        self._steps = steps
        self._batch_size = batch_size
        self._stream = sys.stderr if stream is None else stream
        self._last = (start, time.perf_counter())
        self.images_per_second = float("nan")

    def measure(self, step: int) -> None:
        """Takes the rate of the steps since the last call, now that `step` are done."""
        before, then = self._last
        self._last = (step, time.perf_counter())
        seconds = self._last[1] - then
        if step > before:
            self.images_per_second = (step - before) * self._batch_size / max(seconds, 1e-9)

    def update(self, step: int, terms: Mapping[str, float]) -> None:
        """Shows that `step` steps are done, and their rate since the last call or `measure`."""
        self.measure(step)
        if not self._shown:
            return
        left = (self._steps - step) * self._batch_size / self.images_per_second
        text = "  ".join(f"{name} {value:.4g}" for name, value in terms.items())
        line = (
            f"step {step}/{self._steps}  {self.images_per_second:.1f} images/s  "
            f"{format_seconds(left)} left  {text}"
        )
        if self._stream.isatty():
            # "\x1b[K" clears what a longer line before this one left behind.
            self._stream.write(f"\r{line}\x1b[K")
        else:
            self._stream.write(line + "\n")
        self._stream.flush()

    def skip_time(self, seconds: float) -> None:
        """Leaves `seconds` spent on something else (an evaluation, a refit) out of the rate."""
        step, then = self._last
        self._last = (step, then + seconds)

    def close(self) -> None:
        """Ends the line on a terminal."""
        if self._shown and self._stream.isatty():
            self._stream.write("\n")
            self._stream.flush()


def format_seconds(seconds: float) -> str:
    """Returns "1:02:03" or "2:03"; "?" for what is not finite."""
    if not np.isfinite(seconds):
        return "?"
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"
