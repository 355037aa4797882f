"""An audit of anyone's defence: `rmc_tf.audit.of`.

The engine is that of `--mode=audit`: `auditing`, with the attacks in `suite` and `stages`, and what
fell in `standing`. Where a defence has a static network of its own, that is audited alike, and
beside it.
"""

import dataclasses
import json
from collections.abc import Callable, Sequence

import numpy as np

from rmc_tf import attacks as attacks_by_name
from rmc_tf.audit import behaviour, budgets
from rmc_tf.audit.auditing import Auditing
from rmc_tf.audit.ball import Ball
from rmc_tf.audit.report import Report
from rmc_tf.audit.subject import Answering, Network, Subject
from rmc_tf.audit.subject import subject as subject_of
from rmc_tf.common.errors import UserError
from rmc_tf.config import AttackConfig, Norm
from rmc_tf.defences.base import Defence, still
from rmc_tf.defences.undefended import Undefended
from rmc_tf.threats.base import undisturbed


def of(
    given: Network | Defence | Answering,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    epsilon: float,
    norm: Norm = "linf",
    budget: str = "quick",
    seed: int = 0,
    network: Network | None = None,
    static: Network | None = None,
    title: str = "",
    attacks: Sequence[AttackConfig] = (),
    larger: Sequence[float] = (2.0,),
    margin: float = 0.05,
    say: Callable[[str], object] = print,
) -> Report:
    """Returns what a network or a defence withstands, and the signs that the truth is lower.

    Each point is attacked in the state in which the defence is given, as if it came next; the
    defence is left in it.

    Args:
      given: a Keras model, a `Classifier`, a defence of ours, or any object with `predict`,
        `snapshot` and `restore`; see `rmc_tf/audit/subject.py` for what else it may show.
      images: clean points, [M, H, W, C] float32 in [0, 1].
      labels: theirs, [M] in 0..classes-1.
      epsilon: radius of the ball, in units of [0, 1].
      norm: "linf" or "l2".
      budget: "quick", "standard" or "exhaustive"; see `rmc_tf/audit/budgets.py`.
      seed: of all that is drawn.
      network: the present network of an object that has no `network`.
      static: f(·; θ*), for transfer, of a defence that has no `static`.
      title: what the page calls it; "": the name of its class.
      attacks: attack models besides, of `rmc_tf.attacks`; each in its own ball, which must be in
        this one.
      larger: by which factors ε is enlarged for the check that a larger ball is worse.
      margin: by how much an accuracy must be on the wrong side of another to be suspicious.
      say: is told how it goes, in lines.

    Raises:
      UserError: it is nothing that can be audited, the points don't fit it, or a setting is wrong.
    """
    chosen = subject_of(
        given, images, labels, network=network, static=static, title=title, tell=say
    )
    if norm not in ("linf", "l2"):
        raise UserError(f"norm={norm}: an audit searches a ball of linf or l2; choose one")
    for model in attacks:
        bounded = "epsilon" in attacks_by_name.find(model).settings
        if model.norm != norm or model.epsilon > epsilon or not bounded:
            raise UserError(f"attacks: {model.attack} searches another ball than the audit's")
    ball = Ball(epsilon, norm, budgets.find(budget), tuple(larger), tuple(attacks), seed)
    auditing = Auditing(ball, images, np.asarray(labels), margin, say)
    chosen.defence.prime()
    adapts = behaviour.adapts(chosen, images[0])
    before = chosen.static
    if before is None and adapts and chosen.network is not None:
        with undisturbed(chosen.defence):
            before = chosen.network.clone()
    if before is not None:
        bare = Subject("None", Undefended(before), before, None, None, *_shapes(chosen))
        auditing.add(bare, "target", "none", adapts=False)
        chosen = dataclasses.replace(chosen, static=before)
    name = "none" if isinstance(chosen.defence, Undefended) and before is None else "given"
    chosen = dataclasses.replace(chosen, defence=still(chosen.defence))
    auditing.add(chosen, "target", name, adapts=adapts)
    found = auditing.found(f"Audit of {chosen.title}", budget, chosen.num_classes)
    as_stored = json.loads(json.dumps(found))  # the same as who reads audit.json has
    report = Report(as_stored, np.asarray(images), auditing.broken)
    say(report.badge)
    return report


def _shapes(subject: Subject) -> tuple[tuple[int, int, int], int]:
    return subject.image_shape, subject.num_classes
