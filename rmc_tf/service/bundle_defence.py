"""A defence as a bundle describes it: its settings as JSON, and the defence out of them again."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np

from rmc_tf.augmented_set.refreshed_set import RefreshedSet
from rmc_tf.augmented_set.rows_on_disk import AugmentedSet
from rmc_tf.config import (
    AttackConfig,
    AugmentedSetConfig,
    CleansingConfig,
    IndexConfig,
    PrivateConfig,
    RefreshConfig,
    RefusingConfig,
    RMCConfig,
    SmoothingConfig,
)
from rmc_tf.data.rows import LabelledRows
from rmc_tf.defences.base import Defence, State, reseeded
from rmc_tf.defences.cleansing import Cleansing
from rmc_tf.defences.private import Private
from rmc_tf.defences.private_rmc import PrivateRMC
from rmc_tf.defences.refusing import Refusing
from rmc_tf.defences.rmc import RMC
from rmc_tf.defences.rmc_plus import RMCPlus
from rmc_tf.defences.smoothed import Smoothed
from rmc_tf.defences.undefended import Undefended
from rmc_tf.networks.classifier import Classifier
from rmc_tf.search.index import FeatureIndex


class Held(NamedTuple):
    """What a defence is made of, besides its settings."""

    network: Classifier
    """f(·; θ₀)."""
    rows: AugmentedSet | LabelledRows | None
    """D' on disk, or the rows of D of a defence that searches nothing; None: it needs none."""
    features: np.ndarray | None
    """Of the rows of D', [N', d] float32, by that network; None: it searches nothing."""


def settings_of(defence: Defence) -> dict[str, Any]:
    """Returns which defence it is, and all its settings, as JSON can hold them.

    A secret is none of them: it is in the state.
    """
    settings: dict[str, Any] = {"defence": type(defence).__name__}
    if isinstance(defence, RMC):
        return settings | _searching_settings_of(defence)
    if isinstance(defence, Private):
        own = dataclasses.replace(defence.config, secret=0)
        settings |= {"private": own.to_dict(), "attack": defence.attack.to_dict()}
        if isinstance(defence, PrivateRMC):
            method, index = defence.rmc.config, defence.index_config
            settings |= {"on_top": {"rmc": method.to_dict(), "index": index.to_dict()}}
        return settings
    if isinstance(defence, Smoothed):
        return settings | {"smoothing": defence.config.to_dict()}
    return settings


def _searching_settings_of(defence: RMC) -> dict[str, Any]:
    settings: dict[str, Any] = {
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


def beginning(fresh: State, state: State) -> State:
    """Returns a new defence's state, with the seeds and the secret of the one that was saved."""
    own = dict(fresh)
    if "random" in own:
        own = dict(reseeded(own, int(state["random"][0])))
    if "private_secret" in own:
        own["private_secret"] = state["private_secret"].copy()
    return own


def made_of(
    settings: Mapping[str, Any],
    held: Held,
    devices: Literal["one", "all"],
    d_prime: Literal["auto", "host", "device"],
) -> Defence:
    """Returns a new defence of the settings that `settings_of` returned.

    It refuses, where they have `refusing`, what `refusing_settings_of` returned.

    Args:
      settings: see there.
      held: what else it is made of.
      devices: as in `HardwareConfig`; so is the next. Not every defence has a choice.
      d_prime: where the rows are held.
    """
    inner = _inner(settings, held, devices, d_prime)
    if "refusing" not in settings:
        return inner
    given = settings["refusing"]
    attack, how = AttackConfig.from_dict(given["attack"]), RefusingConfig.from_dict(given["how"])
    return Refusing(inner, attack, how)


def _inner(
    settings: Mapping[str, Any],
    held: Held,
    devices: Literal["one", "all"],
    d_prime: Literal["auto", "host", "device"],
) -> Defence:
    network, rows, kind = held.network, held.rows, settings["defence"]
    if kind == "Undefended":
        return Undefended(network)
    assert rows is not None  # all others have some
    if kind == "Smoothed":
        return Smoothed(network, rows, SmoothingConfig.from_dict(settings["smoothing"]))
    if kind in ("Private", "PrivateRMC"):
        own = PrivateConfig.from_dict(settings["private"])
        attack = AttackConfig.from_dict(settings["attack"])
        if kind == "Private":
            return Private(network, rows, own, attack)
        assert isinstance(rows, AugmentedSet)
        method = RMCConfig.from_dict(settings["on_top"]["rmc"])
        index = IndexConfig.from_dict(settings["on_top"]["index"])
        return PrivateRMC(network, rows, own, attack, method, index)
    assert isinstance(rows, AugmentedSet) and held.features is not None
    return _searching(settings, network, rows, held.features, devices, d_prime)


def _searching(
    settings: Mapping[str, Any],
    network: Classifier,
    rows: AugmentedSet,
    features: np.ndarray,
    devices: Literal["one", "all"],
    d_prime: Literal["auto", "host", "device"],
) -> RMC:
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
