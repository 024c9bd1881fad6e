"""Any data set that TensorFlow Datasets has prepared as array_record, read without TensorFlow.

Layout, as `tfds build --file_format=array_record` writes it where TensorFlow is installed:

    root/<name>[/<config>]/<version>/<name>-<split>.array_record-<n>-of-<m>
    root/<name>[/<config>]/<version>/dataset_info.json, features.json

The builder's code is not needed, nor run. Needs the package tensorflow-datasets, `jaxseg[tfds]`.
"""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxseg.core import UserError
from jaxseg.data.encodings import look_up
from jaxseg.data.fingerprint import digest, of_files
from jaxseg.data.folder import is_there
from jaxseg.data.source import Example

# Counts are those of the builder: its dataset_info.json holds them.
EXPECTED: dict[str, dict[str, int]] = {"tfds": {}}


@dataclasses.dataclass(frozen=True)
class Tfds:
    """A split of a prepared builder; made by `open_tfds`.

    `source[i]` is record i, in the order of the shards: its image u8[H W Ch] and, if there are
    `classes`, its label i32[H W].

    Raises:
      UserError: a record cannot be decoded; a label has another size than its image or a value
        outside the classes.
    """

    records: Any  # random access: index -> features by name; can be sent to other processes
    title: str  # for messages
    image: str
    label: str
    classes: dict[str, tuple[str, ...]]
    values: Mapping[int, int]  # label value -> class
    channels: int = 3
    files: str = ""  # fingerprint of the files and the split of them

    @property
    def fingerprint(self) -> str:
        """Of the prepared files, the split and how images are read."""
        return digest("tfds", self.files, self.image, self.channels)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Example:
        index = range(len(self))[index]
        name = f"{self.title}, record {index}"
        try:
            record = self.records[index]
        except Exception as error:  # the decoders raise many kinds
            raise UserError(f"cannot read {name}: {error}. Prepare the data set again") from error
        image = np.asarray(record[self.image])
        if image.dtype == np.uint8 and image.shape[2:] == (1,) and self.channels == 3:
            image = np.repeat(image, 3, axis=2)
        if image.dtype != np.uint8 or image.shape[2:] != (self.channels,):
            raise UserError(
                f"{name}: {self.image!r} is {image.dtype} of shape {image.shape}; expected uint8 "
                f"[height, width, {self.channels}]. Name another feature (data.image_feature) or "
                "number of channels (data.channels)"
            )
        if not self.classes:
            return Example(image=image, name=name)
        stored = np.asarray(record[self.label])
        stored = stored[:, :, 0] if stored.ndim == 3 else stored
        if stored.shape != image.shape[:2]:
            raise UserError(
                f"{name}: {self.label!r} is {stored.shape} and {self.image!r} {image.shape[:2]} "
                "(height, width); expected one size. Name another feature (data.label_feature)"
            )
        label = look_up(stored.astype(np.int32), self.values, name)
        return Example(image=image, label={"class": label}, name=name)


def open_tfds(
    root: str,
    split: str,
    tfds: str,
    image_feature: str = "image",
    label_feature: str = "segmentation_mask",
    class_names: Sequence[str] = (),
    first_value: int = 0,
    ignore: Sequence[int] = (255,),
    channels: int = 3,
) -> Tfds:
    """Opens a split of a prepared data set.

    Args:
      root: folder of prepared data sets (TFDS's data_dir).
      split: as TFDS has it, such as "train" or "train[:80%]".
      tfds: name, such as "oxford_iiit_pet" or "oxford_iiit_pet:4.0.0" or "name/config".
      image_feature: the image, uint8 [height, width, 1, 3 or 4].
      label_feature: the label map, whole numbers [height, width] or [height, width, 1].
      class_names: names of the label values from `first_value` on; () = labels are not read.
      first_value: label value of the first class.
      ignore: label values that become -1.
      channels: 3 (RGB) or 4 (RGB and infrared).

    Raises:
      UserError: tensorflow-datasets is not installed; there is no such data set, split or feature,
        or it was not prepared as array_record.
    """
    builder = _builder(root, tfds)
    title = f"{tfds} in {root}"
    features = builder.info.features
    for field, name in (("image_feature", image_feature), ("label_feature", label_feature)):
        if name not in features and (field == "image_feature" or class_names):
            raise UserError(
                f"data.{field} is {name!r}; the features of {title} are "
                f"{', '.join(sorted(features))}"
            )
    try:
        records = builder.as_data_source(split=split)
    except NotImplementedError as error:
        raise UserError(
            f"{title} was not prepared as array_record ({str(error).splitlines()[0]}). Prepare it "
            f"again, where TensorFlow is installed: tfds build {tfds} --file_format=array_record"
        ) from error
    except ValueError as error:
        raise UserError(
            f"{title} has no split {split!r}; its splits are "
            f"{', '.join(sorted(builder.info.splits))}. Correct data.train_split or data.test_split"
        ) from error
    values = dict.fromkeys(ignore, -1)
    values |= {first_value + index: index for index in range(len(class_names))}
    classes = {"class": tuple(class_names)} if class_names else {}
    folder = str(builder.data_path)
    files = digest(split, of_files(folder, sorted(os.listdir(folder))))
    return Tfds(records, title, image_feature, label_feature, classes, values, channels, files)


def _builder(root: str, name: str) -> Any:
    """Returns the builder as its files describe it."""
    try:
        import tensorflow_datasets
        from tensorflow_datasets.core import naming, read_only_builder
    except ImportError as error:
        raise UserError(
            f"data.name='tfds' needs the package tensorflow-datasets ({error}); install it with "
            "pip install 'jaxseg[tfds]'"
        ) from error
    folder = os.path.abspath(os.path.expanduser(root))
    is_there(os.path.join(folder, name))  # TFDS takes what it may not look at for missing
    try:
        base, fields = naming.parse_builder_name_kwargs(name, data_dir=folder)
        return read_only_builder.builder_from_files(str(base), **fields)
    except (
        tensorflow_datasets.core.DatasetNotFoundError,
        FileNotFoundError,
        ValueError,
        TypeError,
    ) as error:
        raise UserError(
            f"data.tfds is {name!r}, which is not prepared in data.root {folder}. Expected "
            f"{folder}/{name.replace(':', '/')}/<version>/dataset_info.json; prepare it where "
            f"TensorFlow is installed: tfds build {name} --file_format=array_record "
            f"--data_dir={folder}"
        ) from error
