"""From a config to what its audit attacks, and with what (Croce et al. 2022, section 6).

The audit is a run of the pipeline like any other, of an experiment that is made
here from the user's: the same data, networks, D' and defences, and other attacks.
So its work is kept, shared and resumed as that of a table is.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from rmc_tf import attacks, defences, threats
from rmc_tf.audit import budgets
from rmc_tf.common.errors import UserError, did_you_mean
from rmc_tf.config import (
    AttackConfig,
    AuditConfig,
    ExperimentConfig,
    Norm,
    TableConfig,
    ThreatConfig,
)
from rmc_tf.config.section import require
from rmc_tf.experiment.cells import Cell

CLEAN = "clean"
SHORT = "pgd_skip_short"
"""PGD-Skip with the steps of the config's own attack, for the check that more steps do more."""
UNBOUNDED = "unbounded"
_LARGER = "larger_"
_PATIENT = "audit_patient"
_MARGIN = "audit_margin"
"""The same steps on the margin loss, which has a gradient where the cross entropy has none left."""
_STANDARD = "audit_autoattack"
"""AutoAttack's standard, for the static network: what a bare one really withstands."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """An audit that can be run."""

    experiment: ExperimentConfig
    """The user's, with the audit's attacks and points."""
    given: str
    """The name of the attack model whose ball is searched."""
    subjects: tuple[tuple[str, str], ...]
    """(network, defence), each network's bare one first."""
    inside: tuple[str, ...]
    """The threats that stay in the ball: those that the worst case is over."""
    beyond: tuple[str, ...]
    """Threats in larger balls, for a check; the smallest first."""
    left_out: tuple[str, ...] = ()
    """The config's own threats that search another ball, or after a history of other points, and so
    can't be compared."""

    def cells(self, network: str, defence: str) -> dict[str, Cell]:
        """Returns what is evaluated of one subject: clean, and every threat that fits it."""
        spec = defences.find(defence)
        searched = self.experiment.augmented_set.attacks
        if spec.searches != "augmented_set":
            searched = ()
        return {
            stream: Cell(network, defence, searched, stream, "")
            for stream in (CLEAN, *self.inside, *self.beyond)
            if stream == CLEAN or searched or not threats.find(self._threat(stream)).searches
        }

    def most(self, names: Iterable[str]) -> tuple[int, int]:
        """Returns how many predictions and gradient passes a point takes at most, by its cells."""
        predictions, gradients = 0, 0
        for name in names:
            predictions += 1  # while it is attacked
            if name in (CLEAN, *self.inside):  # replayed, and asked again
                predictions += (name != CLEAN) + self.experiment.audit.retests + 1
            if name == CLEAN:
                continue
            config, steps = self._threat(name), self.model(name).iterations
            spec = threats.find(config)
            if spec.black_box:
                predictions += config.queries
                continue
            simulated = "rounds" in spec.settings
            predictions += config.rounds * config.most_samples * simulated
            gradients += steps * config.most_samples * budgets.passes(config.threat, config.rounds)
        return predictions, gradients

    def _threat(self, name: str) -> ThreatConfig:
        return self.experiment.threats[name]

    def is_black_box(self, name: str) -> bool:
        """Says whether a threat sees the answers and nothing else."""
        return threats.find(self._threat(name)).black_box

    def model(self, name: str) -> AttackConfig:
        """Returns the attack model of a threat."""
        return self.experiment.attacks[self._threat(name).attack]

    def title(self, name: str) -> str:
        """Returns what a reader calls a threat."""
        config = self._threat(name)
        title = threats.find(config).title
        if name == UNBOUNDED:
            return f"{title}, no ball"
        if name in self.beyond:
            factor = self.model(name).epsilon / self.experiment.attacks[self.given].epsilon
            return f"{title}, {factor:g} ε"
        if config.vote == "labels":
            title += " on labels"
        if name == SHORT:
            title += f", {self.model(name).iterations} steps"
        if not threats.find(config).black_box and self.model(name).loss == "margin":
            title += ", margin loss"
        if self.model(name).attack == "autoattack":
            title += ", AutoAttack"
        own = suite(self.experiment.audit, self.given, self.model(name).norm)
        return title if name in own else f"{title} ({name})"

    def described(self, name: str) -> dict[str, Any]:
        """Returns a threat and what it may spend, as JSON; of its settings only what it reads."""
        config, model = self._threat(name), self.model(name)
        spec = threats.find(config)
        read = ("attack", *attacks.find(model).settings)
        steps = [field for field in ("attack", "loss", "step_size", "iterations") if field in read]
        steps = [] if spec.black_box else steps
        return {
            "name": name,
            "title": self.title(name),
            "worst_case": name in self.inside,
            "norm": model.norm,
            "epsilon": model.epsilon,
            **{field: getattr(model, field) for field in steps},
            **{field: getattr(config, field) for field in spec.settings},
        }


def plan(config: ExperimentConfig) -> Plan:
    """Returns the audit of a config.

    Raises:
      UserError: a name is unknown, no attack model fits, or ART is needed and not installed.
    """
    config = dataclasses.replace(config, audit=budgets.applied(config.audit))
    audit, name = config.audit, _given(config)
    given = config.attacks[name]
    chosen = _chosen({**config.threats, **suite(audit, name, given.norm)}, audit)
    left_out = tuple(n for n, threat in chosen.items() if not _searches(threat, given, config))
    for out in left_out:
        rule = f"it has a `before`, or its ball isn't within that of {name}; leave it out"
        require(out not in audit.threats, "audit.threats", out, rule)
    inside = {n: threat for n, threat in chosen.items() if n not in left_out}
    patient = _in_ball(given, audit, given.epsilon, given.norm)
    models = {
        _PATIENT: dataclasses.replace(patient, loss="cross_entropy"),
        _MARGIN: dataclasses.replace(patient, loss="margin"),
        _STANDARD: AttackConfig(attack="autoattack", norm=given.norm, epsilon=given.epsilon),
    }
    beyond = {}
    strongest = next((inside[n] for n in ("gmsa_avg", "pgd_skip") if n in inside), None)
    if strongest:
        for factor in sorted(audit.larger):
            radius, larger = factor * given.epsilon, f"{_LARGER}{factor:g}"
            if given.norm != "linf" or radius < 1:
                models[f"audit_{larger}"] = _in_ball(given, audit, radius, given.norm)
                beyond[larger] = strongest
        # The largest ball under L∞ holds all images, whatever the norm of the others.
        models[f"audit_{UNBOUNDED}"] = _in_ball(given, audit, 1.0, "linf")
        beyond[UNBOUNDED] = strongest
    beyond = {n: dataclasses.replace(t, attack=f"audit_{n}") for n, t in beyond.items()}
    experiment = dataclasses.replace(
        config,
        attacks={**config.attacks, **models},
        threats={**inside, **beyond},
        evaluation=dataclasses.replace(config.evaluation, points=audit.points),
        table=TableConfig(),
    )
    return Plan(experiment, name, _subjects(config), tuple(inside), tuple(beyond), left_out)


def suite(audit: AuditConfig, given: str, norm: str) -> dict[str, ThreatConfig]:
    """Returns the audit's own threats: one of each kind that the protocol asks for.

    They search the ball of the config's own attack model `given`, in its norm.
    """
    simulating = ("fpa", "gmsa_avg", "gmsa_min")
    rounds, queries = audit.rounds, audit.queries
    # ART's Square under L2 crashes.
    searching = ("noise", *(("square", "rays") if norm == "linf" else ("hop_skip_jump",)))
    return {
        "transfer": ThreatConfig(threat="transfer", attack=_PATIENT),
        "pgd_nn": ThreatConfig(threat="pgd_nn", attack=_PATIENT),
        "pgd_nn_labels": ThreatConfig(threat="pgd_nn", attack=_PATIENT, vote="labels"),
        SHORT: ThreatConfig(threat="pgd_skip", attack=given),
        "pgd_skip": ThreatConfig(threat="pgd_skip", attack=_PATIENT),
        **{
            n: ThreatConfig(threat=n, attack=_PATIENT, rounds=rounds, samples=0) for n in simulating
        },
        "joint": ThreatConfig(threat="joint", attack=_PATIENT, rounds=rounds, samples=0),
        "transfer_margin": ThreatConfig(threat="transfer", attack=_MARGIN),
        "transfer_autoattack": ThreatConfig(threat="transfer", attack=_STANDARD),
        "pgd_skip_margin": ThreatConfig(threat="pgd_skip", attack=_MARGIN),
        "gmsa_avg_margin": ThreatConfig(
            threat="gmsa_avg", attack=_MARGIN, rounds=rounds, samples=0
        ),
        **{n: ThreatConfig(threat=n, attack=_PATIENT, queries=queries) for n in searching},
    }


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
    if threat.attack in (_PATIENT, _MARGIN, _STANDARD):
        return True
    if threat.before is not None:
        return False
    model = config.attacks[threat.attack]
    bounded = "epsilon" in attacks.find(model).settings
    return bounded and model.norm == given.norm and model.epsilon <= given.epsilon


def _in_ball(given: AttackConfig, audit: AuditConfig, epsilon: float, norm: Norm) -> AttackConfig:
    """Returns the audit's PGD, in a ball of some radius."""
    step_size = audit.step_share * epsilon
    return dataclasses.replace(
        given, norm=norm, epsilon=epsilon, step_size=step_size, iterations=audit.iterations
    )


def _chosen(known: Mapping[str, ThreatConfig], audit: AuditConfig) -> dict[str, ThreatConfig]:
    for name in audit.threats:
        if name not in known:
            remedy = did_you_mean(name, known)
            raise UserError(f"--config.audit.threats={name}: no such threat; {remedy}")
    return {name: threat for name, threat in known.items() if name in (audit.threats or known)}


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
