"""Attacks on a *defence*, by name. A new one is one file here and one line below.

They use no more of a defence than `predict`, `calibrate`, `snapshot`, `restore`
and `network`, so they work on any (`defences.base`). In the order of what the
attacker knows: the static network (transfer), D' (PGD-NN), the present weights
(PGD-Skip), answers and nothing else, but many (noise, Square, HopSkipJump), the whole
procedure (FPA, GMSA). `runner` attacks while it evaluates, `pgd_skip.strike` from moments of one
history, and `worst_case` takes the best of several.
"""

import dataclasses
from collections.abc import Callable, Mapping

from rmc_tf.common.errors import UserError
from rmc_tf.config import AttackConfig, ThreatConfig
from rmc_tf.networks.classifier import Classifier
from rmc_tf.threats.base import BatchThreat, Knowledge, Searched, Threat, check_ascent
from rmc_tf.threats.gmsa import Climbs, climbing
from rmc_tf.threats.hop_skip_jump import HopSkipJump
from rmc_tf.threats.noise import Noise
from rmc_tf.threats.pgd_nn import PGDNN
from rmc_tf.threats.pgd_skip import PGDSkip
from rmc_tf.threats.square import Square
from rmc_tf.threats.transfer import Transfer


@dataclasses.dataclass(frozen=True)
class Kind:
    """A threat as the registry knows it."""

    title: str
    make: Callable[[ThreatConfig, Knowledge], Threat]
    settings: tuple[str, ...] = ()
    """The fields of `ThreatConfig` that it reads, besides threat and attack."""
    searches: bool = False
    """Whether it needs the rows that the defence searches, as `Knowledge.searched`."""
    black_box: bool = False
    """Whether it sees the answers and nothing else."""
    check: Callable[[ThreatConfig, AttackConfig], None] = lambda config, attack: None
    """Refuses, by a `UserError`, what it can't do; before any work, and again when it is made."""
    packages: tuple[str, ...] = ("cleverhans",)
    """Whose versions its results depend on, besides TensorFlow's and Keras'."""
    revision: int = 1
    """Goes up when the same settings lead to other results, so that old ones aren't reused."""

    @property
    def in_batches(self) -> bool:
        """Whether it attacks many points from one state, and so can have a `before`."""
        return isinstance(self.make, type) and issubclass(self.make, BatchThreat)


def _by_art(
    title: str,
    make: Callable[[ThreatConfig, Knowledge], Threat],
    check: Callable[[ThreatConfig, AttackConfig], None],
) -> Kind:
    packages = ("adversarial-robustness-toolbox",)
    return Kind(title, make, ("queries",), black_box=True, check=check, packages=packages)


def _simulating(title: str, climbs: Climbs) -> Kind:
    # Revision 2: its first round is PGD-Skip's.
    fields = ("rounds", "samples")
    return Kind(title, climbing(climbs), fields, check=check_ascent, revision=2)


THREATS: Mapping[str, Kind] = {
    "transfer": Kind("Transfer from θ*", Transfer),
    "pgd_nn": Kind(
        "PGD-NN", PGDNN, ("vote", "temperature", "network_share"), True, check=check_ascent
    ),
    "pgd_skip": Kind("PGD-Skip", PGDSkip),
    "noise": Kind("Noise", Noise, ("queries",), black_box=True),
    "square": _by_art("Square, black box", Square, Square.check),
    "hop_skip_jump": _by_art("HopSkipJump, black box", HopSkipJump, HopSkipJump.check),
    "fpa": _simulating("FPA", "newest"),
    "gmsa_avg": _simulating("GMSA-AVG", "sum"),
    "gmsa_min": _simulating("GMSA-MIN", "min"),
}


def find(config: ThreatConfig) -> Kind:
    """Returns the threat that a config names.

    Raises:
      UserError: no threat has that name, or it has no such setting.
    """
    name = config.threat
    if name not in THREATS:
        raise UserError(
            f"--config.threats.*.threat={name}: no such threat; known: {', '.join(THREATS)}"
        )
    times = ("before", "delay", "known_share") if THREATS[name].in_batches else ()
    read = ("threat", "attack", *THREATS[name].settings, *times)
    for field in dataclasses.fields(ThreatConfig):
        value = getattr(config, field.name)
        if field.name not in read and value != field.default:
            raise UserError(
                f"--config.threats.*.{field.name}={value}: {name} has no such setting; leave it "
                f"out; it reads {', '.join(read)}"
            )
    return THREATS[name]


def check(config: ThreatConfig, attack_models: Mapping[str, AttackConfig]) -> Kind:
    """Returns the threat that a config names, if it can be made.

    Args:
      config: which, and its settings.
      attack_models: where `config.attack` is found.

    Raises:
      UserError: no threat or attack model has that name, or the threat can't do what is asked.
    """
    kind = find(config)
    if config.attack not in attack_models:
        raise UserError(
            f"--config.threats.*.attack={config.attack}: no such attack model; "
            f"known: {', '.join(attack_models)}"
        )
    kind.check(config, attack_models[config.attack])
    return kind


def build(
    config: ThreatConfig,
    attack_models: Mapping[str, AttackConfig],
    classifier: Classifier,
    searched: Searched | None = None,
) -> Threat:
    """Returns a threat to any defence of a classifier.

    Args:
      config: which, and its settings.
      attack_models: where `config.attack` is found.
      classifier: f(·; θ*), as it was deployed.
      searched: the rows that the defence searches, for those threats that use them.

    Raises:
      UserError: no threat or attack model has that name, or the threat can't do what is asked.
    """
    kind = check(config, attack_models)
    return kind.make(config, Knowledge(classifier, attack_models[config.attack], searched))
