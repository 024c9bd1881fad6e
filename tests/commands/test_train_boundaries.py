"""Training of the boundary network: what is drawn, the loss, and a run that is stopped."""

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from jaxseg.commands import train_boundaries as command
from jaxseg.core import UserError
from tests.data.layouts_scenes import write_bsds500


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(command, "CROP", 32)


def halves(height=64, width=96):
    """An image of two halves, which one annotator divides and the other does not."""
    right = np.broadcast_to(np.arange(width) >= width // 2, (height, width))
    image = np.where(right[..., None], np.uint8(200), np.uint8(30)).repeat(3, 2)
    return command.Drawn(image, (right.astype(np.int16) + 1, np.ones((height, width), np.int16)))


def test_a_target_lies_where_the_image_changes(small):
    found = 0
    for seed in range(20):
        crop, target = command.draw(halves(), np.random.default_rng(seed))
        assert crop.shape == (32, 32, 3)
        assert crop.dtype == np.uint8
        assert target.shape == (16, 16)
        assert set(np.unique(target)) <= {-1, 0, 0.25, 0.5}
        grey = crop.astype(int).mean(axis=2)
        change = np.abs(np.diff(grey, axis=1)).reshape(32, -1)
        for y, x in zip(*np.nonzero(target == 0.5), strict=True):
            # A cell of 2 x 2 pixels, and those beside it.
            near = change[max(2 * y - 3, 0) : 2 * y + 5, max(2 * x - 3, 0) : 2 * x + 5]
            assert near.max() > 15
            found += 1
    assert found > 50


def test_the_end_of_the_image_is_no_boundary(small):
    drawn = command.Drawn(
        np.full((20, 20, 3), 90, np.uint8), (np.ones((20, 20), np.int16),)
    )  # smaller than a crop
    for seed in range(5):
        _, target = command.draw(drawn, np.random.default_rng(seed))
        assert set(np.unique(target)) == {-1, 0}


def test_batches_do_not_depend_on_where_a_run_begins(small):
    images = [halves(), halves(80, 70)]
    whole = list(command.batches(images, 3, range(4), seed=1))
    again = list(command.batches(images, 3, range(2, 4), seed=1))
    for (crops, targets), (others, same) in zip(whole[2:], again, strict=True):
        np.testing.assert_array_equal(crops, others)
        np.testing.assert_array_equal(targets, same)


def test_the_loss_is_the_cross_entropy_of_known_cells():
    rng = np.random.default_rng(0)
    target = rng.uniform(size=(2, 4, 4)).astype(np.float32)
    target[0, :2] = -1
    fine, coarse = rng.normal(size=(2, 4, 4)), rng.normal(size=(2, 2, 2))

    def entropy(logits, wanted):
        p = 1 / (1 + np.exp(-logits))
        terms = -(wanted * np.log(p) + (1 - wanted) * np.log(1 - p))
        return terms[wanted >= 0].mean()

    largest = target.reshape(2, 2, 2, 2, 2).max(axis=(2, 4))
    expected = entropy(fine, target) + 0.5 * entropy(coarse, largest)
    found = command.loss([jnp.asarray(fine), jnp.asarray(coarse)], jnp.asarray(target))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--steps=0"], "--steps is 0; it must be more than 0"),
        (["--batch=-1"], "--batch is -1"),
        (["--rate=nan"], "--rate is nan"),
        (["--out=/"], "--out: / is a folder"),
        (["--out={file}/net.safetensors"], "--out: cannot make the folder .*file: File exists"),
        (["--workdir={file}"], "--workdir: cannot make the folder .*file: File exists"),
    ],
)
def test_what_cannot_be_written_is_said_before_training(tmp_path, flags, says):
    (tmp_path / "file").touch()
    given = [f"--root={tmp_path}", f"--out={tmp_path / 'new/net'}", f"--workdir={tmp_path / 'run'}"]
    with pytest.raises(SystemExit, match=says):
        command.main([*given, *(flag.format(file=tmp_path / "file") for flag in flags)])


@pytest.mark.slow
def test_a_stopped_run_goes_on_and_ends_the_same(tmp_path, small, monkeypatch, capsys):
    monkeypatch.setattr(command, "_SAVE_EVERY", 2)
    write_bsds500(tmp_path / "data")

    def run(name, *more):
        command.main(
            [
                *("--root", str(tmp_path / "data"), "--out", str(tmp_path / f"{name}.safetensors")),
                *("--workdir", str(tmp_path / name), "--steps", "4", "--batch", "2", *more),
            ]
        )
        return safetensors.numpy.load_file(tmp_path / f"{name}.safetensors")

    whole = run("whole")
    real, made = command.batches, []

    def stop_after_three(*arguments):
        for batch in real(*arguments):
            if len(made) == 3:
                raise KeyboardInterrupt
            made.append(batch)
            yield batch

    monkeypatch.setattr(command, "batches", stop_after_three)
    with pytest.raises(KeyboardInterrupt):
        run("stopped")
    monkeypatch.setattr(command, "batches", real)
    resumed = run("stopped")
    assert "going on at step 2" in capsys.readouterr().out
    assert sorted(whole) == sorted(resumed)
    for name in whole:
        np.testing.assert_allclose(whole[name], resumed[name], rtol=1e-5, atol=1e-6)
    with pytest.raises(SystemExit, match=r"holds a run with .*'rate': 0\.002.*give the same"):
        run("stopped", "--rate", "0.1")
    with pytest.raises(UserError, match="no split 'nonsense'"):
        command.read_split(str(tmp_path / "data"), "nonsense")
