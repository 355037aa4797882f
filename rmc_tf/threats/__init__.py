"""Attacks on a *defence*, by name. A new one is one file here and one line below.

They use no more of a defence than `predict`, `calibrate`, `snapshot`, `restore`
and `network`, so they work on any (`defences.base`). In the order of what the
attacker knows: the static network (transfer), D' (PGD-NN), the present weights
(PGD-Skip), answers and nothing else, but many (noise, Square, RayS, HopSkipJump), the whole
procedure (FPA, GMSA, joint). `runner` attacks while it evaluates, `histories` says what a
defence has become after some points.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping

from rmc_tf.config import AttackConfig, ThreatConfig
from rmc_tf.config.section import require
from rmc_tf.networks.classifier import Classifier
from rmc_tf.threats import hop_skip_jump, noise, rays, square
from rmc_tf.threats.base import (
    BatchThreat,
    Knowledge,
    SearchedRows,
    Threat,
    check_along,
    check_ascent,
)
from rmc_tf.threats.gmsa import GMSA, Climbs
from rmc_tf.threats.joint import Joint
from rmc_tf.threats.pgd_nn import PGDNN
from rmc_tf.threats.pgd_skip import PGDSkip
from rmc_tf.threats.transfer import Transfer

Make = Callable[[ThreatConfig, Knowledge], Threat]
Check = Callable[[ThreatConfig, AttackConfig], None]


@dataclasses.dataclass(frozen=True)
class Entry:
    """A threat as the registry knows it."""

    title: str
    make: Make
    settings: tuple[str, ...] = ()
    """The fields of `ThreatConfig` that it reads, besides threat and attack."""
    searches: bool = False
    """Whether it needs the rows that the defence searches, as `Knowledge.searched`."""
    black_box: bool = False
    """Whether it sees the answers and nothing else."""
    check: Check = lambda config, attack: None
    """Refuses, by a `UserError`, what it can't do, before it is made."""
    packages: tuple[str, ...] = ("cleverhans",)
    """Whose versions its results depend on, besides TensorFlow's and Keras'."""
    revision: int = 1
    """Goes up when the same settings lead to other results, so that old ones aren't reused."""

    @property
    def in_batches(self) -> bool:
        """Whether it attacks many points from one state, and so can have a `before`."""
        return isinstance(self.make, type) and issubclass(self.make, BatchThreat)


def _by_art(title: str, make: Make, check: Check) -> Entry:
    packages = ("adversarial-robustness-toolbox",)
    return Entry(title, make, ("queries",), black_box=True, check=check, packages=packages)


def _check_joint(config: ThreatConfig, attack: AttackConfig) -> None:
    check_ascent(config, attack)
    check_along(config, attack)


def _simulating(title: str, climbs: Climbs) -> Entry:
    make = functools.partial(GMSA, climbs=climbs)
    # Revision 2: its first round is PGD-Skip's.
    settings = ("rounds", "samples", "restarts", "asked_along")
    return Entry(title, make, settings, check=check_along, revision=2)


_JOINT = (
    *("rounds", "samples", "restarts", "asked_along"),
    *("temperature", "unrolled_steps", "unrolled_rows"),
)
THREATS: Mapping[str, Entry] = {
    "transfer": Entry("Transfer from θ*", Transfer),
    "pgd_nn": Entry(
        "PGD-NN", PGDNN, ("vote", "temperature", "network_share"), searches=True, check=check_ascent
    ),
    "pgd_skip": Entry("PGD-Skip", PGDSkip, ("restarts", "asked_along"), check=check_along),
    "noise": Entry("Noise", noise.Noise, ("queries",), black_box=True),
    "square": _by_art("Square, black box", square.Square, square.check),
    "rays": Entry(
        "RayS, black box",
        rays.RayS,
        ("queries",),
        black_box=True,
        check=rays.check,
        packages=(),
    ),
    "hop_skip_jump": _by_art(
        "HopSkipJump, black box", hop_skip_jump.HopSkipJump, hop_skip_jump.check
    ),
    "fpa": _simulating("FPA", "newest"),
    "gmsa_avg": _simulating("GMSA-AVG", "sum"),
    "gmsa_min": _simulating("GMSA-MIN", "min"),
    "joint": Entry("Joint", Joint, _JOINT, searches=True, check=_check_joint),
}


def find(config: ThreatConfig) -> Entry:
    """Returns the threat that a config names.

    Raises:
      UserError: no threat has that name, or it has no such setting.
    """
    name = config.threat
    rule = f"no such threat; known: {', '.join(THREATS)}"
    require(name in THREATS, "threats.*.threat", name, rule)
    times = ("before", "delay", "known_share") if THREATS[name].in_batches else ()
    read = ("threat", "attack", *THREATS[name].settings, *times)
    for field in dataclasses.fields(ThreatConfig):
        value = getattr(config, field.name)
        rule = f"{name} has no such setting; leave it out; it reads {', '.join(read)}"
        holds = field.name in read or value == field.default
        require(holds, f"threats.*.{field.name}", value, rule)
    return THREATS[name]


def check(config: ThreatConfig, attack_models: Mapping[str, AttackConfig]) -> Entry:
    """Returns the threat that a config names, if it can be made of one of the attack models.

    Raises:
      UserError: no threat or attack model has that name, or the threat can't do what is asked.
    """
    entry = find(config)
    rule = f"no such attack model; known: {', '.join(attack_models)}"
    require(config.attack in attack_models, "threats.*.attack", config.attack, rule)
    entry.check(config, attack_models[config.attack])
    return entry


def build(
    config: ThreatConfig,
    attack_models: Mapping[str, AttackConfig],
    classifier: Classifier,
    searched: SearchedRows | None = None,
) -> Threat:
    """Returns a threat to any defence of a classifier, f(·; θ*) as it was deployed.

    Raises:
      UserError: see `check`; or there are no rows for a threat that uses them.
    """
    entry = check(config, attack_models)
    return entry.make(config, Knowledge(classifier, attack_models[config.attack], searched))
