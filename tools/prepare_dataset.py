"""Makes a TFDS data set out of raw files that are on disk; uses no network.

python tools/prepare_dataset.py --name=fashion_mnist --source=/usr/share/datasets/fashion-mnist

Reads MNIST and its kin (IDX files, plain or .gz) and CIFAR-10 (the python or the
binary archive, packed or extracted). --source is the folder that holds the files,
or the archive.
"""

import os
import pathlib
import re
import shlex
import sys
from collections.abc import Sequence

from absl import app, flags, logging

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # runs from a checkout

from rmc_tf.common.errors import UserError  # what needs TensorFlow is imported late
from tools.raw_files import cifar10, idx
from tools.raw_files.source import format_of, opened

_READERS = {"idx": idx.read, "cifar10": cifar10.read}
_CLASS_NAMES = {
    "mnist": tuple("0123456789"),
    "fashion_mnist": (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
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
    first_label: int = 0,
) -> tuple[pathlib.Path, dict[str, int]]:
    """Converts raw files; returns the data set's folder and the rows of each split.

    Args:
      name: of the data set, in lower case with underscores.
      source: the folder that holds the files, or a tar archive.
      data_dir: where to; empty: TFDS' default.
      version: three numbers.
      file_format: "idx", "cifar10", or "auto": by the names of the files.
      class_names: names of the labels 0, 1, …, all of which then count as classes; empty: those of
        the data set.
      first_label: that of the files which stands for 0: 1 for EMNIST's letters.

    Raises:
      UserError: a file is missing, damaged, foreign or contradicts another; the data
        set is there already; or it can't be written.
    """
    if not re.fullmatch("[a-z][a-z0-9_]*", name):
        raise UserError(f"--name={name}: expected lower case and underscores, as in fashion_mnist")
    if not re.fullmatch(r"(0|[1-9]\d*)(\.(0|[1-9]\d*)){2}", version):
        raise UserError(f"--version={version}: expected three numbers, as in 1.0.0")
    files = opened(pathlib.Path(source).expanduser())
    if file_format == "auto":
        file_format = format_of(files)
    splits = _READERS[file_format](files)
    splits = {split: (images, labels - first_label) for split, (images, labels) in splits.items()}
    highest = max(int(labels.max()) for _, labels in splits.values())
    if first_label and min(labels.min() for _, labels in splits.values()) < 0:
        raise UserError(f"--first_label={first_label}: {files.place} has labels below it; lower it")
    all_are_meant = bool(class_names)
    named_by = f"--class_names={','.join(class_names)}"
    if not class_names and file_format == "cifar10":
        named_by, class_names = cifar10.class_names(files)
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
    trained = set(splits["train"][1].tolist())
    empty = [label for label in range(len(class_names)) if label not in trained]
    if empty and not all_are_meant:
        first = f"add --first_label={len(empty)}, or " if max(empty) < min(trained) else ""
        raise UserError(
            f"--source={source}: no training row has label {empty[0]}, so that a class would be "
            f"empty; {first}name every label by --class_names, if it is meant to be"
        )
    import tensorflow_datasets as tfds

    from rmc_tf.data import tfds_store

    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    folder = tfds_store.store(
        name,
        splits,
        class_names=class_names,
        data_dir=data_dir,
        version=version,
        description=f"Made by tools/prepare_dataset.py out of {file_format} files.",
    )
    return folder, {split: len(labels) for split, (_, labels) in splits.items()}


def define_flags(values: flags.FlagValues) -> None:
    """Adds the flags of the command line to `values`."""
    for name, default, text in (
        ("name", "", "Name of the data set, such as fashion_mnist."),
        ("source", "", "Folder that holds the raw files, or the archive."),
        ("data_dir", "", "Where TFDS keeps its data sets; empty: TFDS' own default."),
        ("version", "1.0.0", "Version of the data set."),
    ):
        flags.DEFINE_string(name, default, text, values)
    formats = ["auto", *_READERS]
    flags.DEFINE_enum("format", "auto", formats, "Of the files; auto: by their names.", values)
    text = "That of the files which stands for 0: 1 for EMNIST's letters."
    flags.DEFINE_integer("first_label", 0, text, lower_bound=0, flag_values=values)
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
            first_label=values.first_label,
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
    known = (ROOT / "configs" / f"{name}.py").exists()
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
