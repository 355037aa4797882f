"""The shipped configs, and how one is made of another.

A data set's own config has an `experiment()`. Any other says by the one argument of
its `experiment` what it is made of: `base`, the data set's own, or another config by its
name, as in `experiment(table1)`. So each of them works on any data set, and on any
experiment that a user has made of one.
"""

import difflib
import inspect
import pathlib
import runpy
from collections.abc import Callable
from typing import cast

import ml_collections

from rmc_tf.common.errors import UserError, did_you_mean
from rmc_tf.config.experiment import ExperimentConfig, to_flags

_BASE = "base"


def folder() -> pathlib.Path:
    """Returns where the shipped configs are: in the checkout, or in the installed package."""
    package = pathlib.Path(__file__).parents[1]
    return next(f for f in (package / "configs", package.parent / "configs") if f.is_dir())


def datasets() -> list[str]:
    """Returns the names of the configs that are a data set's own."""
    files = sorted(folder().glob("*.py"))
    return [file.stem for file in files if "def experiment()" in file.read_text(encoding="utf-8")]


def path_of(dataset: str) -> pathlib.Path:
    """Returns the config of a data set.

    Raises:
      UserError: there is none of that name.
    """
    path, known = folder() / f"{dataset}.py", datasets()
    if not path.is_file() or path.stem == "__init__":
        near = difflib.get_close_matches(dataset, known, 1)
        mean = f" (did you mean {near[0]}?)" if near else ""
        raise UserError(
            f"--dataset={dataset}: no config of that name; known: {', '.join(known)}{mean}. For "
            "another data set of "
            f"TFDS, take a like one's: --dataset=cifar10 --config.dataset.name={dataset}"
        )
    return path


def find(config: str) -> pathlib.Path:
    """Returns the config that a user names: a file, or a shipped one by its name or its path.

    Raises:
      UserError: there is neither.
    """
    path = pathlib.Path(config)
    if path.is_file():
        return path
    ours = folder() / f"{path.stem}.py"
    if ours.is_file() and path.parent.name in ("", "configs") and path.stem != "__init__":
        return ours
    known = sorted(file.stem for file in folder().glob("*.py") if file.stem != "__init__")
    raise UserError(f"--config={config}: no such file; {did_you_mean(path.stem, known)}")


def of_dataset(name: str) -> ExperimentConfig:
    """Returns a data set's own experiment, by the name of its config."""
    return cast(ExperimentConfig, runpy.run_path(str(path_of(name)))["experiment"]())


def made_of(path: pathlib.Path, base: ExperimentConfig) -> ExperimentConfig:
    """Returns what a config's `experiment` makes of a data set's, through all between."""
    build = runpy.run_path(str(path))["experiment"]
    return cast(ExperimentConfig, build(_argument(build, base)))


def lineage(path: pathlib.Path) -> list[str]:
    """Returns the names of the configs that one is made of, nearest first, without the base."""
    (name,) = inspect.signature(runpy.run_path(str(path))["experiment"]).parameters
    return [] if name == _BASE else [name, *lineage(folder() / f"{name}.py")]


def _argument(build: Callable[..., object], base: ExperimentConfig) -> ExperimentConfig:
    (name,) = inspect.signature(build).parameters
    return base if name == _BASE else made_of(folder() / f"{name}.py", base)


def on_dataset(file: str, default: str = "digits") -> Callable[..., ml_collections.ConfigDict]:
    """Returns the `get_config` of a config that is made of a data set's.

    Args:
      file: the config's own `__file__`.
      default: the data set where none is named.
    """

    def get_config(dataset: str = default) -> ml_collections.ConfigDict:
        """Returns this experiment on the data set of configs/DATASET.py."""
        return to_flags(made_of(pathlib.Path(file), of_dataset(dataset)))

    return get_config
