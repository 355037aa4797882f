"""What doesn't load is told with Keras' own reason, and with what mends it."""

import json
import pathlib
import re
import shutil
import sys
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import pytest

from rmc_tf.augmented_set.workers import Task, Worker
from rmc_tf.common.errors import UserError
from rmc_tf.config import DatasetConfig, ModelConfig
from rmc_tf.networks.classifier import Classifier
from rmc_tf.networks.loading import import_modules

L = keras.layers
Path = pathlib.Path


@pytest.fixture(scope="module")
def plain() -> keras.Model:
    """A small network of Keras' own layers."""
    return keras.Sequential([keras.Input((4, 4, 1)), L.Flatten(name="features"), L.Dense(3)])


@pytest.fixture
def file(plain: keras.Model, tmp_path: Path) -> Path:
    """The `.keras` file of it."""
    plain.save(tmp_path / "plain.keras")
    return tmp_path / "plain.keras"


def refusal(path: Path | str, **settings: Any) -> str:
    """Returns the one line that a path is refused with, without the path itself."""
    with pytest.raises(UserError) as caught:
        Classifier.load(path, **settings)
    line = str(caught.value)
    assert len(line.splitlines()) == 1 and len(line) < 500 + len(str(path))
    assert line.startswith(f"model {path}: ")
    return line.removeprefix(f"model {path}: ")


class Shifted(keras.Layer):
    """A layer that Keras doesn't know, and that takes too little to be made anew."""

    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = by

    def call(self, images: Any) -> Any:
        return images + self.by


class Halved(keras.Layer):
    """A layer that Keras doesn't know."""

    def call(self, images: Any) -> Any:
        return images / 2


def steep(x: Any) -> Any:
    """An activation that Keras doesn't know."""
    return keras.ops.tanh(4 * x)


def with_layer(layer: keras.Layer) -> keras.Model:
    keras.utils.set_random_seed(2)
    top = [L.Flatten(name="features"), L.Dense(3)]
    return keras.Sequential([keras.Input((4, 4, 1)), layer, *top])


def of_another_version(file: Path) -> Path:
    """Returns a file as another Keras may have written it: with an argument unknown to this one."""
    other = file.with_name("other.keras")
    with zipfile.ZipFile(file) as archive, zipfile.ZipFile(other, "w") as copy:
        config = json.loads(archive.read("config.json"))
        config["config"]["layers"][-1]["config"]["sparsity"] = 0.5
        copy.writestr("config.json", json.dumps(config))
        copy.writestr("metadata.json", json.dumps({"keras_version": "4.0.1"}))
        copy.writestr("model.weights.h5", archive.read("model.weights.h5"))
    return other


IMPORT = r"--import=MODULE .*register_keras_serializable"


def test_a_class_that_cannot_be_made_anew_is_told_what_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_layer(Shifted(0.5)).save(tmp_path / "own.keras")
    monkeypatch.setitem(keras.saving.get_custom_objects(), "Shifted", Shifted)
    line = refusal(tmp_path / "own.keras")
    assert "Shifted.__init__() got an unexpected" in line and "needs a get_config()" in line


@pytest.mark.parametrize(
    ("layer", "suffix", "reason"),
    [
        (Halved(), "keras", rf"\(TypeError: Could not locate class 'Halved'\); .*{IMPORT}"),
        (Halved(), "h5", rf"\(ValueError: Unknown layer: 'Halved'\); .*{IMPORT}"),
        (
            L.Dense(3, activation=steep),
            "keras",
            rf"\(TypeError: Could not locate function 'steep'\); .*{IMPORT}",
        ),
        (
            L.Lambda(lambda x: 2 * x),
            "keras",
            r"whose `function` is a Python lambda\); .*trust.*unsafe_deserialization=[tT]rue",
        ),
        (L.Lambda(lambda x: 2 * x), "h5", r"a Python lambda\); .*unsafe_deserialization=[tT]rue"),
    ],
    ids=["class", "class in HDF5", "function", "lambda", "lambda in HDF5"],
)
def test_what_keras_does_not_know_is_told_with_its_innermost_reason(
    layer: keras.Layer, suffix: str, reason: str, tmp_path: Path
) -> None:
    with_layer(layer).save(tmp_path / f"own.{suffix}")
    assert re.match(rf"it doesn't load .*{reason}", refusal(tmp_path / f"own.{suffix}"))


def test_an_argument_of_another_keras_is_told_with_both_versions(file: Path) -> None:
    line = refusal(of_another_version(file))
    assert "(TypeError: Unrecognized keyword arguments passed to Dense: {'sparsity': 0.5})" in line
    assert f"it is of Keras 4.0.1, this is {keras.__version__}: save the model anew" in line


def shortened(file: Path, plain: keras.Model) -> Path:
    file.write_bytes(file.read_bytes()[:-100])
    return file


def altered(file: Path, plain: keras.Model) -> Path:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    return file


def another_zip(file: Path, plain: keras.Model) -> Path:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("weights.bin", b"0")
    return file


def weights_alone(file: Path, plain: keras.Model) -> Path:
    plain.save_weights(file.with_name("own.weights.h5"))
    return file.with_name("own.weights.h5")


def hdf5_by_another_name(file: Path, plain: keras.Model) -> Path:
    plain.save(file.with_name("own.h5"))
    return file.with_name("own.h5").rename(file)


def saved_model(file: Path, plain: keras.Model) -> Path:
    plain.export(file.with_name("exported"), verbose=False)
    return file.with_name("exported")


def pointer(file: Path, plain: keras.Model) -> Path:
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    return file


def text(file: Path, plain: keras.Model) -> Path:
    file.write_text("epochs = 5\n")
    return file


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda file, plain: file.with_name("missing.keras"), "no such file"),
        (lambda file, plain: file.parent, r"a folder, not a file; name the .*\(plain.keras\)"),
        (lambda file, plain: file.rename(file.with_name("best")), "call it best.keras"),
        (shortened, "it ends too early; copy or save it again"),
        (altered, r"\(BadZipFile: Bad CRC-32 .*the file is damaged"),
        (another_zip, "a zip file, but not a Keras model"),
        (weights_alone, "No model config found.*it holds weights alone: build the network"),
        (hdf5_by_another_name, "an HDF5 file; call it plain.h5"),
        (saved_model, "a SavedModel, .*save the Keras model .* model.save"),
        (pointer, "git lfs pull"),
        (text, "not a Keras model .*model.save"),
    ],
)
def test_what_is_no_model_is_called_what_it_is(
    make: Callable[[Path, keras.Model], Path], reason: str, file: Path, plain: keras.Model
) -> None:
    assert re.search(reason, refusal(make(file, plain)))


def test_files_and_folders_that_keras_writes_load(
    file: Path, plain: keras.Model, tmp_path: Path
) -> None:
    plain.save(tmp_path / "own.h5")
    plain.save(tmp_path / "folder", zipped=False)
    images = np.random.default_rng(0).random((5, 4, 4, 1), np.float32)
    for path in (file, tmp_path / "own.h5", tmp_path / "folder"):
        np.testing.assert_array_equal(Classifier.load(path).forward(images)[1], plain(images))


def test_code_in_a_file_runs_only_where_it_is_allowed_and_then_in_all_copies(
    tmp_path: Path,
) -> None:
    model = with_layer(L.Lambda(lambda x: 2 * x))
    model.save(tmp_path / "own.keras")
    images = np.random.default_rng(0).random((5, 4, 4, 1), np.float32)
    classifier = Classifier.load(tmp_path / "own.keras", unsafe_deserialization=True)
    for network in (classifier, classifier.clone(), Classifier(model).clone()):
        np.testing.assert_array_equal(network.forward(images)[1], model(images))


MODULE = """
import keras

class Tripled(keras.layers.Layer):
    def call(self, images):
        return {factor} * images
"""


@pytest.fixture
def own_module(tmp_path: Path) -> Iterator[Path]:
    """A module of the user's, and beside it a network with its layer; Keras knows neither."""
    name = "layers_of_a_user"
    path = tmp_path / f"{name}.py"
    path.write_text(MODULE.format(factor=3))
    before = list(sys.path)
    known = dict(keras.saving.get_custom_objects())
    import_modules([str(path)])
    with_layer(sys.modules[name].Tripled()).save(tmp_path / "own.keras")
    _forget(name, before, known)
    yield path
    _forget(name, before, known)


def _forget(name: str, path: list[str], known: dict[str, Any]) -> None:
    sys.modules.pop(name, None)
    sys.path[:] = path
    keras.saving.get_custom_objects().clear()
    keras.saving.get_custom_objects().update(known)


@pytest.mark.parametrize("by", ["file", "name"])
def test_layers_of_an_imported_module_are_known_though_it_registers_none(
    by: str, own_module: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = own_module.with_name("own.keras")
    assert "Could not locate class 'Tripled'" in refusal(file)
    monkeypatch.chdir(own_module.parent)
    name = own_module.name if by == "file" else own_module.stem
    for _ in range(2):
        import_modules([name])
    classifier = Classifier.load(file)
    images = np.random.default_rng(0).random((5, 4, 4, 1), np.float32)
    logits = classifier.forward(images)[1]
    np.testing.assert_array_equal(classifier.clone().forward(images)[1], logits)
    dense = classifier.model.layers[-1]
    np.testing.assert_allclose(logits, dense(3 * images.reshape(5, 16)), rtol=1e-4, atol=1e-5)


def test_the_fingerprint_changes_with_the_code_of_a_users_layer(own_module: Path) -> None:
    found = []
    for factor in (3, 4):
        own_module.write_text(MODULE.format(factor=factor))
        before, known = list(sys.path), dict(keras.saving.get_custom_objects())
        import_modules([str(own_module)])
        found.append(Classifier.load(own_module.with_name("own.keras")).fingerprint())
        _forget(own_module.stem, before, known)
    assert found[0] != found[1]


def test_a_worker_imports_the_same_modules_before_it_loads_the_network(own_module: Path) -> None:
    network = own_module.with_name("own.keras")
    job = b"not reached: the fingerprint differs"
    task = Task(own_module.parent, network, "features", "none", "", job, 1, 1, True)
    for imports, said in (((), "'Tripled'"), ((own_module.name,), "another one when it is loaded")):
        task = Task(**{**vars(task), "imports": imports, "folder_of_imports": own_module.parent})
        work = type("Work", (), {"shard": "s"})
        assert said in _refused(task, work)


def _refused(task: Task, work: Any) -> str:
    with pytest.raises(UserError) as caught:
        Worker(task)._opened()
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("no_such_module_here", None, "ModuleNotFoundError"),
        ("nowhere.py", None, "no such file"),
        ("random.py", "", "Python has a module random already; rename"),
        ("broken_here.py", "import keras\nkeras.layers.Dance\n", "AttributeError: .*; correct it"),
        ("unfinished.py", "def f(:\n", "SyntaxError: .*; correct it"),
    ],
)
def test_a_module_that_cannot_be_imported_is_told_in_a_line(
    name: str, content: str | None, reason: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=f"^--import={name}: .*{reason}"):
        import_modules([name], tmp_path)


def test_a_copy_needs_no_registration_but_all_arguments_of_a_layer(file: Path) -> None:
    images = np.random.default_rng(0).random((5, 4, 4, 1), np.float32)
    network = Classifier(with_layer(Halved()))
    np.testing.assert_array_equal(network.clone().forward(images)[1], network.forward(images)[1])
    with pytest.raises(
        UserError, match=r"^mine: no copy .*Shifted.__init__.*get_config.*: Shifted\)"
    ):
        Classifier(with_layer(Shifted(0.5)), source="mine").clone()


@pytest.mark.parametrize(
    ("config", "field"),
    [
        (lambda path: ModelConfig(path=path), "path"),
        (lambda path: ModelConfig(architecture="resnet50", weights=path), "weights"),
        (lambda path: DatasetConfig(name="digits", data_dir=path), "data_dir"),
        (lambda path: DatasetConfig(name="digits", folder=path), "folder"),
    ],
)
def test_a_tilde_is_the_users_folder_in_every_setting_that_is_a_path(
    config: Callable[[str], Any], field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/of/somebody")
    assert getattr(config("~/here"), field) == "/home/of/somebody/here"
    assert getattr(config("./~"), field) == "./~"
    assert getattr(config("~no such user/x"), field) == "~no such user/x"


def test_a_tilde_is_the_users_folder_where_a_program_loads(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(file.parent))
    assert Classifier.load("~/plain.keras").num_classes == 3
    shutil.copy(file, file.with_name("twin.keras"))
    assert "no such file" in refusal("~/missing.keras")
