"""Makes a TFDS data set out of raw files that are on disk; uses no network.

python tools/prepare_dataset.py --name=fashion_mnist --source=/usr/share/datasets/fashion-mnist

Reads MNIST and its kin (IDX files, plain or .gz) and CIFAR-10 (the python or the
binary archive, packed or extracted). --source is the folder that holds the files,
or the archive.
"""

import contextlib
import dataclasses
import gzip
import io
import math
import os
import pathlib
import pickle
import re
import shlex
import sys
import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from absl import app, flags, logging

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # runs from a checkout

from rmc_tf.common.errors import UserError  # what needs TensorFlow is imported late

Rows = tuple[np.ndarray, np.ndarray]
"""Images [N, H, W, C] uint8 and labels [N] int64."""

_AGAIN = "get the file again"
_CLASS_NAMES = {
    "mnist": tuple("0123456789"),
    "fashion_mnist": (
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
}


def prepare(
    name: str,
    source: str,
    *,
    data_dir: str = "",
    version: str = "1.0.0",
    file_format: str = "auto",
    class_names: Sequence[str] = (),
) -> tuple[pathlib.Path, dict[str, int]]:
    """Converts raw files; returns the data set's folder and the rows of each split.

    Args:
      name: of the data set, in lower case with underscores.
      source: the folder that holds the files, or a tar archive.
      data_dir: where to; empty: TFDS' default.
      version: three numbers.
      file_format: "idx", "cifar10", or "auto": by the names of the files.
      class_names: names of the labels 0, 1, …; empty: those of the data set.

    Raises:
      UserError: a file is missing, damaged, foreign or contradicts another; the data
        set is there already; or it can't be written.
    """
    if not re.fullmatch("[a-z][a-z0-9_]*", name):
        raise UserError(f"--name={name}: expected lower case and underscores, as in fashion_mnist")
    if not re.fullmatch(r"(0|[1-9]\d*)(\.(0|[1-9]\d*)){2}", version):
        raise UserError(f"--version={version}: expected three numbers, as in 1.0.0")
    files = _open(pathlib.Path(source).expanduser())
    if file_format == "auto":
        file_format = _detect(files)
    splits = _read_idx(files) if file_format == "idx" else _read_cifar10(files)
    highest = max(int(labels.max()) for _, labels in splits.values())
    named_by = f"--class_names={','.join(class_names)}"
    if not class_names and file_format == "cifar10":
        named_by, class_names = _cifar10_names(files)
    elif not class_names:
        numbers = [str(label) for label in range(highest + 1)]
        named_by, class_names = f"--name={name}", _CLASS_NAMES.get(name, numbers)
    class_names = [class_name.strip() for class_name in class_names]
    if not all(class_names) or len(set(class_names)) < len(class_names):
        raise UserError(f"{named_by}: a class name is empty or repeated; name each label once")
    if highest >= len(class_names):
        raise UserError(
            f"{named_by}: {len(class_names)} class names, but {files.place} has a label {highest}; "
            "name every label by --class_names"
        )
    description = f"Made by tools/prepare_dataset.py out of {file_format} files."
    folder = _store(name, splits, class_names, data_dir, version, description)
    return folder, {split: len(labels) for split, (_, labels) in splits.items()}


def _store(
    name: str,
    splits: dict[str, Rows],
    class_names: Sequence[str],
    data_dir: str,
    version: str,
    description: str,
) -> pathlib.Path:
    import tensorflow_datasets as tfds

    from rmc_tf.data import tfds_store

    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    return tfds_store.store(
        name,
        splits,
        class_names=class_names,
        data_dir=data_dir,
        version=version,
        description=description,
    )


@dataclasses.dataclass(frozen=True)
class _Files:
    """The files of a folder or of an archive, by name."""

    place: pathlib.Path
    names: frozenset[str]
    _read: Callable[[str], bytes]

    def read(self, *spellings: str) -> tuple[str, bytes]:
        """Returns path and content, decompressed, of the file that has one of these names."""
        for name in spellings:
            if name in self.names:
                path = f"{self.place}/{name}"
                with _reading(path):
                    return path, _decompressed(self._read(name))
        raise UserError(f"{self.place}: {' or '.join(spellings)} is missing; add it")


@contextlib.contextmanager
def _reading(path: str) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        if isinstance(error, OSError) and error.strerror:
            raise UserError(f"{path}: {error.strerror}; correct the path or its mode") from None
        raise UserError(f"{path}: truncated or damaged ({error}); {_AGAIN}") from None


def _decompressed(content: bytes) -> bytes:
    return gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content


def _open(source: pathlib.Path) -> _Files:
    """Returns the files of `source`, or of the CIFAR-10 folder or archive inside it."""
    folders = ("cifar-10-batches-py", "cifar-10-batches-bin")
    archives = ("cifar-10-python.tar.gz", "cifar-10-binary.tar.gz")
    with _reading(f"--source={source}"):
        if source.is_dir():
            names = frozenset(file.name for file in source.iterdir())
            inside = [name for name in folders + archives if name in names]
            if inside and not _formats(names):
                return _open(source / inside[0])
            return _Files(source, names, lambda name: (source / name).read_bytes())
        content = io.BytesIO(_decompressed(source.read_bytes()))
        contents: dict[str, bytes] = {}
        if not tarfile.is_tarfile(content):
            raise UserError(f"--source={source}: not a tar archive; name the folder of the files")
        with tarfile.open(fileobj=content, mode="r:") as archive:
            for member in archive:
                if file := archive.extractfile(member):
                    contents[pathlib.PurePosixPath(member.name).name] = file.read()
        return _Files(source, frozenset(contents), contents.__getitem__)


def _formats(names: frozenset[str]) -> list[str]:
    """Returns the formats of which there is at least one file."""
    begin = {"idx": ("train-images", "t10k-images"), "cifar10": ("data_batch_", "test_batch")}
    return [form for form, starts in begin.items() if any(n.startswith(starts) for n in names)]


def _detect(files: _Files) -> str:
    found = _formats(files.names)
    if not found:
        raise UserError(
            f"--source={files.place}: holds neither IDX files (train-images-idx3-ubyte.gz, …) nor "
            "CIFAR-10 (data_batch_1, …); name the folder or the archive that does"
        )
    if len(found) > 1:
        raise UserError(f"--source={files.place}: holds {' and '.join(found)}; choose by --format")
    return found[0]


def _read_idx(files: _Files) -> dict[str, Rows]:
    splits = {}
    for split, part in {"train": "train", "test": "t10k"}.items():
        images_path, images = _idx(files, f"{part}-images", 3)
        labels_path, labels = _idx(files, f"{part}-labels", 1)
        if len(images) != len(labels):
            raise UserError(
                f"{images_path}: {len(images)} images, but {labels_path} has {len(labels)} labels; "
                "take both from the same data set"
            )
        splits[split] = images[..., None], labels.astype(np.int64)
    return splits


def _idx(files: _Files, stem: str, ndim: int) -> tuple[str, np.ndarray]:
    """Returns path and array of an IDX file: 0, 0, 8 (uint8), ndim, big-endian sizes, content."""
    stems = f"{stem}-idx{ndim}-ubyte", f"{stem}.idx{ndim}-ubyte"
    path, content = files.read(*(stem + suffix for stem in stems for suffix in (".gz", "")))
    magic, header = bytes([0, 0, 8, ndim]), 4 + 4 * ndim
    if not content.startswith(magic) or len(content) < header:
        raise UserError(
            f"{path}: begins with 0x{content[:4].hex()}, expected 0x{magic.hex()} "
            f"and {ndim} sizes (IDX, uint8); {_AGAIN}"
        )
    shape = np.frombuffer(content, ">u4", count=ndim, offset=4).tolist()
    size = header + math.prod(shape)
    if len(content) != size or size == header:
        raise UserError(
            f"{path}: {len(content)} bytes for shape {shape}, expected {size} and a row or more; "
            f"{_AGAIN}"
        )
    return path, np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def _read_cifar10(files: _Files) -> dict[str, Rows]:
    splits = {}
    for split, names in {
        "train": [f"data_batch_{i}" for i in range(1, 6)],
        "test": ["test_batch"],
    }.items():
        batches = [_cifar10_batch(files, name) for name in names]
        planes = np.concatenate([images for images, _ in batches]).reshape(-1, 3, 32, 32)
        labels = np.concatenate([labels for _, labels in batches])
        splits[split] = np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), labels
    return splits


def _is_binary(files: _Files) -> bool:
    return any(name.endswith(".bin") for name in files.names)


def _cifar10_batch(files: _Files, name: str) -> Rows:
    """Returns images [N, 3072], the planes R, G and B of each row by row, and labels."""
    if _is_binary(files):
        path, content = files.read(f"{name}.bin")
        if not content or len(content) % 3073:
            raise UserError(f"{path}: {len(content)} bytes, expected records of 3073; {_AGAIN}")
        records = np.frombuffer(content, np.uint8).reshape(-1, 3073)
        return records[:, 1:], records[:, 0].astype(np.int64)
    path, batch = _unpickled(files, name)
    try:
        images, labels = batch["data"].value(), np.array(batch["labels"])
        if labels.ndim != 1 or labels.dtype != np.int64 or images.shape != (len(labels), 3072):
            raise ValueError(f"data {images.shape}, labels {labels.dtype} {labels.shape}")
    except (KeyError, AttributeError, ValueError, TypeError) as error:
        raise UserError(
            f"{path}: expected 'data', uint8 [N, 3072], and N 'labels' (found: {error}); {_AGAIN}"
        ) from None
    return images, labels


def _cifar10_names(files: _Files) -> tuple[str, list[str]]:
    """Returns the path of the file that names the classes, and the names."""
    if _is_binary(files):
        path, content = files.read("batches.meta.txt")
        return path, [line for line in _text(content).splitlines() if line.strip()]
    path, meta = _unpickled(files, "batches.meta")
    names = meta.get("label_names")
    if not isinstance(names, list):
        raise UserError(f"{path}: has no list 'label_names'; {_AGAIN}, or add --class_names")
    return path, [_text(name) for name in names]


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


class _Dtype:
    """Stands in a pickle for numpy.dtype."""

    def __init__(self, code: Any, *options: Any) -> None:
        self.code = _text(code)

    def __setstate__(self, state: Any) -> None:
        """Ignores byte order and the like, which uint8 has not."""


class _Array:
    """Stands in a pickle for numpy.ndarray, so that no code of NumPy's runs while it is read."""

    state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def value(self) -> np.ndarray:
        """Returns the array; raises TypeError or ValueError if it isn't a sound one of uint8."""
        _, shape, dtype, is_fortran, content = self.state
        if not isinstance(dtype, _Dtype) or dtype.code != "u1" or not isinstance(content, bytes):
            raise TypeError("an array of another type")
        array = np.frombuffer(content, np.uint8)
        return array.reshape(shape[::-1]).T if is_fortran else array.reshape(shape)


class _Unpickler(pickle.Unpickler):
    """Reads numbers, text, lists, dictionaries and arrays of uint8; refuses all else."""

    def find_class(self, module: str, name: str) -> Any:
        """Returns what stands in for a global name; a pickle may call what it gets here."""
        match module, name:
            case "numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct":
                return lambda kind, shape, code: _Array()
            case "numpy", "ndarray":
                return _Array
            case "numpy", "dtype":
                return _Dtype
            case "_codecs", "encode":  # how Python 3 writes bytes for Python 2
                return lambda text, encoding: text.encode("latin1")
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which may do harm")


def _unpickled(files: _Files, name: str) -> tuple[str, dict[str, Any]]:
    """Returns path and content of a pickled dictionary, without running what it may ask for."""
    path, content = files.read(name)
    try:
        value = _Unpickler(io.BytesIO(content), encoding="bytes").load()
        return path, {_text(key): item for key, item in value.items()}
    except Exception as error:  # a damaged pickle raises nearly anything
        raise UserError(f"{path}: not a pickle of CIFAR-10 ({error}); {_AGAIN}") from error


def define_flags(values: flags.FlagValues) -> None:
    """Adds the flags of the command line to `values`."""
    for name, default, text in (
        ("name", "", "Name of the data set, such as fashion_mnist."),
        ("source", "", "Folder that holds the raw files, or the archive."),
        ("data_dir", "", "Where TFDS keeps its data sets; empty: TFDS' own default."),
        ("version", "1.0.0", "Version of the data set."),
    ):
        flags.DEFINE_string(name, default, text, values)
    formats = ["auto", "idx", "cifar10"]
    flags.DEFINE_enum("format", "auto", formats, "Of the files; auto: by their names.", values)
    flags.DEFINE_list("class_names", [], "Names of labels 0, 1, …; empty: the usual.", values)


def parse(values: flags.FlagValues, argv: Sequence[str]) -> list[str]:
    """Returns what is left of `argv`; a wrong flag ends the program with status 2."""
    try:
        rest: list[str] = values(argv)
        return rest
    except flags.Error as error:
        sys.exit(_refuse(error))


def run(values: flags.FlagValues, argv: Sequence[str]) -> int:
    """Prepares what the flags ask for, and returns the exit status."""
    try:
        if argv[1:]:
            raise UserError(f"{argv[1]}: not a flag; write --source={argv[1]} for the raw files")
        for flag in ("name", "source"):
            if not values[flag].value:
                raise UserError(f"--{flag}: is needed; see --help")
        folder, rows = prepare(
            values.name,
            values.source,
            data_dir=values.data_dir,
            version=values.version,
            file_format=values.format,
            class_names=values.class_names,
        )
    except UserError as error:
        return _refuse(error)
    following = ["python", "-m", "rmc_tf.main", *_selecting(values.name, folder)]
    if values.data_dir:
        following.append(f"--data_dir={folder.parents[1]}")
    counts = ", ".join(f"{number} {split}" for split, number in rows.items())
    print(f"{counts} rows in {folder}; next: {shlex.join(following)}")
    return 0


def _selecting(name: str, folder: pathlib.Path) -> list[str]:
    """Returns the flags that make the main program run on a data set of ours."""
    configs = pathlib.Path(__file__).resolve().parents[1] / "configs"
    known = (configs / f"{name}.py").exists()
    selecting = [f"--dataset={name if known else 'fashion_mnist'}"]
    several = any(path != folder for path in folder.parent.iterdir())
    if several or not known:
        selecting.append(f"--config.dataset.name={name}{f':{folder.name}' if several else ''}")
    return selecting


def _refuse(error: Exception) -> int:
    print(f"prepare_dataset: error: {' '.join(str(error).split())}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.set_verbosity(logging.ERROR)
    define_flags(flags.FLAGS)
    app.run(lambda argv: run(flags.FLAGS, argv), flags_parser=lambda argv: parse(flags.FLAGS, argv))
