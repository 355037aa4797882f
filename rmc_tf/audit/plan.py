"""From a config to what its audit attacks, and with what (Croce et al. 2022, section 6)."""

import dataclasses

from rmc_tf import attacks, defences
from rmc_tf.audit import budgets
from rmc_tf.audit.ball import Ball
from rmc_tf.audit.suite import suite
from rmc_tf.common.errors import UserError
from rmc_tf.config import AttackConfig, ExperimentConfig, TableConfig, ThreatConfig
from rmc_tf.config.section import require


@dataclasses.dataclass(frozen=True)
class Plan:
    """An audit that can be run."""

    experiment: ExperimentConfig
    """The user's, with the audit's points."""
    subjects: tuple[tuple[str, str], ...]
    """(network, defence), each network's bare one first."""
    ball: Ball
    """What is searched, with the config's own threats that stay in it."""
    left_out: tuple[str, ...] = ()
    """The config's own threats that search another ball, or after a history of other points, and so
    can't be compared."""


def plan(config: ExperimentConfig) -> Plan:
    """Returns the audit of a config.

    Raises:
      UserError: a name is unknown, or no attack model fits.
    """
    audit, name = config.audit, _given(config)
    given = config.attacks[name]
    left_out = tuple(n for n, own in config.threats.items() if not _searches(own, given, config))
    ball = Ball(
        given.epsilon,
        given.norm,
        budgets.of_config(audit),
        audit.larger,
        (),
        config.seed,
        short=given,
        own={
            n: (own, config.attacks[own.attack])
            for n, own in config.threats.items()
            if n not in left_out
        },
        chosen=audit.threats,
    )
    for out in left_out:
        rule = f"it has a `before`, or its ball isn't within that of {name}; leave it out"
        named = out in audit.threats and out not in suite(dataclasses.replace(ball, chosen=()))
        require(not named, "audit.threats", out, rule)
    suite(ball)  # what is chosen and isn't there is told before any work
    experiment = dataclasses.replace(
        config,
        evaluation=dataclasses.replace(config.evaluation, points=audit.points, folds=1),
        table=TableConfig(),
    )
    return Plan(experiment, _subjects(config), ball, left_out)


def _given(config: ExperimentConfig) -> str:
    """Returns the name of the attack model whose ball is searched."""
    audit = config.audit
    wanted = (audit.attack,) if audit.attack else (*config.augmented_set.attacks, *config.attacks)
    for name in wanted:
        require(name in config.attacks, "audit.attack", name, f"known: {', '.join(config.attacks)}")
        model = config.attacks[name]
        if model.attack in ("pgd", "bim") and not model.targeted:
            return name
    raise UserError(
        f"--config.audit.attack={audit.attack}: an audit takes steps of PGD or BIM, untargeted; "
        "name such an attack model, or add one to `attacks`"
    )


def _searches(threat: ThreatConfig, given: AttackConfig, config: ExperimentConfig) -> bool:
    """Says whether a threat stays within the ball that is searched, and attacks in turn."""
    model = config.attacks[threat.attack]
    bounded = "epsilon" in attacks.find(model).settings
    within = model.norm == given.norm and model.epsilon <= given.epsilon
    return threat.before is None and bounded and within


def _subjects(config: ExperimentConfig) -> tuple[tuple[str, str], ...]:
    """Returns the networks that are audited, each bare and behind each defence."""
    adversarial = [n for n, own in config.networks.items() if own.loss.kind == "adversarial"]
    networks = config.audit.networks or ("target", *adversarial)
    for name in networks:
        known = ("target", *config.networks)
        require(name in known, "audit.networks", name, f"known: {', '.join(known)}")
    for name in config.audit.defences:
        rule = f"known: {', '.join(defences.DEFENCES)}"
        require(name in defences.DEFENCES, "audit.defences", name, rule)
        rule = "what it is comes of a history, and an audit has none; see configs/table7.py"
        own = defences.find(name).history == "answers"
        require(own, "audit.defences", name, rule)
    every = dict.fromkeys(("none", *config.audit.defences))
    return tuple((network, defence) for network in networks for defence in every)
