"""A network out of a file. What Keras can't read is said in a line, with what mends it."""

import contextlib
import importlib
import importlib.util
import json
import pathlib
import re
import sys
import tempfile
import textwrap
import types
import zipfile
from collections.abc import Iterable, Iterator

import keras

from rmc_tf.common.errors import UserError, first_line
from rmc_tf.common.paths import expanded
from rmc_tf.config.network import check_model_file
from rmc_tf.networks.graph import users_own

_AGAIN = "save the model anew by model.save('NAME.keras')"

_ARGUMENTS = (
    "a class of one's own needs a get_config() that gives all that its __init__ takes, and "
    "**kwargs in the latter"
)

_REMEDIES = (
    (
        r"OpLambda'",
        "Keras 2 wrote it, and has operations between its layers that this Keras doesn't read: "
        "build the network anew, model.load_weights(FILE), and model.save('NAME.keras')",
    ),
    (
        r"Could not locate|Could not interpret|Unknown layer|parent module",
        "have the module that defines it imported before: --import=MODULE (or FILE.py); in a "
        "program, import it and name its class by keras.saving.register_keras_serializable()",
    ),
    (
        r"Python lambda",
        "if you trust the file, whose code will run: --config.model.unsafe_deserialization=true; "
        "in a program, Classifier.load(…, unsafe_deserialization=True)",
    ),
    (
        r"No model config found",
        "it holds weights alone: build the network, model.load_weights(FILE), and "
        "model.save('NAME.keras')",
    ),
    (
        r"^NameError",
        "a Lambda layer in it uses a name of the file that it was written in; put a layer of "
        "Keras in its place, and save it again",
    ),
    (r"CRC-32|EOF|truncated|decompress|not open", "the file is damaged: copy or save it again"),
)
"""What Keras says, and what mends it."""


def load(path: str | pathlib.Path, source: str, *, unsafe: bool = False) -> keras.Model:
    """Returns the Keras model of a `.keras` or `.h5` file, or of a folder as Keras unzips one.

    Args:
      path: the file; ~ is the user's folder.
      source: what messages call it.
      unsafe: whether code in the file may run, as that of a Lambda layer does (`safe_mode=False`
        of Keras).

    Raises:
      UserError: no such file, or not one that Keras loads; with Keras' own reason.
    """
    check_model_file(path, source)
    file = pathlib.Path(expanded(path))
    # tf.nn.softmax as an activation is saved under a name that Keras doesn't know.
    known = {"softmax_v2": keras.activations.softmax}
    try:
        return keras.models.load_model(file, known, compile=False, safe_mode=not unsafe)
    except Exception as error:  # Keras raises whatever the file's contents provoke
        said = reason(error)
        raise UserError(f"{source}: it doesn't load ({said}); {_remedy(said, file)}") from error


def save(model: keras.Model, path: pathlib.Path, source: str) -> None:
    """Writes a network to a `.keras` file.

    Raises:
      UserError: a layer of the user's own can't be saved.
    """
    with _copying(model, source):
        model.save(path)


def architecture(model: keras.Model, source: str) -> str:
    """Returns a network without its weights, as JSON.

    Raises:
      UserError: a layer of the user's own can't be described.
    """
    with _copying(model, source):
        return str(model.to_json())


def copy(model: keras.Model, source: str) -> keras.Model:
    """Returns a copy of a network with all its state, by way of a file.

    What else a layer keeps besides its weights (the constants of an adapted Normalization, say)
    is lost by `keras.models.clone_model`.

    Raises:
      UserError: a layer of the user's own can't be saved or loaded.
    """
    with tempfile.TemporaryDirectory() as folder, _copying(model, source):
        path = pathlib.Path(folder) / "copy.keras"
        model.save(path)
        return keras.models.load_model(path, users_own(model), compile=False, safe_mode=False)


@contextlib.contextmanager
def _copying(model: keras.Model, source: str) -> Iterator[None]:
    try:
        yield
    except OSError:
        raise  # a full disk
    except Exception as error:  # whatever the user's own classes raise
        raise UserError(
            f"{source}: no copy of it can be made ({reason(error)}); {_ARGUMENTS} (here: "
            f"{', '.join(users_own(model)) or 'none'})"
        ) from error


def reason(error: BaseException) -> str:
    """Returns the innermost reason that Keras gives, with its type: the last of a chain, in short.

    Its message repeats the whole configuration of each layer on the way.
    """
    text = re.sub(r"\x1b\[\d*m", "", str(error))  # it is bold on terminals
    text = re.split(r"(?:Exception|Error) encountered(?: when calling [^\n]*|:)\s", text)[
        -1
    ].strip()
    if example := re.search(r"Example error message for object [^\n]*\n+(.+)", text):
        text = example[1]
    text = re.split(r"(?:\. |\n|[Ff]ull object config|config=\{)", text)[0].strip().rstrip(".,:")
    text = textwrap.shorten(text, 250)
    return f"{type(error).__name__}: {text}" if text else first_line(error)


def import_modules(names: Iterable[str], folder: str | pathlib.Path = ".") -> None:
    """Imports modules of the user's, and tells Keras the classes and functions they define.

    Args:
      names: of modules, which are also found in `folder`; or `.py` files, relative to it.
      folder: by default the working directory.

    Raises:
      UserError: there is none of that name, or it can't be imported.
    """
    for name in names:
        try:
            module = _imported(name, pathlib.Path(folder).resolve())
        except UserError:
            raise
        except Exception as error:  # the user's own code raises what it likes
            raise UserError(f"--import={name}: {first_line(error)}; correct it") from error
        for part, made in vars(module).items():
            ours = getattr(made, "__module__", None) == module.__name__
            if ours and isinstance(made, type | types.FunctionType):
                keras.saving.get_custom_objects().setdefault(part, made)


def _imported(name: str, folder: pathlib.Path) -> types.ModuleType:
    file = folder / expanded(name)
    where = str(file.parent if name.endswith(".py") else folder)
    if where not in sys.path:
        sys.path.append(where)
    if not name.endswith(".py"):
        return importlib.import_module(name)
    if not file.is_file():
        raise UserError(f"--import={name}: no such file; name a module, or its file")
    module = sys.modules.get(file.stem)
    if module is not None:
        if getattr(module, "__file__", None) == str(file):
            return module
        raise UserError(
            f"--import={name}: Python has a module {file.stem} already; rename the file"
        )
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None and spec.loader is not None
    module = sys.modules[file.stem] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[file.stem]
        raise
    return module


def _remedy(said: str, file: pathlib.Path) -> str:
    for pattern, remedy in _REMEDIES:
        if re.search(pattern, said):
            return remedy
    init = re.search(r"(\w+)\.__init__\(\)", said)
    if init and not hasattr(keras.layers, init[1]):
        return _ARGUMENTS
    if (version := _version(file)) == keras.__version__:
        return _AGAIN
    of = f"it is of Keras {version}" if version else "perhaps it is of another Keras"
    return f"{of}, this is {keras.__version__}: {_AGAIN} with this one"


def _version(file: pathlib.Path) -> str:
    """Returns which Keras a file was saved by, or ""."""
    try:
        with zipfile.ZipFile(file) as archive:
            return str(json.loads(archive.read("metadata.json"))["keras_version"])
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        return ""
