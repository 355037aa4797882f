"""A defence as a bundle describes it: its settings as JSON, and the defence out of them again."""

from collections.abc import Mapping
from typing import Any, Literal

from rmc_tf.augmented_set.refreshed_set import RefreshedSet
from rmc_tf.augmented_set.rows_on_disk import AugmentedSet
from rmc_tf.config import (
    AttackConfig,
    AugmentedSetConfig,
    CleansingConfig,
    IndexConfig,
    RefreshConfig,
    RefusingConfig,
    RMCConfig,
)
from rmc_tf.defences.cleansing import Cleansing
from rmc_tf.defences.refusing import Refusing
from rmc_tf.defences.rmc import RMC
from rmc_tf.defences.rmc_plus import RMCPlus
from rmc_tf.networks.classifier import Classifier
from rmc_tf.search.index import FeatureIndex


def settings_of(defence: RMC) -> dict[str, Any]:
    """Returns which defence it is, and all its settings, as JSON can hold them."""
    settings: dict[str, Any] = {
        "defence": type(defence).__name__,
        "rmc": defence.config.to_dict(),
        "index": defence.index.config.to_dict(),
        "index_k": defence.index.k,
        "index_seed": defence.index.seed,
    }
    if isinstance(defence, RMCPlus):
        settings["refresh"] = defence.refresh.to_dict()
        settings["attacks"] = {n: a.to_dict() for n, a in defence.attack_models.items()}
        settings["augmented_set"] = defence.made_by.to_dict()
    if isinstance(defence, Cleansing):
        settings["cleansing"] = defence.cleansing.to_dict()
        settings["attack"] = defence.attack.to_dict()
        settings["adapts"] = defence.adapts
    return settings


def refusing_settings_of(defence: Refusing) -> dict[str, Any]:
    """Returns how a defence looks around a query, as JSON can hold it."""
    return {"attack": defence.attack.to_dict(), "how": defence.config.to_dict()}


def refusing_of(settings: Mapping[str, Any], defence: RMC) -> Refusing | None:
    """Returns what looks around a query before a defence answers; None: nothing does."""
    if "refusing" not in settings:
        return None
    given = settings["refusing"]
    attack, how = AttackConfig.from_dict(given["attack"]), RefusingConfig.from_dict(given["how"])
    return Refusing(defence, attack, how)


def made_of(
    settings: Mapping[str, Any],
    network: Classifier,
    rows: AugmentedSet,
    features: Any,
    devices: Literal["one", "all"],
    d_prime: Literal["auto", "host", "device"],
) -> RMC:
    """Returns a new defence of the settings that `settings_of` returned.

    Args:
      settings: see there.
      network: f(·; θ₀).
      rows: D'.
      features: of its rows, [N', d] float32, by that network.
      devices: as in `HardwareConfig`; so is the next. Not every defence has a choice.
      d_prime: where the rows are held.
    """
    index = FeatureIndex(
        features,
        IndexConfig.from_dict(settings["index"]),
        settings["index_k"],
        seed=settings["index_seed"],
    )
    method = RMCConfig.from_dict(settings["rmc"])
    if settings["defence"] == "RMCPlus":
        return RMCPlus(
            network,
            RefreshedSet(rows, index),
            method,
            RefreshConfig.from_dict(settings["refresh"]),
            {name: AttackConfig.from_dict(a) for name, a in settings["attacks"].items()},
            AugmentedSetConfig.from_dict(settings["augmented_set"]),
            devices=devices,
        )
    if settings["defence"] == "Cleansing":
        return Cleansing(
            network,
            rows,
            index,
            method,
            CleansingConfig.from_dict(settings["cleansing"]),
            AttackConfig.from_dict(settings["attack"]),
            adapts=settings["adapts"],
            d_prime=d_prime,
        )
    return RMC(network, rows, index, method, devices=devices, d_prime=d_prime)
