"""What must not wait for TensorFlow: the import of the package, help, and mistakes in flags.

Times depend on the machine, so what is tested is why it is quick: nothing big is loaded.
"""

import ast
import importlib
import json
import os
import pathlib
import subprocess
import sys

import pytest

import rmc_tf

ROOT = pathlib.Path(__file__).parents[1]
SLOW = (
    *("tensorflow", "keras", "scann", "tensorflow_datasets", "matplotlib", "sklearn", "scipy"),
    "ray",
)


def _loaded_by(code: str) -> tuple[set[str], str]:
    """Returns which slow packages a new process has loaded after some code, and what it said."""
    tail = f"\nimport sys\nprint('loaded:', *(sys.modules.keys() & {set(SLOW)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code + tail], cwd=ROOT, capture_output=True, text=True, check=True
    )
    said, _, loaded = done.stdout.rpartition("loaded:")
    return set(loaded.split()), said + done.stderr


@pytest.mark.parametrize(
    ("module", "loaded"),
    [("rmc_tf", set()), ("rmc_tf.main", set()), ("rmc_tf.report.tables", {"matplotlib"})],
)
def test_an_import_loads_no_tensorflow(module: str, loaded: set[str]) -> None:
    assert _loaded_by(f"import {module}; dir({module})") == (loaded, "")


def test_the_settings_are_used_without_loading_anything_big() -> None:
    assert _loaded_by("import rmc_tf; rmc_tf.RMCConfig(k=3)")[0] == set()


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> tuple[set[str], str]:
    """What a process of a user's has loaded and said, whose keras.json asks for what we don't."""
    home = tmp_path_factory.mktemp("keras")
    settings = {"floatx": "float16", "image_data_format": "channels_first", "backend": "torch"}
    (home / "keras.json").write_text(json.dumps(settings))
    code = """
import rmc_tf
rmc_tf.Classifier
from rmc_tf.experiment import artefacts
rmc_tf.build_engine(rmc_tf.HardwareConfig())
import keras
print(keras.config.backend(), keras.config.floatx(), keras.config.image_data_format())
from rmc_tf.common import keras_settings
keras_settings.settle(print)
print(keras.config.dtype_policy().name, keras.config.image_data_format())
"""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_HOME", str(home))
        patch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
        return _loaded_by(code)


def test_a_class_that_computes_loads_tensorflow_and_no_engine_that_is_not_asked_for(
    library: tuple[set[str], str],
) -> None:
    assert "tensorflow" in library[0]
    assert "ray" not in library[0]


def test_the_library_leaves_keras_as_it_is_and_a_run_does_not(
    library: tuple[set[str], str],
) -> None:
    said = [line for line in library[1].splitlines() if " E " not in line and " W " not in line]
    assert said == [
        "tensorflow float16 channels_first",
        "Keras: floatx is float16 by keras.json or a config; this run sets float32",
        "Keras: image_data_format is channels_first by keras.json or a config; this run sets "
        "channels_last",
        "float32 channels_last",
    ], "and TensorFlow greets nobody"


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--help", "--mode"),
        ("--mode=nonsense", "--mode"),
        ("--nonsense=1", "nonsense"),
        ("nonsense", "nonsense"),
        ("--dataset=digist", "did you mean digits?"),
        ("--config=/no/such.py", "no such file"),
        ("--config=configs/tabel4.py", "no such file; did you mean table4?"),
        ("--config.model.path=nope.keras", "nope.keras: no such file"),
        ("--config.dataset.folder=/no/such", "folder=/no/such: no such folder; correct the path"),
        ("--config.dataset.folder=rmc_tf", "folder=rmc_tf: it has no folder train, but"),
        ("--folder=photos", "--folder: no such flag; did you mean --config.dataset.folder?"),
        ("--config.epsilon=1", "did you mean --config.attacks.fgsm.epsilon, --config.attacks.pgd"),
        ("--config.attacks.pgd.epsilon=8/0", "epsilon=8/0: must be a number, such as 0.15"),
        ("--onyl=table1", "--onyl: no such flag; did you mean --only?"),
        ("--config.rmc.kk=3", "did you mean --config.rmc.k?"),
        ("--config.rmc.k=1", "must be at least 2"),
        ("--config.rmc.k=many", "many"),
        ("--config.evaluation.streams=('jsma',)", "known: clean, fgsm, pgd"),
        ("--workdir=/dev/null/run", "--workdir=/dev/null/run: Not a directory; choose another"),
        ("--workdir=/proc/run", "--workdir=/proc/run: No such file or directory; choose another"),
    ],
)
def test_help_and_mistakes_are_told_before_anything_big_is_loaded(flag: str, said: str) -> None:
    code = f"""
from rmc_tf import main
try:
    main.main(['main.py', {flag!r}])
except SystemExit:
    pass
"""
    loaded, output = _loaded_by(code)
    assert loaded == set()
    assert said in output


@pytest.mark.parametrize(
    "code",
    [
        "from rmc_tf import main; print(main.main(['main.py']))",
        "import rmc_tf\ntry: rmc_tf.Classifier\nexcept rmc_tf.UserError as error: print(error)",
    ],
    ids=["command line", "library"],
)
def test_another_backend_of_keras_is_refused_before_it_is_loaded(
    code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    loaded, output = _loaded_by(code)
    assert loaded == set()
    told = "KERAS_BACKEND=torch: rmc_tf computes with TensorFlow; set KERAS_BACKEND=tensorflow"
    assert told in output and "Traceback" not in output


def test_a_path_that_the_locale_cannot_read_is_refused_in_a_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "rmc_tf.main", "--workdir=/tmp/späti"],
        cwd=ROOT,
        env=os.environ | {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"},
        capture_output=True,
        encoding="ascii",
        check=False,
    )
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "not ASCII, and the locale is; set LC_ALL=C.UTF-8 or PYTHONUTF8=1" in done.stderr


def test_every_public_name_is_listed_and_is_what_type_checkers_are_told() -> None:
    assert set(rmc_tf.__all__) | {"__name__", "__doc__"} <= set(dir(rmc_tf))
    tree = ast.parse((ROOT / "rmc_tf" / "__init__.py").read_text())
    told = next(node for node in tree.body if isinstance(node, ast.If))
    imports = [line for line in told.body if isinstance(line, ast.ImportFrom)]
    names = {alias.asname or alias.name: line.module for line in imports for alias in line.names}
    assert names.keys() | {"__version__"} == set(rmc_tf.__all__)
    originals = {alias.asname: alias.name for line in imports for alias in line.names}
    for name, module in names.items():
        home = importlib.import_module(str(module))
        assert getattr(rmc_tf, name) is getattr(home, originals.get(name, name))


def test_a_name_that_is_none_of_ours_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Clasifier'"):
        _ = rmc_tf.Clasifier  # type: ignore[attr-defined]
