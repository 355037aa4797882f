"""The candidates of docs/withstanding.md: which defence of which network, and beside what."""

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One row of the table."""

    title: str
    network: str
    """"target", the regularly trained one, or "at_pgd"."""
    defence: str
    """A name of `rmc_tf.defences`."""
    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Settings by their paths."""
    attack: str = "pgd"
    """Whose ball is searched, out of the config's attacks."""
    static: str = "regular"
    """The candidate that is its own static network; its own name, where it is one."""
    beside: tuple[str, ...] = ()
    """Static ensembles to hold it against."""


def of(dataset: str) -> dict[str, Candidate]:
    """Returns the candidates on a data set, by name, in the order of the table.

    Steps of cleansing are what two cores take in two minutes of a service on digits, and in 200
    seconds on Fashion-MNIST (docs/results/cleansing_*).
    """
    late = 2000 if dataset == "digits" else 1000
    cleansed = {"cleansing.primed_steps": late}
    return {
        "regular": Candidate("Regular network", "target", "none"),
        "cleansing": Candidate(
            f"Cleansing that stays, after {late:,} steps", "target", "cleansing", cleansed
        ),
        "cleansing_rmc": Candidate(
            f"RMC on top, after {late:,} steps of cleansing",
            "target",
            "cleansing_rmc",
            {**cleansed, "rmc.profile": "fast"},
        ),
        "refusing": Candidate("Refusing", "target", "refusing"),
        "refusing_cleansing": Candidate(
            f"Refusing, after {late:,} steps of cleansing", "target", "refusing_cleansing", cleansed
        ),
        "trained": Candidate("Adversarially trained network", "at_pgd", "none", static="trained"),
        "ensemble_3": Candidate(
            "Static ensemble of 3", "at_pgd", "ensemble", {"private.networks": 3}, static="trained"
        ),
        "ensemble_10": Candidate(
            "Static ensemble of 10",
            "at_pgd",
            "ensemble",
            {"private.networks": 10},
            static="trained",
        ),
        "refusing_trained": Candidate(
            "Refusing",
            "at_pgd",
            "refusing",
            static="trained",
            beside=("ensemble_3", "ensemble_10"),
        ),
        "private_1": Candidate(
            "Private, changing: one network",
            "at_pgd",
            "private",
            {"private.networks": 1},
            static="trained",
            beside=("ensemble_3",),
        ),
        "private_3": Candidate(
            "Private, changing: the mean of 3",
            "at_pgd",
            "private",
            {"private.networks": 3},
            static="trained",
            beside=("ensemble_3",),
        ),
        "regular_l2": Candidate(
            "Regular network", "target", "none", attack="pgd_l2", static="regular_l2"
        ),
        "smoothed": Candidate(
            "Smoothed, with a certificate",
            "target",
            "smoothed",
            attack="pgd_l2",
            static="regular_l2",
        ),
    }
