"""What an attack takes for one point at most: gradient passes, and questions to the defence."""

from rmc_tf import attacks
from rmc_tf.config import AttackConfig, ThreatConfig
from rmc_tf.threats.base import along


def steps(model: AttackConfig) -> int:
    """Returns how many gradient passes and forward passes an attack model takes at most."""
    turns = attacks.find(model).turns(model, model.classes_tried + 1)
    if model.attack == "autoattack":
        return turns * (model.patience + 1) + model.restarts * model.queries
    once = {
        "fgsm": 1,
        "square": model.queries,
        "fab": model.classes_tried * model.iterations,
        "apgd": model.iterations + 1,
        "apgd_t": model.iterations + 1,
    }
    return turns * once.get(model.attack, model.iterations)


def passes(threat: ThreatConfig, model: AttackConfig, rounds: int) -> int:
    """Returns how many gradient passes a threat takes at most; none where it sees answers alone.

    Args:
      threat: its settings.
      model: the attack model that it takes.
      rounds: how often it simulates, where it does.
    """
    models = along(threat, model)
    starts = threat.restarts * sum(map(steps, models))
    if threat.threat in ("transfer", "pgd_skip"):
        return starts
    nearest = model.iterations + 1  # once more, to choose the best
    if threat.threat == "pgd_nn":
        return nearest * (2 if threat.network_share else 1)
    samples, found = threat.most_samples, starts  # the first round's is PGD-Skip
    for number in range(1, rounds):
        members = samples if threat.threat == "fpa" else 1 + number * samples
        lowest = threat.threat == "gmsa_min"
        found += sum(_on_members(threat, each, members, lowest) for each in models)
        if threat.threat == "joint":
            climbed = 1 + (2 * number + 1) * samples + 2 * _unrolled(threat) + 2
            found += len(models) * nearest * climbed + 2 * _unrolled(threat)
    return found + nearest * (threat.threat == "joint")


def questions(threat: ThreatConfig, model: AttackConfig, rounds: int) -> int:
    """Returns how often a threat asks the defence at most; see `passes`."""
    each = len(along(threat, model))
    if threat.threat in ("transfer", "pgd_nn"):
        return 0
    if threat.threat == "pgd_skip":
        return each if threat.asked_along else 0
    asked = rounds * each
    if threat.threat == "joint":  # besides, the neighbours' x', and then those that it climbs to
        asked += 1 + (rounds - 1) * each
    return asked * threat.most_samples


def _on_members(threat: ThreatConfig, model: AttackConfig, members: int, lowest: bool) -> int:
    """Returns the gradients of an ascent on several sets of weights, from all its starts.

    On the lowest loss it takes as many times the steps as there are sets. At the end of each ascent
    the gradient is taken once more, and where there are several starts, to choose, yet again.
    """
    more = 1 + (threat.restarts * model.restarts > 1)
    each = steps(model) * (members if lowest else 1) + more * model.restarts
    return threat.restarts * each * members


def _unrolled(threat: ThreatConfig) -> int:
    """Returns the gradients, one a row, of an adaptation that is written out."""
    return threat.unrolled_steps * threat.unrolled_rows
