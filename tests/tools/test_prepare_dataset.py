"""tools/prepare_dataset.py, on small files in the real formats, made of scikit-learn's digits."""

import gzip
import importlib.util
import io
import os
import pathlib
import pickle
import shutil
import struct
import subprocess
import sys
import tarfile
from collections.abc import Callable
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import pytest
import sklearn.datasets

from rmc_tf.config import DatasetConfig
from rmc_tf.data.datasets import Dataset, load
from rmc_tf.data.rows import Batch

Path = pathlib.Path

SCRIPT = Path(__file__).resolve().parents[2] / "tools" / "prepare_dataset.py"
_spec = importlib.util.spec_from_file_location("prepare_dataset", SCRIPT)
assert _spec is not None and _spec.loader is not None
tool = importlib.util.module_from_spec(_spec)
sys.modules["prepare_dataset"] = tool
_spec.loader.exec_module(tool)

ROWS = {"train": slice(0, 50), "test": slice(50, 63)}
CIFAR10_NAMES = [
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
]


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Returns 63 images [8, 8] uint8 in 0..255, and labels [63]."""
    images, labels = sklearn.datasets.load_digits(return_X_y=True)
    return np.rint(images[:63].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8), labels[:63]


def grey() -> tuple[np.ndarray, np.ndarray]:
    """Returns images [63, 28, 28, 1], magnified and padded, and labels."""
    images, labels = digits()
    large = np.pad(images.repeat(3, 1).repeat(3, 2), ((0, 0), (2, 2), (2, 2)))
    return large[..., None], labels


def coloured() -> tuple[np.ndarray, np.ndarray]:
    """Returns images [63, 32, 32, 3] whose channels differ, and labels."""
    images, labels = digits()
    large = images.repeat(4, 1).repeat(4, 2)
    return np.stack([large, 255 - large, large[:, ::-1] // 2], axis=-1), labels


def idx(array: np.ndarray) -> bytes:
    """Returns an IDX file of bytes."""
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes()


def idx_folder(folder: Path, *, separator: str = "-", packed: bool = True) -> Path:
    """Writes the four files of an MNIST-like data set, and returns their folder."""
    folder.mkdir(parents=True, exist_ok=True)
    images, labels = grey()
    for split, part in (("train", "train"), ("test", "t10k")):
        for kind, array in (("images", images[..., 0]), ("labels", labels)):
            content = idx(array[ROWS[split]])
            name = f"{part}-{kind}{separator}idx{content[3]}-ubyte"
            if packed:
                (folder / f"{name}.gz").write_bytes(gzip.compress(content))
            else:
                (folder / name).write_bytes(content)
    return folder


class Python2Pickler(pickle._Pickler):
    """Writes text and bytes alike as Python 2's `str`, as in the archive of CIFAR-10's authors."""

    dispatch: ClassVar[dict[type, Any]] = dict(pickle._Pickler.dispatch)

    def save_string(self, value: str | bytes) -> None:
        content = value.encode() if isinstance(value, str) else value
        self.write(pickle.BINSTRING + struct.pack("<i", len(content)) + content)  # type: ignore[attr-defined]
        self.memoize(value)  # type: ignore[attr-defined]

    dispatch[str] = dispatch[bytes] = save_string


def python2_pickle(value: Any) -> bytes:
    """Returns what Python 2 and the NumPy of its time would have pickled."""
    buffer = io.BytesIO()
    Python2Pickler(buffer, protocol=2).dump(value)
    return buffer.getvalue().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")


def batches() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Returns CIFAR-10's batches: name to planes [N, 3072] and labels [N]."""
    images, labels = coloured()
    planes = images.transpose(0, 3, 1, 2).reshape(-1, 3072)
    rows = {f"data_batch_{i + 1}": slice(10 * i, 10 * i + 10) for i in range(5)}
    rows["test_batch"] = ROWS["test"]
    return {name: (planes[part], labels[part]) for name, part in rows.items()}


def python_folder(
    folder: Path, dumps: Callable[[Any], bytes] = python2_pickle, order: Literal["C", "F"] = "C"
) -> Path:
    """Writes the files of the python archive, and returns their folder."""
    folder.mkdir(parents=True)
    for name, (planes, labels) in batches().items():
        data = planes.copy(order)
        content = {"batch_label": name, "labels": labels.tolist(), "data": data}
        (folder / name).write_bytes(dumps(content))
    meta = {"num_cases_per_batch": 10, "label_names": CIFAR10_NAMES, "num_vis": 3072}
    (folder / "batches.meta").write_bytes(dumps(meta))
    (folder / "readme.html").write_text("<html></html>")
    return folder


def binary_folder(folder: Path) -> Path:
    """Writes the files of the binary archive, and returns their folder."""
    folder.mkdir(parents=True)
    for name, (planes, labels) in batches().items():
        records = np.concatenate([labels[:, None].astype(np.uint8), planes], axis=1)
        (folder / f"{name}.bin").write_bytes(records.tobytes())
    (folder / "batches.meta.txt").write_text("\n".join(CIFAR10_NAMES) + "\n\n")
    return folder


def packed(folder: Path, archive: Path) -> Path:
    """Returns a tar archive of the folder, as CIFAR-10 is published."""
    with tarfile.open(archive, "w:gz") as file:
        file.add(folder, folder.name)
    return archive


class Result(NamedTuple):
    status: object
    out: str
    err: str


@pytest.fixture
def invoke(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Returns a function that runs the command line in this process, into tmp_path/data."""

    def run(*args: str) -> Result:
        values = tool.flags.FlagValues()
        tool.define_flags(values)
        argv = ["prepare_dataset.py", f"--data_dir={tmp_path / 'data'}", *args]
        status: object
        try:
            status = tool.run(values, tool.parse(values, argv))
        except SystemExit as end:
            status = end.code
        return Result(status, *capsys.readouterr())

    return run


def opened(tmp_path: Path, name: str) -> Dataset:
    """Opens what the tool has made."""
    return load(DatasetConfig(name=name, data_dir=str(tmp_path / "data"), download=False))


def assert_holds(dataset: Dataset, images: np.ndarray, labels: np.ndarray) -> None:
    """Compares every row with the original, in order."""
    for split, rows in ((dataset.train, ROWS["train"]), (dataset.test, ROWS["test"])):
        found: Batch = split.arrays()
        assert found.images.dtype == np.uint8
        np.testing.assert_array_equal(found.images, images[rows])
        np.testing.assert_array_equal(found.labels, labels[rows])


def assert_refused(result: Result, tmp_path: Path, *fragments: str) -> None:
    """Expects status 2, one line on stderr that holds the fragments, and no trace on disk."""
    assert result.status == 2
    assert result.out == ""
    assert result.err.startswith("prepare_dataset: error: ")
    assert result.err.count("\n") == 1 and result.err.endswith("\n")
    assert "Traceback" not in result.err
    for fragment in fragments:
        assert fragment in result.err
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("is_packed", [True, False], ids=["gz", "plain"])
@pytest.mark.parametrize("separator", ["-", "."])
def test_idx_files_come_back_row_by_row(
    tmp_path: Path, invoke: Callable[..., Result], separator: str, is_packed: bool
) -> None:
    folder = idx_folder(tmp_path / "raw", separator=separator, packed=is_packed)
    assert invoke("--name=mnist", f"--source={folder}").status == 0
    dataset = opened(tmp_path, "mnist")
    assert_holds(dataset, *grey())
    assert dataset.class_names == tuple("0123456789")
    assert dataset.name == "mnist/1.0.0"


CIFAR10_SOURCES: dict[str, Callable[[Path], Path]] = {
    "python folder": lambda raw: python_folder(raw / "cifar-10-batches-py"),
    "folder around python folder": lambda raw: python_folder(raw / "cifar-10-batches-py").parent,
    "python archive": lambda raw: packed(
        python_folder(raw / "cifar-10-batches-py"), raw / "any-name.tgz"
    ),
    "python pickles of Python 3": lambda raw: python_folder(raw / "py", pickle.dumps),
    "python pickles for Python 2": lambda raw: python_folder(
        raw / "py", lambda value: pickle.dumps(value, protocol=2)
    ),
    "python arrays in Fortran's order": lambda raw: python_folder(raw / "py", order="F"),
    "binary folder": lambda raw: binary_folder(raw / "cifar-10-batches-bin"),
    "binary archive": lambda raw: packed(
        binary_folder(raw / "cifar-10-batches-bin"), raw / "cifar-10-binary.tar.gz"
    ),
    "folder around binary archive": lambda raw: (
        packed(
            binary_folder(raw / "elsewhere" / "cifar-10-batches-bin"),
            raw / "cifar-10-binary.tar.gz",
        ).parent
    ),
}


@pytest.mark.parametrize("form", CIFAR10_SOURCES)
def test_every_form_of_cifar10_gives_the_same_rows_and_names(
    tmp_path: Path, invoke: Callable[..., Result], form: str
) -> None:
    source = CIFAR10_SOURCES[form](tmp_path / "raw")
    assert invoke("--name=cifar10", f"--source={source}").status == 0
    dataset = opened(tmp_path, "cifar10")
    assert_holds(dataset, *coloured())
    assert dataset.class_names == tuple(CIFAR10_NAMES)


def test_fashion_mnist_has_the_class_names_of_tfds(
    tmp_path: Path, invoke: Callable[..., Result]
) -> None:
    folder = idx_folder(tmp_path / "raw")
    assert invoke("--name=fashion_mnist", f"--source={folder}").status == 0
    names = opened(tmp_path, "fashion_mnist").class_names
    assert names[0] == "T-shirt/top" and names[9] == "Ankle boot" and len(names) == 10


def test_other_idx_data_have_a_number_for_each_label_up_to_the_highest(
    tmp_path: Path, invoke: Callable[..., Result]
) -> None:
    folder = with_labels(tmp_path, np.arange(50) % 13)
    assert invoke("--name=my_letters", f"--source={folder}").status == 0
    assert opened(tmp_path, "my_letters").class_names == tuple(map(str, range(13)))


def with_labels(tmp_path: Path, labels: np.ndarray) -> Path:
    """Returns a folder of IDX files whose training rows have other labels."""
    folder = idx_folder(tmp_path / "raw")
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))
    return folder


def test_labels_that_begin_at_1_leave_no_class_empty(
    tmp_path: Path, invoke: Callable[..., Result]
) -> None:
    folder = with_labels(tmp_path, 1 + np.arange(50) % 10)  # as EMNIST's letters
    test = 1 + np.arange(13) % 10
    (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(test)))
    args = "--name=letters", f"--source={folder}"
    assert_refused(
        invoke(*args), tmp_path, "no training row has label 0", "add --first_label=1, or"
    )
    assert_refused(invoke(*args, "--first_label=2"), tmp_path, "--first_label=2: ", "labels below")
    assert invoke(*args, "--first_label=1").status == 0
    dataset = opened(tmp_path, "letters")
    assert dataset.class_names == tuple("0123456789")
    np.testing.assert_array_equal(dataset.train.arrays().labels, np.arange(50) % 10)
    np.testing.assert_array_equal(dataset.test.arrays().labels, np.arange(13) % 10)


def test_a_class_is_empty_only_where_all_are_named(
    tmp_path: Path, invoke: Callable[..., Result]
) -> None:
    folder = with_labels(tmp_path, np.arange(50) % 8)
    args = "--name=mine", f"--source={folder}"
    assert_refused(invoke(*args), tmp_path, "no training row has label 8", "name every label by")
    names = ",".join("abcdefghij")
    assert invoke(*args, f"--class_names={names}").status == 0
    assert opened(tmp_path, "mine").class_names == tuple("abcdefghij")


@pytest.mark.parametrize("form", ["idx", "cifar10"])
def test_class_names_and_version_of_the_command_line_count(
    tmp_path: Path, invoke: Callable[..., Result], form: str
) -> None:
    raw = tmp_path / "raw"
    folder = idx_folder(raw) if form == "idx" else binary_folder(raw)
    names = "zero,one,two,three,four,five,six,seven,eight,the last"
    result = invoke("--name=own", f"--source={folder}", f"--class_names={names}", "--version=2.3.4")
    assert result.status == 0
    dataset = opened(tmp_path, "own")
    assert dataset.class_names == tuple(names.split(","))
    assert dataset.name == "own/2.3.4"


def test_success_is_one_line_with_rows_folder_and_next_command(
    tmp_path: Path, invoke: Callable[..., Result]
) -> None:
    result = invoke("--name=mnist", f"--source={idx_folder(tmp_path / 'raw')}")
    data = tmp_path / "data"
    assert result.out == (
        f"50 train, 13 test rows in {data / 'mnist' / '1.0.0'}; "
        f"next: python -m rmc_tf.main --dataset=mnist --data_dir={data}\n"
    )


def test_the_next_command_names_the_version_where_there_are_others(
    tmp_path: Path, invoke: Callable[..., Result]
) -> None:
    source = f"--source={idx_folder(tmp_path / 'raw')}"
    invoke("--name=mnist", source, "--version=3.0.0")
    result = invoke("--name=mnist", source)
    assert "--dataset=mnist --config.dataset.name=mnist:1.0.0 " in result.out
    assert opened(tmp_path, "mnist:1.0.0").name == "mnist/1.0.0"


def test_a_data_set_that_is_there_is_left_as_it_is(
    tmp_path: Path, invoke: Callable[..., Result]
) -> None:
    args = "--name=mnist", f"--source={idx_folder(tmp_path / 'raw')}"
    invoke(*args)
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    result = invoke(*args)
    assert result.status == 2
    assert "is there already" in result.err and result.err.count("\n") == 1
    assert files == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_a_folder_of_both_formats_needs_the_format(
    tmp_path: Path, invoke: Callable[..., Result]
) -> None:
    both = binary_folder(tmp_path / "raw")
    idx_folder(both)
    args = "--name=mixed", f"--source={both}"
    assert_refused(invoke(*args), tmp_path, str(both), "--format")
    assert invoke(*args, "--format=cifar10").status == 0
    assert opened(tmp_path, "mixed").image_shape == (32, 32, 3)
    assert invoke(*args, "--format=idx", "--version=2.0.0").status == 0
    assert opened(tmp_path, "mixed:2.0.0").image_shape == (28, 28, 1)


def cut(path: Path) -> None:
    """Truncates a file as an interrupted download would."""
    path.write_bytes(path.read_bytes()[:-25])


def flip(path: Path) -> None:
    """Alters gzip's checksum, which stands for any altered content."""
    content = bytearray(path.read_bytes())
    content[-6] ^= 1
    path.write_bytes(content)


def gz(path: Path, content: bytes) -> None:
    """Writes compressed content."""
    path.write_bytes(gzip.compress(content))


IMAGES, LABELS = "train-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"


@pytest.mark.parametrize(
    ("damage", "fragments"),
    [
        pytest.param(lambda f: cut(f / IMAGES), (IMAGES, "truncated"), id="truncated gz"),
        pytest.param(lambda f: flip(f / LABELS), (LABELS, "damaged"), id="gz checksum"),
        pytest.param(
            lambda f: shutil.copy(f / LABELS, f / IMAGES),
            (IMAGES, "0x00000801", "0x00000803"),
            id="labels for images",
        ),
        pytest.param(
            lambda f: gz(f / LABELS, b"\0\0\x0d\1" + idx(grey()[1])[4:]),
            (LABELS, "0x00000d01", "0x00000801"),
            id="floats",
        ),
        pytest.param(lambda f: gz(f / IMAGES, b""), (IMAGES, "begins with"), id="empty"),
        pytest.param(lambda f: gz(f / IMAGES, b"\0\0\x08\3\0"), (IMAGES, "sizes"), id="header"),
        pytest.param(
            lambda f: gz(f / IMAGES, idx(grey()[0][:50, ..., 0])[:-1]),
            (IMAGES, "39215 bytes", "[50, 28, 28]", "39216"),
            id="a byte too few",
        ),
        pytest.param(
            lambda f: gz(f / IMAGES, idx(grey()[0][:50, ..., 0]) + b"\0"),
            (IMAGES, "39217 bytes", "39216"),
            id="a byte too many",
        ),
        pytest.param(
            lambda f: gz(f / IMAGES, b"\0\0\x08\3" + b"\xff" * 12), (IMAGES, "16 bytes"), id="huge"
        ),
        pytest.param(
            lambda f: gz(f / IMAGES, idx(np.zeros((0, 28, 28)))), (IMAGES, "a row"), id="no rows"
        ),
        pytest.param(
            lambda f: gz(f / LABELS, idx(grey()[1][:7])),
            ("t10k-images", "13 images", LABELS, "7 labels"),
            id="count mismatch",
        ),
        pytest.param(lambda f: (f / LABELS).unlink(), (LABELS, "missing"), id="missing labels"),
        pytest.param(lambda f: (f / IMAGES).unlink(), (IMAGES, "missing"), id="missing images"),
        pytest.param(
            lambda f: gz(f / IMAGES, idx(grey()[0][:50, 2:, :, 0])),
            ("images", "[13, 28, 28, 1]", "26, 28, 1"),
            id="splits of two sizes",
        ),
    ],
)
def test_damaged_idx_files_are_refused_in_one_line(
    tmp_path: Path,
    invoke: Callable[..., Result],
    damage: Callable[[Path], object],
    fragments: tuple[str, ...],
) -> None:
    folder = idx_folder(tmp_path / "raw")
    damage(folder)
    assert_refused(invoke("--name=mnist", f"--source={folder}"), tmp_path, *fragments)


def repickle(folder: Path, name: str, **changes: Any) -> None:
    """Replaces parts of a batch."""
    content = pickle.loads((folder / name).read_bytes(), encoding="latin1")
    (folder / name).write_bytes(python2_pickle(content | changes))


@pytest.mark.parametrize(
    ("damage", "fragments"),
    [
        pytest.param(lambda f: cut(f / "data_batch_2"), ("data_batch_2",), id="truncated"),
        pytest.param(
            lambda f: (f / "data_batch_4").unlink(), ("data_batch_4", "missing"), id="missing"
        ),
        pytest.param(
            lambda f: (f / "batches.meta").unlink(), ("batches.meta", "missing"), id="missing names"
        ),
        pytest.param(
            lambda f: (f / "test_batch").write_bytes(pickle.dumps([1])),
            ("test_batch",),
            id="not a dictionary",
        ),
        pytest.param(
            lambda f: repickle(f, "test_batch", labels=[1, 2]),
            ("test_batch", "(13, 3072)", "(2,)"),
            id="count mismatch",
        ),
        pytest.param(
            lambda f: repickle(f, "test_batch", labels=["cat"] * 13), ("test_batch",), id="words"
        ),
        pytest.param(
            lambda f: repickle(f, "test_batch", labels=[[1]] * 13),
            ("test_batch", "(13, 1)"),
            id="nested labels",
        ),
        pytest.param(
            lambda f: repickle(f, "test_batch", labels=[], data=np.zeros((0, 3072), np.uint8)),
            ("test_batch",),
            id="no rows",
        ),
        pytest.param(
            lambda f: repickle(f, "test_batch", data=np.zeros((13, 3072), np.float32)),
            ("test_batch", "another type"),
            id="floats",
        ),
        pytest.param(
            lambda f: repickle(f, "test_batch", data=b"abc"), ("test_batch",), id="no array"
        ),
        pytest.param(
            lambda f: repickle(f, "test_batch", labels=[10] * 13),
            ("batches.meta", "10 class names", "label 10"),
            id="label without a name",
        ),
        pytest.param(
            lambda f: repickle(f, "test_batch", labels=[-1] * 13), ("label -1",), id="negative"
        ),
    ],
)
def test_damaged_python_batches_are_refused_in_one_line(
    tmp_path: Path,
    invoke: Callable[..., Result],
    damage: Callable[[Path], object],
    fragments: tuple[str, ...],
) -> None:
    folder = python_folder(tmp_path / "cifar-10-batches-py")
    damage(folder)
    assert_refused(invoke("--name=cifar10", f"--source={folder}"), tmp_path, *fragments)


@pytest.mark.parametrize(
    ("damage", "fragments"),
    [
        pytest.param(
            lambda f: cut(f / "data_batch_5.bin"), ("data_batch_5.bin", "3073"), id="truncated"
        ),
        pytest.param(
            lambda f: (f / "test_batch.bin").unlink(), ("test_batch.bin", "missing"), id="missing"
        ),
        pytest.param(
            lambda f: (f / "batches.meta.txt").write_text("cat\ndog\n"),
            ("batches.meta.txt", "2 class names"),
            id="too few names",
        ),
        pytest.param(
            lambda f: (f / "batches.meta.txt").write_bytes(b"\xff\xfe\xfd"),
            ("batches.meta.txt", "1 class names"),
            id="names that are no text",
        ),
        pytest.param(
            lambda f: (f / "batches.meta.txt").write_text("cat\n" * 10),
            ("batches.meta.txt", "repeated"),
            id="repeated names",
        ),
    ],
)
def test_damaged_binary_batches_are_refused_in_one_line(
    tmp_path: Path,
    invoke: Callable[..., Result],
    damage: Callable[[Path], object],
    fragments: tuple[str, ...],
) -> None:
    folder = binary_folder(tmp_path / "raw")
    damage(folder)
    assert_refused(invoke("--name=cifar10", f"--source={folder}"), tmp_path, *fragments)


def test_a_truncated_archive_is_refused_in_one_line(
    tmp_path: Path, invoke: Callable[..., Result]
) -> None:
    archive = packed(binary_folder(tmp_path / "raw"), tmp_path / "cifar-10-binary.tar.gz")
    cut(archive)
    result = invoke("--name=cifar10", f"--source={archive}")
    assert_refused(result, tmp_path, archive.name, "truncated")


class Call:
    """Pickles as the call of a function."""

    def __init__(self, function: Callable[..., object], *args: object) -> None:
        self.call = function, args

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


@pytest.mark.parametrize("name", ["data_batch_3", "batches.meta"])
@pytest.mark.parametrize("function", ["os.system", "exec", "numpy.save"])
@pytest.mark.parametrize("protocol", [0, 4])
def test_a_malicious_pickle_is_refused_and_not_run(
    tmp_path: Path, invoke: Callable[..., Result], name: str, function: str, protocol: int
) -> None:
    trace = tmp_path / "trace.npy"
    harm = {
        "os.system": Call(os.system, f"touch {trace}"),
        "exec": Call(exec, f"open({str(trace)!r}, 'w').close()"),
        "numpy.save": Call(np.save, str(trace), 1),
    }
    content = pickle.dumps({"data": harm[function]}, protocol)
    pickle.loads(content)
    assert trace.exists(), "the pickle must be one that does harm where it isn't refused"
    trace.unlink()
    folder = python_folder(tmp_path / "cifar-10-batches-py")
    (folder / name).write_bytes(content)
    result = invoke("--name=cifar10", f"--source={folder}")
    assert not trace.exists()
    assert_refused(result, tmp_path, name, "it asks for", function.split(".")[-1])


@pytest.mark.parametrize(
    ("args", "fragments"),
    [
        (["--name="], ["--name"]),
        (["--name=../outside"], ["--name=../outside"]),
        (["--name=Fashion-MNIST"], ["--name=Fashion-MNIST", "fashion_mnist"]),
        (["--version=1.0"], ["--version=1.0", "1.0.0"]),
        (["--version=../../x"], ["--version=../../x"]),
        (["--source="], ["--source"]),
        (["--source=/no/such/folder"], ["/no/such/folder", "No such file"]),
        (["--source=."], ["--source=.", "neither", "train-images-idx3-ubyte.gz"]),
        (["--source=raw/train-images-idx3-ubyte.gz"], ["not a tar archive", "folder"]),
        (["--format=cifar10"], ["data_batch_1", "missing"]),
        (["--format=zip"], ["--format=zip", "idx", "cifar10"]),
        (["--class_names=a,b"], ["--class_names=a,b", "2 class names", "label 9"]),
        (["--class_names=a,b,c,d,e,f,g,h,i,a"], ["repeated"]),
        (["--class_names=a,b,c,d,e,f,g,h,i,"], ["empty"]),
        (["--sauce=raw"], ["sauce"]),
        (["raw"], ["raw: not a flag"]),
    ],
    ids=lambda value: " ".join(value) if value[0].startswith(("--", "raw")) else "",
)
def test_a_wrong_flag_is_refused_in_one_line(
    tmp_path: Path,
    invoke: Callable[..., Result],
    monkeypatch: pytest.MonkeyPatch,
    args: list[str],
    fragments: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    idx_folder(tmp_path / "raw")
    assert_refused(invoke("--name=mnist", "--source=raw", *args), tmp_path, *fragments)


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), RuntimeError("No space left on device")]
)
def test_a_full_disk_is_told_in_one_line_and_nothing_is_left(
    tmp_path: Path,
    invoke: Callable[..., Result],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    from tensorflow_datasets.core import writer

    def write(*args: object) -> None:
        raise error

    monkeypatch.setattr(writer.Writer, "write", write)
    (tmp_path / "data").mkdir()
    result = invoke("--name=mnist", f"--source={idx_folder(tmp_path / 'raw')}")
    assert result.status == 2
    assert result.out == "" and result.err.count("\n") == 1
    assert "No space left on device" in result.err and str(tmp_path / "data") in result.err
    assert not list((tmp_path / "data").glob("mnist*"))


def test_the_script_runs_from_any_folder_and_helps_without_tensorflow(tmp_path: Path) -> None:
    folder = idx_folder(tmp_path / "raw")

    def script(*args: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *args]
        environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        return subprocess.run(
            command, check=False, cwd=tmp_path, env=environ, capture_output=True, text=True
        )

    shown = script("-X", "importtime", str(SCRIPT), "--help")
    assert "--class_names" in shown.stdout and "--source" in shown.stdout
    assert "absl.flags" in shown.stderr and "tensorflow" not in shown.stderr
    made = script(str(SCRIPT), "--name=mnist", f"--source={folder}", "--data_dir=data")
    assert (made.returncode, made.stderr) == (0, "")
    assert made.stdout == (
        "50 train, 13 test rows in data/mnist/1.0.0; "
        "next: python -m rmc_tf.main --dataset=mnist --data_dir=data\n"
    )
    assert_holds(opened(tmp_path, "mnist"), *grey())
