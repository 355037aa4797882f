"""Defences by name, as the rows of Table 1 call them. A new one is one line below."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from rmc_tf.augmented_set import AugmentedSet
from rmc_tf.classifier import Classifier
from rmc_tf.config import ExperimentConfig
from rmc_tf.defences.base import Defence
from rmc_tf.defences.nearest import NearestNeighbours, Vote
from rmc_tf.defences.rmc import RMC
from rmc_tf.defences.undefended import Undefended
from rmc_tf.errors import UserError
from rmc_tf.features import StaticFeatures
from rmc_tf.index import FeatureIndex
from rmc_tf.seeding import derive_seed
from rmc_tf.traces import Traces


@dataclasses.dataclass(frozen=True)
class Prepared:
    """What PREPARE left, from which the defences that search are made."""

    augmented_set: AugmentedSet
    static: StaticFeatures
    index: FeatureIndex
    """Over all rows of D'."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """What a defence is made from."""

    config: ExperimentConfig
    classifier: Classifier
    prepare: Callable[[], Prepared]
    """Called by those that search only."""
    traces: Traces


@dataclasses.dataclass(frozen=True)
class Kind:
    """One row of a table."""

    title: str
    make: Callable[[Setting], Defence]
    searches: bool
    """Whether it needs D'."""
    depends_on: Callable[[ExperimentConfig], Any]
    """The settings, as JSON, that change its answers, besides the network and D'."""


def _undefended(setting: Setting) -> Defence:
    return Undefended(setting.classifier)


def _deep_nn(setting: Setting, vote: Vote) -> Defence:
    config, prepared = setting.config, setting.prepare()
    rows = prepared.augmented_set.benign_rows
    k = min(config.rmc.k, len(rows))  # of a D smaller than K, all of it
    index = FeatureIndex(
        np.asarray(prepared.static.features[rows]), config.index, k, rows=rows, seed=config.seed
    )
    return _nearest(setting, prepared, index, k, vote)


def _web_nn(setting: Setting, vote: Vote) -> Defence:
    prepared = setting.prepare()
    return _nearest(setting, prepared, prepared.index, setting.config.rmc.k, vote)


def _nearest(
    setting: Setting, prepared: Prepared, index: FeatureIndex, k: int, vote: Vote
) -> Defence:
    labels = prepared.augmented_set.labels
    return NearestNeighbours(setting.classifier, index, prepared.static.outputs, labels, k, vote)


def _rmc(setting: Setting) -> Defence:
    config, prepared = setting.config, setting.prepare()
    return RMC(
        setting.classifier,
        prepared.augmented_set,
        prepared.index,
        config.rmc,
        seed=derive_seed(config.seed, "rmc"),
        traces=setting.traces,
    )


def _search_settings(config: ExperimentConfig) -> Any:
    return [config.rmc.k, config.index.to_dict(), config.seed]


def _rmc_settings(config: ExperimentConfig) -> Any:
    return [config.rmc.to_dict(), config.index.to_dict(), config.seed]


def _searching(title: str, make: Callable[[Setting, Vote], Defence], vote: Vote) -> Kind:
    return Kind(title, lambda setting: make(setting, vote), True, _search_settings)


DEFENCES: Mapping[str, Kind] = {
    "none": Kind("None", _undefended, False, lambda config: None),
    "deep_nn": _searching("DeepNN", _deep_nn, "outputs"),
    "deep_nn_vote": _searching("DeepNN, label vote", _deep_nn, "labels"),
    "web_nn": _searching("WebNN", _web_nn, "outputs"),
    "web_nn_vote": _searching("WebNN, label vote", _web_nn, "labels"),
    "rmc": Kind("RMC", _rmc, True, _rmc_settings),
}


def kind(name: str) -> Kind:
    """Returns the defence of that name.

    Raises:
      UserError: there is none.
    """
    if name not in DEFENCES:
        raise UserError(
            f"--config.evaluation.defences={name}: no such defence; known: {', '.join(DEFENCES)}"
        )
    return DEFENCES[name]
