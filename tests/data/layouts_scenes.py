"""Miniature copies of the official layouts of scene data sets: a few small images, exact formats.

`write_NAME(root)` writes the data set of the source NAME below `root` and returns the fields of
`data` that open it, beside `name` and `root`. Images are noise around the colour of each class, so
that image and label can be told to belong together.
"""

import io
import pathlib

import numpy as np
import scipy.io
from PIL import Image

from jaxseg.data.aerial import DUBAI_COLOURS
from jaxseg.data.potsdam import COLOURS6
from jaxseg.data.potsdam_tiles import prepare_potsdam

Fields = dict[str, object]


def scene(seed: int, values, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns an image u8[H W 3] and a map of `values` i64[H W], in blocks of 8 x 8 pixels."""
    rng = np.random.default_rng(seed)
    blocks = rng.permutation(np.resize(np.asarray(values), (-(-height // 8)) * (-(-width // 8))))
    ids = blocks.reshape(-(-height // 8), -1).repeat(8, 0).repeat(8, 1)[:height, :width]
    colours = np.random.default_rng(7).integers(30, 220, (256, 3))
    noise = rng.integers(-12, 13, (height, width, 3))
    return (colours[ids % 256] + noise).astype(np.uint8), ids


def save(array: np.ndarray, path: pathlib.Path, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


def paint(ids: np.ndarray, colours: dict[tuple[int, int, int], int]) -> np.ndarray:
    """Returns the label u8[H W 3] painted in the colours of its classes."""
    by_class = {value: colour for colour, value in colours.items()}
    return np.array([by_class[value] for value in ids.ravel().tolist()], np.uint8).reshape(
        *ids.shape, 3
    )


def write_camvid(root: pathlib.Path) -> Fields:
    """480 x 360 frames, here 48 x 32; greyscale labels 0 to 11."""
    for split, count in (("train", 4), ("val", 2)):
        for index in range(count):
            image, ids = scene(index, range(12), 32, 48)
            name = f"{'0001TP' if split == 'train' else '0016E5'}_{index:06}.png"
            save(image, root / "images" / split / name)
            save(ids.astype(np.uint8), root / "labels" / split / name)
    return {"train_split": "train", "test_split": "val"}


def write_cityscapes27(root: pathlib.Path) -> Fields:
    """leftImg8bit and gtFine of all splits, gtCoarse of some of train_extra."""
    cities = {"train": "aachen", "val": "frankfurt", "test": "berlin", "train_extra": "bayreuth"}
    for number, (split, city) in enumerate(cities.items()):
        kind = "gtCoarse" if split == "train_extra" else "gtFine"
        for index in range(3):
            image, ids = scene(10 * number + index, range(34), 48, 96)
            frame = f"{city}_{index:06}_000019"
            save(image, root / "leftImg8bit" / split / city / f"{frame}_leftImg8bit.png")
            folder = root / kind / split / city
            if split == "test":
                ids = np.full_like(ids, 3)  # the published test labels hold void alone
            if split != "train_extra" or index < 2:
                save(ids.astype(np.uint8), folder / f"{frame}_{kind}_labelIds.png")
                save((ids * 1000).astype(np.uint16), folder / f"{frame}_{kind}_instanceIds.png")
                save(image, folder / f"{frame}_{kind}_color.png")
    return {"train_split": "train", "test_split": "val"}


write_cityscapes19 = write_cityscapes27


def write_kitti_step(root: pathlib.Path) -> Fields:
    """Frames of videos with panoptic maps: red = trainId, green and blue = instance."""
    for split, sequence, frames in (
        ("train", "0000", 2), ("train", "0001", 2), ("val", "0002", 2), ("val", "0006", 1),
    ):  # fmt: skip
        for frame in range(frames):
            image, ids = scene(int(sequence) + 100 * frame, [*range(19), 255], 30, 100)
            instance = np.where((ids == 11) | (ids == 13), 300, 0)
            panoptic = np.stack([ids, instance // 256, instance % 256], 2).astype(np.uint8)
            save(image, root / "images" / split / sequence / f"{frame:06}.png")
            save(panoptic, root / "panoptic_maps" / split / sequence / f"{frame:06}.png")
    return {"train_split": "train", "test_split": "val"}


def write_kitti_semantic(root: pathlib.Path) -> Fields:
    """training/image_2 and semantic (ids of Cityscapes), testing/image_2."""
    for index in range(8):
        image, ids = scene(index, range(34), 30, 100)
        save(image, root / "training" / "image_2" / f"{index:06}_10.png")
        save(ids.astype(np.uint8), root / "training" / "semantic" / f"{index:06}_10.png")
        if index < 2:
            save(image, root / "testing" / "image_2" / f"{index:06}_10.png")
    return {"train_split": "train", "test_split": "val"}


def write_potsdam_release(root: pathlib.Path, side: int = 200) -> None:
    """Five images as TIFFs of four bands, three of them with labels as colours."""
    for index, place in enumerate(("2_10", "3_11", "7_12", "2_13", "6_14")):
        image, ids = scene(index, range(6), side, side)
        infrared = (40 * ids + 20).astype(np.uint8)[:, :, None]
        folder = root / "4_Ortho_RGBIR"
        folder.mkdir(parents=True, exist_ok=True)
        # The mode RGBX writes a fourth band that is not called alpha.
        bands = np.concatenate([image, infrared], 2).tobytes()
        picture = Image.frombuffer("RGBX", (side, side), bands, "raw", "RGBX", 0, 1)
        picture.save(folder / f"top_potsdam_{place}_RGBIR.tif")
        if index < 3:
            labels = root / "5_Labels_for_participants"
            save(paint(ids, COLOURS6), labels / f"top_potsdam_{place}_label.tif")


def write_potsdam(root: pathlib.Path) -> Fields:
    """The release, cut into 2 x 2 tiles of 50 x 50 an image."""
    write_potsdam_release(root)
    prepare_potsdam(str(root), tile=50)
    return {"train_split": "train", "test_split": "val", "channels": 4}


write_potsdam3 = write_potsdam


def write_potsdam_crops(root: pathlib.Path) -> Fields:
    """img_dir and ann_dir, greyscale labels 0 (border) to 6."""
    for split, count in (("train", 3), ("val", 2)):
        for index in range(count):
            image, ids = scene(index, range(7), 48, 48)
            save(image, root / "img_dir" / split / f"2_10_{index}_0_512_512.png")
            save(ids.astype(np.uint8), root / "ann_dir" / split / f"2_10_{index}_0_512_512.png")
    return {"train_split": "train", "test_split": "val"}


def write_vaihingen(root: pathlib.Path) -> Fields:
    """TIFFs of infrared, red, green, with labels as colours for all areas."""
    for area in (1, 3, 5, 2, 4):
        image, ids = scene(area, range(6), 50 + area, 40)
        name = f"top_mosaic_09cm_area{area}.tif"
        save(image, root / "top" / name)
        painted = paint(ids, COLOURS6)
        if area % 2:
            save(painted, root / "gts_for_participants" / name)
        save(painted, root / "gts_complete" / name)
    return {"train_split": "train", "test_split": "test"}


def write_loveda(root: pathlib.Path) -> Fields:
    """Train, Val and Test of Rural and Urban; greyscale masks 0 (no data) to 7."""
    for number, split in enumerate(("Train", "Val", "Test")):
        for place, ending in (("Rural", 0), ("Urban", 1)):
            for index in range(2):
                image, ids = scene(10 * number + index, range(8), 48, 48)
                name = f"{100 * number + 10 * ending + index}.png"
                save(image, root / split / place / "images_png" / name)
                if split != "Test":
                    save(ids.astype(np.uint8), root / split / place / "masks_png" / name)
    return {"train_split": "train", "test_split": "val"}


def write_dubai(root: pathlib.Path) -> Fields:
    """Tile folders of JPEGs with masks as colours."""
    shown = {colour: value for colour, value in DUBAI_COLOURS.items() if colour != (0, 0, 0)}
    for tile in (1, 2, 5, 6):
        for index in range(2):
            image, ids = scene(10 * tile + index, range(-1, 5), 40 + tile, 50)
            folder = root / f"Tile {tile}"
            save(image, folder / "images" / f"image_part_{index:03}.jpg", quality=98, subsampling=0)
            save(paint(ids, shown), folder / "masks" / f"image_part_{index:03}.png")
    return {"train_split": "train", "test_split": "val"}


def write_bsds500(root: pathlib.Path) -> Fields:
    """JPEGs, and .mat files of two segmentations each."""
    for split, count in (("train", 3), ("val", 2), ("test", 2)):
        (root / "groundTruth" / split).mkdir(parents=True)
        for index in range(count):
            image, ids = scene(index, range(1, 6), 33, 49)
            save(image, root / "images" / split / f"{100 + index}.jpg", quality=95)
            cell = np.empty((1, 2), object)
            for number, regions in enumerate((ids, (ids + 1) // 2)):
                cell[0, number] = {
                    "Segmentation": regions.astype(np.uint16),
                    "Boundaries": (np.diff(regions, axis=0, prepend=0) != 0).astype(np.uint8),
                }
            path = root / "groundTruth" / split / f"{100 + index}.mat"
            scipy.io.savemat(path, {"groundTruth": cell})
    return {"train_split": "train", "test_split": "val"}


def write_tfds(root: pathlib.Path) -> Fields:
    """A builder `mini` of two splits, its images PNGs."""
    return prepare_tfds(root, "png")


def prepare_tfds(root: pathlib.Path, encoding: str) -> Fields:
    """Writes a builder by TFDS's own code, which needs no TensorFlow; images "png" or "jpeg"."""
    import tensorflow_datasets as tfds
    from array_record.python import array_record_module
    from tensorflow_datasets.core import dataset_info, naming, splits

    folder = root / "mini" / "1.0.0"
    folder.mkdir(parents=True)
    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(None, None, 3), encoding_format=encoding),
            "segmentation_mask": tfds.features.Image(shape=(None, None, 1)),
            "file_name": tfds.features.Text(),
        }
    )
    infos = []
    for split, count in (("train", 4), ("test", 2)):
        template = naming.ShardedFileTemplate(
            data_dir=folder, dataset_name="mini", split=split, filetype_suffix="array_record"
        )
        path = template.sharded_filepath(shard_index=0, num_shards=1)
        writer = array_record_module.ArrayRecordWriter(str(path), "group_size:1")
        size = 0
        for index in range(count):
            image, ids = scene(index, range(1, 4), 40, 48)
            record = features.serialize_example(
                features.encode_example(
                    {
                        "image": encoded(image, encoding),
                        "segmentation_mask": encoded(ids.astype(np.uint8), "png"),
                        "file_name": f"{index}.png",
                    }
                )
            )
            size += len(record)
            writer.write(record)
        writer.close()
        infos.append(
            splits.SplitInfo(
                name=split, shard_lengths=[count], num_bytes=size, filename_template=template
            )
        )
    identity = dataset_info.DatasetIdentity(
        name="mini", version="1.0.0", data_dir=str(folder), module_name="mini"
    )
    info = dataset_info.DatasetInfo(builder=identity, features=features)
    info.set_file_format("array_record")
    info.set_splits(splits.SplitDict(infos))
    info.write_to_directory(folder)
    return {
        "train_split": "train",
        "test_split": "test",
        "tfds": "mini",
        "class_names": ("pet", "background", "border"),
        "first_value": 1,
    }


def encoded(array: np.ndarray, encoding: str) -> io.BytesIO:
    """Returns the array as the bytes of a file: TFDS would ask TensorFlow to encode it."""
    file = io.BytesIO()
    Image.fromarray(array).save(file, encoding)
    file.seek(0)
    return file
