"""What a run writes."""

import io
import json

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from jaxseg.writer import Progress, Writer, format_seconds, read_metrics


def test_metrics_go_to_json_lines_and_tensorboard(tmp_path):
    writer = Writer(tmp_path)
    writer.scalars(3, {"loss": np.float32(0.5), "bad": float("nan")})
    writer.images(3, {"samples": np.zeros((4, 6, 3), np.uint8)})
    writer.close()
    (row,) = read_metrics(tmp_path / "metrics.jsonl")
    assert (row["step"], row["loss"], row["bad"]) == (3, 0.5, None)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert events.Scalars("loss")[0].value == 0.5
    assert (events.Images("samples")[0].height, events.Images("samples")[0].width) == (4, 6)


def test_histograms_are_kept_with_their_bins(tmp_path):
    writer = Writer(tmp_path)
    writer.histograms(7, {"monitor/delta_histogram": np.array([0.5, 0.125, 0, 0.375], np.float32)})
    writer.close()
    (row,) = read_metrics(tmp_path / "metrics.jsonl")
    assert (row["step"], row["monitor/delta_histogram"]) == (7, [0.5, 0.125, 0, 0.375])
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    (event,) = events.Histograms("monitor/delta_histogram")
    found = event.histogram_value
    assert (list(found.bucket_limit), list(found.bucket)) == (
        [0.25, 0.5, 0.75, 1], [0.5, 0.125, 0, 0.375],
    )  # fmt: skip
    assert (found.min, found.max, found.num) == (0, 1, 1)
    assert found.sum == 0.5 * 0.125 + 0.125 * 0.375 + 0.375 * 0.875


def test_resuming_drops_later_rows_and_a_torn_last_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    rows = [json.dumps({"step": step}) for step in (1, 2, 3)]
    path.write_text("\n".join(rows) + '\n{"step": 4, "lo')
    writer = Writer(tmp_path, resume=2)
    writer.scalars(3, {"loss": 1.0})
    writer.close()
    assert [row["step"] for row in read_metrics(path)] == [1, 2, 3]
    assert read_metrics(path)[-1]["loss"] == 1.0


def test_progress_line():
    stream = io.StringIO()
    progress = Progress(steps=10, start=0, batch_size=4, stream=stream)
    progress.update(5, {"loss": 1.23456})
    line = stream.getvalue()
    assert line.startswith("step 5/10  ")
    assert "images/s" in line
    assert line.endswith(" left  loss 1.235\n")


def test_the_rate_leaves_out_what_was_measured_apart(monkeypatch):
    clock = iter([0.0, 100.0, 104.0, 104.0])
    monkeypatch.setattr("jaxseg.writer.time.perf_counter", lambda: next(clock))
    stream = io.StringIO()
    progress = Progress(steps=9, start=0, batch_size=4, stream=stream)
    progress.measure(1)  # the first step, which compiles
    assert progress.images_per_second == 0.04
    progress.update(5, {})
    progress.update(5, {})  # nothing is new
    assert stream.getvalue().splitlines() == ["step 5/9  4.0 images/s  0:04 left  "] * 2


def test_times():
    assert format_seconds(59.6) == "1:00"
    assert format_seconds(3723) == "1:02:03"
    assert format_seconds(float("nan")) == "?"
