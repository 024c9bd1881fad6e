"""Packing: the packed set equals the source; killed, it goes on; what goes wrong leaves no half."""

import dataclasses
import errno
import json
import os
import pathlib
import pickle
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from jaxseg.commands import pack as packing
from jaxseg.commands.pack import Packer
from jaxseg.core import UserError
from jaxseg.data.camvid import open_camvid
from jaxseg.data.folder import open_folder
from jaxseg.data.images import Unreadable
from jaxseg.data.packed import open_packed
from jaxseg.data.scenes import Scenes
from jaxseg.data.with_regions import add_regions

ROOT = pathlib.Path(__file__).parents[2]


def packer(out, **options):
    return Packer(out, "scenes", {"size": 32}, **({"shard_bytes": 20_000} | options))


def scenes(count=20, split="val"):
    return Scenes(split, size=32, count=count)


def assert_same_source(a, b):
    assert len(a) == len(b)
    assert a.classes == b.classes
    for i in range(len(a)):
        x, y = a[i], b[i]
        assert x.name == y.name
        np.testing.assert_array_equal(x.image, y.image, strict=True)
        assert x.label.keys() == y.label.keys()
        for kind in x.label:
            np.testing.assert_array_equal(x.label[kind], y.label[kind], strict=True)
        assert (x.regions is None) == (y.regions is None)
        if x.regions is not None:
            np.testing.assert_array_equal(x.regions, y.regions, strict=True)


def files(folder):
    return {
        path.name: path.read_bytes()
        for path in folder.iterdir()
        if path.is_file() and path.name != ".lock"
    }


def photographs(root, count=9):
    """A folder of files of several kinds with labels beside some of them."""
    rng = np.random.default_rng(0)
    for i in range(count):
        image = rng.integers(0, 256, (10 + i, 20, 3), np.uint8)
        name = f"ä{i}" if i % 3 else f"sub/{i}"
        path = root / (name + (".jpg", ".png", ".webp", ".tif")[i % 4])
        path.parent.mkdir(parents=True, exist_ok=True)
        exif = Image.Exif()
        exif[274] = 1 + i % 8
        Image.fromarray(image).save(path, exif=exif)
        if i % 2:
            shape = (20, 10 + i) if 1 + i % 8 > 4 else (10 + i, 20)
            Image.fromarray(rng.integers(0, 3, shape, np.uint8)).save(
                path.with_name(path.stem + "_label.png")
            )
    return open_folder(str(root), class_names=("a", "b", "c"))


@pytest.mark.parametrize("threads", [1, 3])
def test_drawn_images_come_back(tmp_path, threads):
    manifest = packer(tmp_path, threads=threads).pack({"val": scenes()})
    assert manifest["splits"]["val"]["count"] == 20
    assert len(manifest["splits"]["val"]["shards"]) > 3
    assert_same_source(open_packed(str(tmp_path), "val"), scenes())
    assert not (tmp_path / ".partial").exists()


def test_threads_do_not_change_the_files(tmp_path):
    for threads in (1, 4):
        packer(tmp_path / str(threads), threads=threads).pack({"val": scenes()})
    assert files(tmp_path / "1") == files(tmp_path / "4")


def test_files_of_all_kinds_come_back_as_they_were(tmp_path):
    source = photographs(tmp_path / "in")
    Packer(tmp_path / "out", "folder", {}, threads=2).pack({"": source})
    packed = open_packed(str(tmp_path / "out"), "")
    assert_same_source(packed, source)
    shard = (tmp_path / "out" / packed.shards[0].file).read_bytes()
    for index in range(len(source)):
        assert source.stored(index) in shard
    entry = json.loads((tmp_path / "out" / "manifest.json").read_text())["splits"][""]
    assert (entry["smallest"], entry["largest"]) == ([10, 14], [20, 20])


def test_four_bands(tmp_path):
    bands = np.random.default_rng(0).integers(0, 256, (8, 9, 4), np.uint8)
    (tmp_path / "in").mkdir()
    Image.fromarray(bands).save(tmp_path / "in" / "a.tif")
    source = open_folder(str(tmp_path / "in"), channels=4)
    Packer(tmp_path / "out", "folder", {"channels": 4}, channels=4).pack({"": source})
    assert_same_source(open_packed(str(tmp_path / "out"), "", channels=4), source)
    with pytest.raises(UserError, match=r"data\.channels is 3; .* was packed with 4"):
        open_packed(str(tmp_path / "out"), "")


def test_regions_are_packed_with_their_images(tmp_path):
    source = photographs(tmp_path / "in", 4)
    for i in range(4):
        name = pathlib.Path(source.names[i]).with_suffix(".png")
        path = tmp_path / "regions" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shape = source[i].image.shape[:2]
        values = np.random.default_rng(i).integers(0, 40_000, shape).astype(np.uint16)
        Image.fromarray(values).save(path)
    Packer(tmp_path / "out", "folder", {}).pack({"": source}, str(tmp_path / "regions"))
    packed = open_packed(str(tmp_path / "out"), "")
    assert_same_source(packed, add_regions(source, str(tmp_path / "regions")))
    assert packed[0].regions.max() > 255
    path.unlink()
    with pytest.raises(UserError, match=r"--regions: 1 of 4 images have no region map.*ä2\.webp"):
        add_regions(source, str(tmp_path / "regions"))
    Image.fromarray(np.zeros((3, 3), np.uint8)).save(path)
    with pytest.raises(UserError, match=r"region map .*png is 3 x 3 and its image"):
        Packer(tmp_path / "other", "folder", {}).pack({"": source}, str(tmp_path / "regions"))


def test_real_camvid(tmp_path, real_data):
    source = open_camvid(str(real_data("camvid")), "val")
    source = dataclasses.replace(source, names=source.names[:9], labels=source.labels[:9])
    Packer(tmp_path, "camvid", {}).pack({"val": source})
    assert_same_source(open_packed(str(tmp_path), "val"), source)


def test_a_second_split_is_added_and_the_first_left_alone(tmp_path):
    packer(tmp_path).pack({"val": scenes()})
    before = files(tmp_path)
    packer(tmp_path).pack({"val": scenes(), "train": scenes(5, "train")})
    assert_same_source(open_packed(str(tmp_path), "train"), scenes(5, "train"))
    after = files(tmp_path)
    assert all(after[name] == before[name] for name in before if name != "manifest.json")


@pytest.mark.slow
def test_a_killed_pack_goes_on_and_ends_in_the_same_files(tmp_path):
    """A real process is killed twice while it writes, each time without warning."""
    command = [
        sys.executable, "-m", "jaxseg.prepare", "pack", "scenes", "--split=val",
        "--set", "size=64", "--set", "count=400", "--shard-mib=0.1", f"--out={tmp_path / 'out'}",
    ]  # fmt: skip
    shards = []
    for _ in range(2):
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)  # fmt: skip
        goal = len(list((tmp_path / "out").glob("*.arrayrecord"))) + 3
        while process.poll() is None and len(list((tmp_path / "out").glob("*.arrayrecord"))) < goal:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "the process was done before it was killed"
        # A shard is whole once its note says so; one that has none yet is written again.
        notes = (tmp_path / "out" / ".partial" / "val").glob("[0-9]*.json")
        whole = [tmp_path / "out" / json.loads(n.read_text())["shard"]["file"] for n in notes]
        shards.append({path: path.stat().st_mtime_ns for path in whole})
        with pytest.raises(UserError, match="manifest"):
            open_packed(str(tmp_path / "out"), "val")
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    assert len(shards[-1]) > 3
    for before in shards:  # nothing that was whole was written again
        assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    whole = Packer(tmp_path / "whole", "scenes", {"size": 64, "count": 400},
                   shard_bytes=int(0.1 * 2**20))  # fmt: skip
    whole.pack({"val": Scenes("val", size=64, count=400)})
    assert files(tmp_path / "out") == files(tmp_path / "whole")


class Failing:
    """A source whose example 11 cannot be read until it is mended."""

    def __init__(self):
        self.mended = False
        self.classes = scenes().classes

    def __len__(self):
        return 20

    def __getitem__(self, index):
        if index == 11 and not self.mended:
            raise UserError("cannot read image eleven.jpg: truncated")
        return scenes()[index]


def test_an_unreadable_file_stops_the_pack_which_goes_on_once_it_is_mended(tmp_path, monkeypatch):
    monkeypatch.setattr(packing, "_SAMPLE", 1)  # so that the estimate does not meet it
    source = Failing()
    with pytest.raises(UserError, match=r"eleven\.jpg"):
        packer(tmp_path, threads=1).pack({"val": source})
    assert not list(tmp_path.glob("*.tmp"))
    done = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.arrayrecord")}
    assert done
    source.mended = True
    packer(tmp_path, threads=1).pack({"val": source})
    assert all(path.stat().st_mtime_ns == time for path, time in done.items())
    assert_same_source(open_packed(str(tmp_path), "val"), scenes())


def test_too_little_room_is_said_before_anything_is_written(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(packing.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match=r"20 images in .* to write; 0\.0 MiB free in .*Make room"):
        packer(tmp_path).pack({"val": scenes()})
    assert not list(tmp_path.glob("*.arrayrecord*"))


class FullWriter:
    """An ArrayRecord writer on a disk that fills up."""

    room = 10

    def __init__(self, path, options):
        self.real = original(path, options)

    def write(self, record):
        FullWriter.room -= 1
        if FullWriter.room < 0:
            raise RuntimeError(f"write() failed: {os.strerror(errno.ENOSPC)}; writing x")
        self.real.write(record)

    def close(self):
        self.real.close()


original = packing.ArrayRecordWriter


def test_a_disk_that_fills_up_leaves_whole_shards_and_can_go_on(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(packing, "ArrayRecordWriter", FullWriter)
        with pytest.raises(UserError, match=r"no room is left in .*give the same command again"):
            packer(tmp_path, threads=1).pack({"val": scenes()})
    assert not list(tmp_path.glob("*.tmp"))
    assert list(tmp_path.glob("*.arrayrecord"))
    packer(tmp_path).pack({"val": scenes()})
    assert_same_source(open_packed(str(tmp_path), "val"), scenes())


LIMITED = """
import resource, pathlib
from jaxseg.commands.pack import Packer
from jaxseg.core import UserError
from jaxseg.data.scenes import Scenes
packer = Packer(pathlib.Path("{out}"), "scenes", {{}}, shard_bytes=10**6)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
try:
    packer.pack({{"val": Scenes("val", size=64, count=60)}})
except UserError as error:
    print(error)
"""


def test_a_write_that_the_system_refuses(tmp_path):
    """The system itself refuses to let a file grow: no stand-in for the writer here."""
    script = LIMITED.format(out=tmp_path / "out")
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert f"--out: cannot write to {tmp_path / 'out'}" in result.stdout
    assert os.strerror(errno.EFBIG) in result.stdout
    assert [p.name for p in (tmp_path / "out").iterdir() if p.is_file()] == [".lock"]


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"--out: cannot write to .*Not a directory"):
        packer(tmp_path / "file" / "out").pack({"val": scenes()})


def test_another_pack_in_the_folder_is_not_touched(tmp_path):
    packer(tmp_path).pack({"val": scenes()})
    before = files(tmp_path)
    with pytest.raises(UserError, match=r"holds another pack, whose fields is .*32.* here it is"):
        Packer(tmp_path, "scenes", {"size": 64}).pack({"train": scenes(5, "train")})
    assert files(tmp_path) == before


def test_a_half_packed_split_of_other_images_is_not_gone_on_with(tmp_path, monkeypatch):
    monkeypatch.setattr(packing, "_SAMPLE", 1)
    with pytest.raises(UserError, match="eleven"):
        packer(tmp_path, threads=1).pack({"val": Failing()})
    with pytest.raises(UserError, match="holds another pack, whose count is 20; here it is 19"):
        packer(tmp_path).pack({"val": scenes(19)})


def test_two_processes_do_not_pack_into_one_folder(tmp_path):
    with packing._locked(tmp_path), pytest.raises(UserError, match="another process is packing"):
        packer(tmp_path).pack({"val": scenes()})


def test_an_empty_split_is_refused(tmp_path):
    class Empty(Failing):
        def __len__(self):
            return 0

    with pytest.raises(UserError, match="'val' is empty"):
        packer(tmp_path).pack({"val": Empty()})


@pytest.fixture
def packed(tmp_path):
    packer(tmp_path).pack({"val": scenes()})
    return tmp_path


def test_a_copy_through_a_pipe_reads_for_itself(packed):
    source = open_packed(str(packed), "val")
    source[3]
    copy = pickle.loads(pickle.dumps(source))
    assert copy == source
    assert_same_source(copy, scenes())
    assert dataclasses.replace(source, classes={})[0].label == {}


def test_indices_are_those_of_a_sequence(packed):
    source = open_packed(str(packed), "val")
    np.testing.assert_array_equal(source[-1].image, scenes()[19].image)
    with pytest.raises(IndexError):
        source[20]


def test_a_flipped_bit_is_found_when_it_is_read(packed):
    path = packed / open_packed(str(packed), "val").shards[1].file
    data = bytearray(path.read_bytes())
    place = data.index(b"IDAT") + 50
    data[place] ^= 1
    path.write_bytes(data)
    source = open_packed(str(packed), "val")
    first = source.shards[0].records
    source[0]
    second = range(first, first + source.shards[1].records)
    with pytest.raises(Unreadable, match=rf"cannot read record \d+ of {path}: .*hash mismatch"):
        [source[index] for index in second]


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda p: p.unlink(), "No such file or directory"),
        (lambda p: p.write_bytes(p.read_bytes()[:-1]), "has .* bytes; the manifest says"),
    ],
)
def test_missing_and_cut_shards_are_found_at_once(packed, harm, message):
    path = packed / open_packed(str(packed), "val").shards[0].file
    harm(path)
    with pytest.raises(UserError, match=f"packed shard {path}.*{message}"):
        open_packed(str(packed), "val")
    with pytest.raises(UserError, match=f"packed shard {path}.*{message}"):
        packer(packed).pack({"val": scenes()})


def test_a_shard_of_the_right_size_that_is_none(packed):
    path = packed / open_packed(str(packed), "val").shards[0].file
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(Unreadable, match=f"of {path}"):
        open_packed(str(packed), "val")[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot read .*manifest.json: No such file.*prepare pack NAME"),
        ("{", "manifest.json is damaged"),
        ("[]", r"manifest.json says \[\]"),
        ('{"format": "jaxseg-packed", "version": 2}', "'version': 2.*Pack the data set again"),
    ],
)
def test_manifests_that_are_none(packed, text, message):
    if text is None:
        (packed / "manifest.json").unlink()
    else:
        (packed / "manifest.json").write_text(text)
    with pytest.raises(UserError, match=message):
        open_packed(str(packed), "val")


def test_a_split_that_is_not_there(packed):
    with pytest.raises(UserError, match=r"no packed split 'train'; it has \['val'\]"):
        open_packed(str(packed), "train")
    with pytest.raises(UserError, match=r"data\.root is empty"):
        open_packed("", "val")
