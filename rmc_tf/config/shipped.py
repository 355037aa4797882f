"""The shipped configs: where they are, by name, and what each makes of a data set's experiment.

They are the package `rmc_tf.configs`, so that they, and a config of the user's, can import
each other: in an installation a folder of rmc_tf, in the checkout the folder beside it.
"""

import difflib
import importlib
import importlib.util
import inspect
import pathlib
import runpy
import sys
import types
from collections.abc import Callable, Mapping
from typing import Any, cast

import ml_collections

from rmc_tf.common.errors import UserError, did_you_mean, first_line
from rmc_tf.common.paths import expanded
from rmc_tf.config.experiment import ExperimentConfig, to_flags

_PACKAGE = "rmc_tf.configs"


def folder() -> pathlib.Path:
    """Returns where the shipped configs are: in the checkout, or in the installed package."""
    package = pathlib.Path(__file__).parents[1]
    return next(f for f in (package / "configs", package.parent / "configs") if f.is_dir())


def names() -> list[str]:
    """Returns the names of all shipped configs."""
    return sorted(file.stem for file in folder().glob("[!_]*.py"))


def datasets() -> list[str]:
    """Returns the names of the configs that are a data set's own."""
    own = "def experiment()"
    return [n for n in names() if own in (folder() / f"{n}.py").read_text(encoding="utf-8")]


def make_importable() -> None:
    """Makes the shipped configs importable as `rmc_tf.configs`."""
    if _PACKAGE in sys.modules:
        return
    where = folder()
    spec = importlib.util.spec_from_file_location(
        _PACKAGE, where / "__init__.py", submodule_search_locations=[str(where)]
    )
    assert spec is not None and spec.loader is not None
    sys.modules[_PACKAGE] = package = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)


def load(name: str) -> types.ModuleType:
    """Returns a shipped config, with its `get_config` and its `experiment`."""
    make_importable()
    return importlib.import_module(f"{_PACKAGE}.{name}")


def of_dataset(name: str) -> ExperimentConfig:
    """Returns a data set's own experiment, by the name of its config.

    Raises:
      UserError: there is none of that name.
    """
    if name not in names():
        known = datasets()
        near = difflib.get_close_matches(name, known, 1)
        mean = f" (did you mean {near[0]}?)" if near else ""
        raise UserError(
            f"--dataset={name}: no config of that name; known: {', '.join(known)}{mean}. For "
            "another data set of "
            f"TFDS, take a like one's: --dataset=cifar10 --config.dataset.name={name}"
        )
    experiment: ExperimentConfig = load(name).experiment()
    return experiment


def made_of(name: str, base: ExperimentConfig) -> ExperimentConfig:
    """Returns what a shipped config makes of a data set's experiment."""
    experiment: ExperimentConfig = load(name).experiment(base)
    return experiment


def find(config: str) -> pathlib.Path:
    """Returns the config that a user names: a file, or a shipped one by its name or its path.

    Raises:
      UserError: there is neither.
    """
    path = pathlib.Path(expanded(config))
    if path.is_file():
        return path
    if path.stem in names() and path.parent.name in ("", "configs"):
        return folder() / f"{path.stem}.py"
    raise UserError(f"--config={config}: no such file; {did_you_mean(path.stem, names())}")


def run(config: str) -> tuple[ml_collections.ConfigDict, str]:
    """Runs a config file, FILE or FILE:DATASET, which may import the shipped ones.

    Returns:
      what its `get_config` returns, and the name of the run. A config that takes a data set is
      one of many experiments on it, which share their work: so the run is called after the data
      set. Any other is called after its file.

    Raises:
      UserError: it doesn't run, or returns something else.
    """
    file, _, argument = config.partition(":")
    path = pathlib.Path(file)
    try:
        if path.resolve().parent == folder().resolve():
            defined: Mapping[str, Any] = vars(load(path.stem))
        else:
            make_importable()
            defined = runpy.run_path(file, run_name=f"{_PACKAGE}.yours")
        get_config = _get_config(defined, config)
        takes_dataset = bool(inspect.signature(get_config).parameters)
        if argument and not takes_dataset:
            raise UserError(
                f"--dataset={argument}: --config={file} is of one data set; drop either"
            )
        loaded = get_config(*([argument] if argument else []))
    except UserError:
        raise
    except SyntaxError as error:
        raise UserError(
            f"--config={config}: no Python in line {error.lineno or 1} of {error.filename or file} "
            f"({error.msg}); a config is a Python file, such as configs/digits.py"
        ) from error
    except Exception as error:  # the user's own code raises what it likes
        raise UserError(f"--config={config}: {first_line(error)}; correct it") from error
    if not isinstance(loaded, ml_collections.ConfigDict):
        raise UserError(
            f"--config={config}: get_config() returns a {type(loaded).__name__}, expected what "
            "rmc_tf.config.to_flags(experiment) returns"
        )
    return loaded, argument or loaded.dataset.name if takes_dataset else path.stem


def _get_config(defined: Mapping[str, Any], config: str) -> Callable[..., Any]:
    """Returns a config's `get_config`; of one that has an `experiment` alone, what comes of it."""
    if "get_config" in defined:
        return cast(Callable[..., Any], defined["get_config"])
    if "experiment" not in defined:
        raise UserError(
            f"--config={config}: it defines no experiment() and no get_config(); give it one, as "
            "configs/digits.py has them"
        )
    experiment = defined["experiment"]
    if inspect.signature(experiment).parameters:
        return on_dataset(experiment)
    return lambda: to_flags(experiment())


def on_dataset(
    experiment: Callable[[ExperimentConfig], ExperimentConfig], default: str = "digits"
) -> Callable[..., ml_collections.ConfigDict]:
    """Returns the `get_config` of a config that is made of a data set's own experiment.

    The data set is `default` where none is named.
    """

    def get_config(dataset: str = default) -> ml_collections.ConfigDict:
        """Returns this experiment on the data set of configs/DATASET.py."""
        return to_flags(experiment(of_dataset(dataset)))

    return get_config
