"""Arrays to TFDS data sets; digits, which scikit-learn ships, goes this way like any other."""

import contextlib
import io
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import sklearn.datasets
import sklearn.model_selection
import tensorflow_datasets as tfds

from rmc_tf.common.errors import UserError
from rmc_tf.data import images as pixels


def store(
    name: str,
    splits: Mapping[str, tuple[np.ndarray, np.ndarray]],
    *,
    class_names: Sequence[str],
    data_dir: str = "",
    version: str = "1.0.0",
    description: str = "",
) -> pathlib.Path:
    """Writes arrays as a TFDS data set (ArrayRecord, in order) and returns its folder.

    Args:
      name: of the data set, in lower case with underscores.
      splits: name to (images [N, H, W, C] uint8, labels [N] integers).
      class_names: names of the labels 0, 1, …
      data_dir: where; empty: TFDS' default.
      version: three numbers.
      description: what the data is.

    Raises:
      UserError: images or labels of the wrong type, shape or range, or the data
        set exists.
    """
    shape = next(iter(splits.values()))[0].shape[1:]
    for split, (images, labels) in splits.items():
        source = f"data set {name}, split {split}"
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != shape:
            raise UserError(
                f"{source}: images are {images.dtype} of shape {list(images.shape)}, "
                f"expected uint8 of shape [N, {', '.join(map(str, shape))}]"
            )
        if len(images) != len(labels):
            raise UserError(f"{source}: {len(images)} images but {len(labels)} labels")
        pixels.check_labels(labels, len(class_names), source)
    root = pathlib.Path(data_dir or tfds.core.constants.DATA_DIR).expanduser()
    folder = root / name / version
    if not re.fullmatch("[a-z][a-z0-9_]*", name):
        raise UserError(f"data set name {name!r}: expected lower case and underscores")
    if not re.fullmatch(r"(0|[1-9]\d*)(\.(0|[1-9]\d*)){2}", version):
        raise UserError(f"data set version {version!r}: expected three numbers, as in 1.0.0")
    if folder.exists():
        raise UserError(f"{folder}: the data set {name} is there already; delete it to remake it")
    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=shape, dtype=np.uint8),
            "label": tfds.features.ClassLabel(names=list(class_names)),
        }
    )

    def examples(images: np.ndarray, labels: np.ndarray) -> Iterator[tuple[int, dict[str, Any]]]:
        for row, (image, label) in enumerate(zip(images, labels, strict=True)):
            yield row, {"image": image, "label": int(label)}

    class _Stored(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[misc, call-arg]
        VERSION = tfds.core.Version(version)

        def _info(self) -> Any:
            return tfds.core.DatasetInfo(
                builder=self,
                description=description,
                features=features,
                supervised_keys=("image", "label"),
                disable_shuffling=True,
            )

        def _split_generators(self, download: Any) -> Any:
            del download
            return {split: examples(*arrays) for split, arrays in splits.items()}

        def _generate_examples(self) -> Any:
            raise NotImplementedError("the splits are generated above")

    _Stored.name = name
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # TFDS announces a download
            _Stored(data_dir=root, file_format="array_record").download_and_prepare(
                download_config=tfds.download.DownloadConfig(try_download_gcs=False)
            )
    except (OSError, RuntimeError) as error:  # ArrayRecord's is a RuntimeError on a full disk
        with contextlib.suppress(OSError):
            (root / name).rmdir()  # if it is empty
        raise UserError(
            f"--data_dir={root}: {name} can't be written ({error}); make room there, or name "
            "another folder"
        ) from error
    finally:
        for unused in ("downloads/extracted", "downloads"):
            with contextlib.suppress(OSError):
                (root / unused).rmdir()  # TFDS makes them in any case
    return folder


def store_digits(data_dir: str) -> pathlib.Path:
    """Stores the 1,797 digits of 8×8 pixels that scikit-learn ships, 400 of them as test rows."""
    digits = sklearn.datasets.load_digits()
    eight_bit = np.rint(digits.images[..., None] * (255 / 16)).astype(np.uint8)
    train, test = sklearn.model_selection.train_test_split(
        np.arange(len(eight_bit)), test_size=400, random_state=0, stratify=digits.target
    )
    parts = {"train": train, "test": test}
    with contextlib.redirect_stderr(io.StringIO()):  # TFDS draws bars, for work of a second
        return store(
            "digits",
            {name: (eight_bit[rows], digits.target[rows]) for name, rows in parts.items()},
            class_names=[str(name) for name in digits.target_names],
            data_dir=data_dir,
            description="Optical recognition of handwritten digits (UCI), from scikit-learn.",
        )
