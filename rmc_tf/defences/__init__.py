"""Defences by name, as the rows of Table 1 call them. A new one is one line below."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal

from rmc_tf.augmented_set.features import StaticFeatures
from rmc_tf.augmented_set.refreshed_set import RefreshedSet
from rmc_tf.augmented_set.rows_on_disk import AugmentedSet
from rmc_tf.common.errors import UserError
from rmc_tf.common.seeding import derive_seed
from rmc_tf.config import ExperimentConfig
from rmc_tf.defences.base import Defence
from rmc_tf.defences.nearest import NearestNeighbours, Vote
from rmc_tf.defences.non_masking import NonMasking
from rmc_tf.defences.rmc import RMC
from rmc_tf.defences.rmc_plus import RMCPlus
from rmc_tf.defences.undefended import Undefended
from rmc_tf.networks.classifier import Classifier
from rmc_tf.search.index import FeatureIndex


@dataclasses.dataclass(frozen=True)
class Prepared:
    """What PREPARE left, from which the defences that search are made: of D' or of D alone."""

    augmented_set: AugmentedSet
    static: StaticFeatures
    index: FeatureIndex
    """Over all its rows."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """What a defence is made from."""

    config: ExperimentConfig
    classifier: Classifier
    prepare: Callable[[], Prepared]
    """Called by those that search only."""


@dataclasses.dataclass(frozen=True)
class Kind:
    """One row of a table."""

    title: str
    make: Callable[[Setting], Defence]
    searches: Literal["nothing", "training_set", "augmented_set"]
    """What it searches, and is handed as `Prepared`: D, D', or nothing at all."""
    depends_on: Callable[[ExperimentConfig], Any]
    """The settings, as JSON, that change its answers, besides the network and D'."""
    history: Literal["answers", "rmc", "labels"] = "answers"
    """What makes it what it is after p points (Tables 5 and 7). "answers": its own to them. "rmc":
    RMC's. "labels": training on them and their labels. Without points, the latter two are None."""
    adapts: bool = False
    """Whether it adapts to a query before it answers, as `config.rmc` says."""


def _undefended(setting: Setting) -> Defence:
    return Undefended(setting.classifier)


def _nearest(setting: Setting, vote: Vote) -> Defence:
    prepared = setting.prepare()
    labels, outputs = prepared.augmented_set.labels, prepared.static.outputs
    k = min(setting.config.rmc.k, len(labels))  # of a D smaller than K, all of it
    return NearestNeighbours(setting.classifier, prepared.index, outputs, labels, k, vote)


def _rmc(setting: Setting) -> Defence:
    config, prepared = setting.config, setting.prepare()
    return RMC(
        setting.classifier,
        prepared.augmented_set,
        prepared.index,
        config.rmc,
        seed=derive_seed(config.seed, "rmc"),
        devices=config.hardware.devices,
    )


def _rmc_plus(setting: Setting) -> Defence:
    """D' changes in memory only: evaluation's checkpoint holds the changes beside the weights.

    The index is another than that of `Prepared`, which other defences search.
    """
    config, prepared = setting.config, setting.prepare()
    static, seed = prepared.static.features, derive_seed(config.seed, "index")
    index = FeatureIndex(static, config.index, config.rmc.k, seed=seed)
    return RMCPlus(
        setting.classifier,
        RefreshedSet(prepared.augmented_set, index),
        config.rmc,
        config.refresh,
        config.attacks,
        config.augmented_set,
        seed=derive_seed(config.seed, "rmc"),
        devices=config.hardware.devices,
    )


def _search_settings(config: ExperimentConfig) -> Any:
    return [config.rmc.k, config.index.to_dict(), config.seed]


def _rmc_settings(config: ExperimentConfig) -> Any:
    hardware = config.hardware.of_adaptation()
    return [config.rmc.to_dict(), config.index.to_dict(), config.seed, hardware]


def _rmc_plus_settings(config: ExperimentConfig) -> Any:
    return [*_rmc_settings(config), config.refresh.to_dict()]


def _hindsight_settings(config: ExperimentConfig) -> Any:
    return [config.training.to_dict(), config.augmented_set.adversarial_per_row, config.seed]


def _deep_nn(title: str, vote: Vote) -> Kind:
    return Kind(title, lambda s: _nearest(s, vote), "training_set", _search_settings)


def _web_nn(title: str, vote: Vote) -> Kind:
    return Kind(title, lambda s: _nearest(s, vote), "augmented_set", _search_settings)


DEFENCES: Mapping[str, Kind] = {
    "none": Kind("None", _undefended, "nothing", lambda config: None),
    "deep_nn": _deep_nn("DeepNN", "outputs"),
    "deep_nn_vote": _deep_nn("DeepNN, label vote", "labels"),
    "web_nn": _web_nn("WebNN", "outputs"),
    "web_nn_vote": _web_nn("WebNN, label vote", "labels"),
    "rmc": Kind("RMC", _rmc, "augmented_set", _rmc_settings, adapts=True),
    "rmc_plus": Kind("RMC+", _rmc_plus, "augmented_set", _rmc_plus_settings, adapts=True),
    "non_masking": Kind(
        "Non-masking RMC",
        lambda s: NonMasking(_rmc(s)),
        "augmented_set",
        _rmc_settings,
        "rmc",
        adapts=True,
    ),
    "hindsight": Kind(
        "Hindsight adversarial training", _undefended, "nothing", _hindsight_settings, "labels"
    ),
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
