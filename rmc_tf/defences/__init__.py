"""Defences by name, as the rows of Table 1 call them. A new one is one entry of `DEFENCES`."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal

from rmc_tf.augmented_set.features import StaticFeatures
from rmc_tf.augmented_set.refreshed_set import RefreshedSet
from rmc_tf.augmented_set.rows_on_disk import AugmentedSet
from rmc_tf.common.seeding import derive_seed
from rmc_tf.config import ExperimentConfig, with_profile
from rmc_tf.config.section import require
from rmc_tf.defences.base import Defence
from rmc_tf.defences.cleansing import Cleansing
from rmc_tf.defences.nearest import NearestNeighbours, Vote
from rmc_tf.defences.non_masking import NonMasking
from rmc_tf.defences.private import Private
from rmc_tf.defences.private_rmc import PrivateRMC
from rmc_tf.defences.refusing import Refusing
from rmc_tf.defences.rmc import RMC
from rmc_tf.defences.rmc_plus import RMCPlus
from rmc_tf.defences.smoothed import Smoothed
from rmc_tf.defences.undefended import Undefended
from rmc_tf.networks.classifier import Classifier
from rmc_tf.search.index import FeatureIndex


@dataclasses.dataclass(frozen=True)
class Prepared:
    """What PREPARE left of D' or of D alone, for the defences that search it."""

    augmented_set: AugmentedSet
    static: StaticFeatures
    index: FeatureIndex
    """Over all its rows."""


@dataclasses.dataclass(frozen=True)
class Parts:
    """What a defence is made from."""

    config: ExperimentConfig
    classifier: Classifier
    prepare: Callable[[], Prepared]
    """Called only by defences that search."""


@dataclasses.dataclass(frozen=True)
class DefenceSpec:
    """What is known of a defence before it is made."""

    title: str
    """Of its row in a table."""
    make: Callable[[Parts], Defence]
    depends_on: Callable[[ExperimentConfig], Any]
    """The settings, as JSON, that change its answers, besides the network and D'."""
    searches: Literal["nothing", "training_set", "augmented_set"] = "nothing"
    """What its `Prepared` is of: D, D', or nothing at all."""
    history: Literal["answers", "rmc", "labels"] = "answers"
    """What makes it what it is after p points (Tables 5 and 7). "answers": its own answers to them.
    "rmc": RMC's answers. "labels": training on them and their labels. Where p = 0, the latter two
    are the undefended network."""
    adapts: bool = False
    """Whether it adapts to a query before it answers, as `config.rmc` says."""
    cleansed: bool = False
    """Whether it is trained in the background, as `config.cleansing` says."""
    steps: Callable[[ExperimentConfig], int] | None = None
    """How many steps of training come before its first query, where it trains what answers: the
    network, a copy of it, or networks of its own."""
    secret: bool = False
    """Whether what is trained so is another for each who has such a defence."""
    other_network: bool = False
    """Whether what answers has other weights than the deployed network has places for, or votes on
    what is drawn, so that no threat of a table can take its weights for it."""

    @property
    def trained(self) -> bool:
        """Whether what answers is trained by the defence, in the background or beforehand."""
        return self.steps is not None

    def primed(self, config: ExperimentConfig) -> int:
        """Returns how many rows, or how many steps of training, come before its first query."""
        if self.steps is not None:
            return self.steps(config)
        return config.rmc.primed_rows if self.adapts else 0


def _undefended(parts: Parts) -> Defence:
    return Undefended(parts.classifier)


def _nearest(parts: Parts, vote: Vote) -> Defence:
    prepared = parts.prepare()
    labels, outputs = prepared.augmented_set.labels, prepared.static.outputs
    k = min(parts.config.rmc.k, len(labels))  # of a D smaller than K, all of it
    return NearestNeighbours(parts.classifier, prepared.index, outputs, labels, k, vote)


_by_outputs = functools.partial(_nearest, vote="outputs")
_by_labels = functools.partial(_nearest, vote="labels")


def _rmc(parts: Parts) -> Defence:
    config, prepared = parts.config, parts.prepare()
    return RMC(
        parts.classifier,
        prepared.augmented_set,
        prepared.index,
        config.rmc,
        seed=derive_seed(config.seed, "rmc"),
        devices=config.hardware.devices,
        d_prime=config.hardware.d_prime,
    )


def _rmc_plus(parts: Parts) -> Defence:
    """D' changes in memory only: evaluation's checkpoint holds the changes beside the weights.

    The index is another than that of `Prepared`, which other defences search.
    """
    config, prepared = parts.config, parts.prepare()
    static, seed = prepared.static.features, derive_seed(config.seed, "index")
    index = FeatureIndex(static, config.index, config.rmc.k, seed=seed)
    return RMCPlus(
        parts.classifier,
        RefreshedSet(prepared.augmented_set, index),
        config.rmc,
        config.refresh,
        config.attacks,
        config.augmented_set,
        seed=derive_seed(config.seed, "rmc"),
        devices=config.hardware.devices,
    )


def _non_masking(parts: Parts) -> Defence:
    return NonMasking(_rmc(parts))


def _cleansing(parts: Parts, adapts: bool = False) -> Defence:
    config, prepared = parts.config, parts.prepare()
    rows = len(prepared.augmented_set)
    return Cleansing(
        parts.classifier,
        prepared.augmented_set,
        prepared.index,
        dataclasses.replace(config.rmc, k=min(config.rmc.k, rows)),  # D may be smaller than K
        config.cleansing,
        config.cleansed_against,
        adapts=adapts,
        seed=derive_seed(config.seed, "rmc"),
        d_prime=config.hardware.d_prime,
    )


_cleansing_and_rmc = functools.partial(_cleansing, adapts=True)


def _refusing(parts: Parts, of: Callable[[Parts], Defence] = _undefended) -> Defence:
    config = parts.config
    seed = derive_seed(config.seed, "refusing")
    return Refusing(of(parts), config.refused_against, config.refusing, seed=seed)


_refusing_rmc = functools.partial(_refusing, of=_rmc)
_refusing_cleansing = functools.partial(_refusing, of=_cleansing)


def _private(parts: Parts) -> Defence:
    config, rows = parts.config, parts.prepare().augmented_set
    against, seed = config.private_against, derive_seed(config.seed, "private")
    return Private(parts.classifier, rows, config.private, against, seed=seed)


def _private_rmc(parts: Parts) -> Defence:
    config, prepared = parts.config, parts.prepare()
    return PrivateRMC(
        parts.classifier,
        prepared.augmented_set,
        config.private,
        config.private_against,
        config.rmc,
        config.index,
        seed=derive_seed(config.seed, "private"),
    )


def _ensemble(parts: Parts) -> Defence:
    """The same, of seeds that everybody knows, and for ever."""
    own, seed = parts.config.private, derive_seed(parts.config.seed, "ensemble")
    own = dataclasses.replace(own, secret=0, leaked=True, expire_after=0)
    config = dataclasses.replace(parts.config, private=own, seed=seed)
    return _private(dataclasses.replace(parts, config=config))


_refusing_ensemble = functools.partial(_refusing, of=_ensemble)


def _smoothed(parts: Parts) -> Defence:
    config, rows = parts.config, parts.prepare().augmented_set
    return Smoothed(
        parts.classifier, rows, config.smoothing, seed=derive_seed(config.seed, "smoothed")
    )


def _private_steps(config: ExperimentConfig) -> int:
    return config.private.primed_steps


def _cleansing_steps(config: ExperimentConfig) -> int:
    return config.cleansing.primed_steps


def _search_settings(config: ExperimentConfig) -> Any:
    return [config.rmc.k, config.index.to_dict(), config.seed]


def _rmc_settings(config: ExperimentConfig) -> Any:
    method, index = config.rmc.to_dict(), config.index.to_dict()
    return [method, index, config.seed, config.hardware.devices]


def _rmc_plus_settings(config: ExperimentConfig) -> Any:
    return [_rmc_settings(config), config.refresh.to_dict()]


def _hindsight_settings(config: ExperimentConfig) -> Any:
    return [config.training.to_dict(), config.augmented_set.adversarial_per_row, config.seed]


def _cleansing_settings(config: ExperimentConfig) -> Any:
    searching = config.cleansing.recent_share and [config.rmc.k, config.index.to_dict()]
    against = config.cleansed_against.to_dict()
    together = with_profile(config.rmc).queries_at_once if config.cleansing.every else 1
    return [config.cleansing.to_dict(), against, searching, together, config.seed]


def _private_settings(config: ExperimentConfig) -> Any:
    return [config.private.to_dict(), config.private_against.to_dict(), config.seed]


def _private_rmc_settings(config: ExperimentConfig) -> Any:
    return [_rmc_settings(config), _private_settings(config)]


def _cleansing_and_rmc_settings(config: ExperimentConfig) -> Any:
    return [_rmc_settings(config), _cleansing_settings(config)]


def _refusing_settings(config: ExperimentConfig) -> Any:
    return [config.refusing.to_dict(), config.refused_against.to_dict(), config.seed]


def _refusing_rmc_settings(config: ExperimentConfig) -> Any:
    return [_rmc_settings(config), _refusing_settings(config)]


def _refusing_ensemble_settings(config: ExperimentConfig) -> Any:
    return [_private_settings(config), _refusing_settings(config)]


def _refusing_cleansing_settings(config: ExperimentConfig) -> Any:
    return [_cleansing_settings(config), _refusing_settings(config)]


DEFENCES: Mapping[str, DefenceSpec] = {
    "none": DefenceSpec("None", _undefended, lambda config: []),
    "deep_nn": DefenceSpec("DeepNN", _by_outputs, _search_settings, "training_set"),
    "deep_nn_vote": DefenceSpec("DeepNN, label vote", _by_labels, _search_settings, "training_set"),
    "web_nn": DefenceSpec("WebNN", _by_outputs, _search_settings, "augmented_set"),
    "web_nn_vote": DefenceSpec("WebNN, label vote", _by_labels, _search_settings, "augmented_set"),
    "rmc": DefenceSpec("RMC", _rmc, _rmc_settings, "augmented_set", adapts=True),
    "rmc_plus": DefenceSpec("RMC+", _rmc_plus, _rmc_plus_settings, "augmented_set", adapts=True),
    "non_masking": DefenceSpec(
        "Non-masking RMC", _non_masking, _rmc_settings, "augmented_set", "rmc", adapts=True
    ),
    "cleansing": DefenceSpec(
        "Cleansing that stays",
        _cleansing,
        _cleansing_settings,
        "training_set",
        cleansed=True,
        steps=_cleansing_steps,
    ),
    "cleansing_rmc": DefenceSpec(
        "Cleansing that stays, RMC on top",
        _cleansing_and_rmc,
        _cleansing_and_rmc_settings,
        "augmented_set",
        adapts=True,
        cleansed=True,
        steps=_cleansing_steps,
    ),
    "refusing": DefenceSpec("Refusing", _refusing, _refusing_settings),
    "refusing_rmc": DefenceSpec(
        "Refusing, of RMC", _refusing_rmc, _refusing_rmc_settings, "augmented_set", adapts=True
    ),
    "refusing_cleansing": DefenceSpec(
        "Refusing, of cleansing that stays",
        _refusing_cleansing,
        _refusing_cleansing_settings,
        "training_set",
        cleansed=True,
        steps=_cleansing_steps,
    ),
    "private": DefenceSpec(
        "Private, changing networks",
        _private,
        _private_settings,
        "training_set",
        steps=_private_steps,
        secret=True,
        other_network=True,
    ),
    "private_rmc": DefenceSpec(
        "Private, changing networks, RMC on top",
        _private_rmc,
        _private_rmc_settings,
        "augmented_set",
        adapts=True,
        steps=_private_steps,
        secret=True,
        other_network=True,
    ),
    "ensemble": DefenceSpec(
        "Static ensemble",
        _ensemble,
        _private_settings,
        "training_set",
        steps=_private_steps,
        other_network=True,
    ),
    "refusing_ensemble": DefenceSpec(
        "Refusing, of a static ensemble",
        _refusing_ensemble,
        _refusing_ensemble_settings,
        "training_set",
        steps=_private_steps,
        other_network=True,
    ),
    "smoothed": DefenceSpec(
        "Smoothed",
        _smoothed,
        lambda config: [config.smoothing.to_dict(), config.seed],
        "training_set",
        steps=lambda config: config.smoothing.fitted,
        other_network=True,
    ),
    "hindsight": DefenceSpec(
        "Hindsight adversarial training", _undefended, _hindsight_settings, history="labels"
    ),
}


def find(name: str) -> DefenceSpec:
    """Returns the defence of that name.

    Raises:
      UserError: there is none.
    """
    rule = f"no such defence; known: {', '.join(DEFENCES)}"
    require(name in DEFENCES, "evaluation.defences", name, rule)
    return DEFENCES[name]
