"""An audit of anyone's defence: `rmc_tf.audit.of`.

The attacks are in `stages`, what fell is in `standing`, the checks are those of `--mode=audit`.
Where a defence has a static network of its own, that is audited alike, and beside it.
"""

import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rmc_tf.audit import behaviour, budgets, checks, measured, particular
from rmc_tf.audit.ball import Attacked, Ball
from rmc_tf.audit.report import Report
from rmc_tf.audit.stages import Stages
from rmc_tf.audit.standing import Standing
from rmc_tf.audit.subject import Answering, Network, Subject
from rmc_tf.audit.subject import subject as subject_of
from rmc_tf.audit.through import bridged, stopping
from rmc_tf.audit.titles import FEW, MANY, TRANSFERS
from rmc_tf.common.errors import UserError
from rmc_tf.common.intervals import wilson
from rmc_tf.common.provenance import revision
from rmc_tf.common.seeding import derive_seed
from rmc_tf.config import AttackConfig, Norm
from rmc_tf.defences.base import Defence
from rmc_tf.defences.undefended import Undefended
from rmc_tf.networks.classifier import Classifier
from rmc_tf.networks.slopes import slopes
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
        if model.norm != norm or model.epsilon > epsilon:
            raise UserError(f"attacks: {model.attack} searches another ball than the audit's")
    ball = Ball(epsilon, norm, budgets.find(budget), tuple(larger), tuple(attacks), seed)
    auditing = _Auditing(ball, images, np.asarray(labels), margin, say)
    chosen.defence.prime()
    adapts = behaviour.adapts(chosen, images[0])
    subjects = []
    before = chosen.static
    if before is None and adapts and chosen.network is not None:
        with undisturbed(chosen.defence):
            before = chosen.network.clone()
    if before is not None:
        bare = Subject("None", Undefended(before), before, None, None, *_shapes(chosen))
        subjects.append(auditing.of(bare, "none", None, adapts=False))
    name = "none" if isinstance(chosen.defence, Undefended) and before is None else "given"
    subjects.append(auditing.of(chosen, name, before, adapts=adapts))
    found = {
        "title": f"Audit of {chosen.title}",
        "points": len(images),
        "classes": chosen.num_classes,
        "epsilon": epsilon,
        "norm": norm,
        "budget": {"name": budget, **dataclasses.asdict(ball.budget)},
        "seed": seed,
        "margin": margin,
        "retests": ball.budget.retests,
        "threats": auditing.described,
        "left_out": list(dict.fromkeys(auditing.left_out)),
        "subjects": subjects,
        "notes": auditing.notes,
        "revision": revision(),
    }
    as_stored = json.loads(json.dumps(found))  # the same as who reads audit.json has
    report = Report(as_stored, np.asarray(images), auditing.broken)
    say(report.badge)
    return report


class _Auditing:
    """What is the same for a defence and for its static network."""

    def __init__(
        self,
        ball: Ball,
        images: np.ndarray,
        labels: np.ndarray,
        margin: float,
        say: Callable[[str], object],
    ) -> None:
        self._ball, self._images, self._labels = ball, images, labels
        self._margin, self._say = margin, say
        self.described: list[dict[str, Any]] = []
        self.left_out: list[str] = []
        self.notes: list[str] = []
        self.broken: list[dict[int, Any]] = []

    def of(
        self, subject: Subject, defence: str, static: Classifier | None, *, adapts: bool
    ) -> dict[str, Any]:
        """Returns what was found of one subject, as JSON."""
        ball, budget = self._ball, self._ball.budget
        few = self._images[: budget.points]
        drawn, seconds = behaviour.drawn(subject, few, budget.samples, ball.seed)
        random = drawn > 0
        seeds = [derive_seed(ball.seed, "retest", i) for i in range(budget.retests * random)]
        through, layers, signs = self._through(subject)
        stages = Stages(
            subject,
            through,
            static,
            ball,
            random=random,
            shaking=random and behaviour.shaking(subject, through, few),
            adapts=adapts,
            say=self._say,
        )
        self._estimate(subject, stages.passes(), seconds, random)
        standing = Standing(subject, self._images, self._labels, seeds)
        begun = time.perf_counter()
        attacked = stages.run(standing)
        took = time.perf_counter() - begun
        signs += self._compared(subject, attacked, standing)
        fell = sum("PGD" in each.by for each in standing.broken.values())
        if through is not None:
            signs.append(checks.stopped(layers, fell, len(self._images)))
        signs.append(checks.drawn(drawn, len(few)))
        known = {each["title"] for each in self.described}
        self.described += [each for each in attacked.described if each["title"] not in known]
        self.left_out += attacked.left_out
        self.broken.append(standing.broken)
        worst = standing.worst_case
        clean = float(attacked.right["clean"].mean())
        points = len(self._images)
        return {
            "network": "target",
            "defence": defence,
            "title": subject.title,
            "clean": clean,
            "clean_interval": list(wilson(clean, points)),
            "worst_case": worst,
            "interval": list(wilson(worst, points)),
            "expected": float(standing.share.mean()),
            "random": random,
            "adapts": adapts,
            "right": standing.always.tolist(),
            "stages": standing.stages,
            "curve": standing.curve(),
            "broken": [
                {"label": int(self._labels[point]), **_as_json(point, each)}
                for point, each in sorted(standing.broken.items())
            ],
            "checks": [vars(sign) for sign in signs],
            "predictions": standing.predictions,
            "seconds": took,
        }

    def _through(self, subject: Subject) -> tuple[Classifier | None, list[str], list[checks.Check]]:
        """Returns the network past what stops gradients, which layers that are, and the checks."""
        if subject.network is None:
            self.notes.append(f"{subject.title} shows no network: black boxes and transfer alone")
            return None, [], []
        few = self._images[:8]
        with undisturbed(subject.defence) as ready:
            signs = measured.of_network(subject.defence, ready, self._images, self._labels)
            subject.defence.restore(ready)
            layers = stopping(subject.network, few)
            through = bridged(subject.network, layers)
        if layers:
            self._say(f"  no gradient goes through {', '.join(layers)}: BPDA")
        return through, layers, signs

    def _estimate(
        self, subject: Subject, most: tuple[int, int], seconds: float, random: bool
    ) -> None:
        """Says what it will take at most, before it begins."""
        passes, predictions = (len(self._images) * each for each in most)
        each = 0.0
        network = next((n for n in (subject.network, *subject.besides.members) if n), None)
        if network is not None:
            few = self._images[:32], self._labels[:32]
            slopes(network, *few)
            begun = time.perf_counter()
            slopes(network, *few)
            each = (time.perf_counter() - begun) / len(few[0])
        total = passes * each + predictions * seconds
        draws = f", answers are drawn: EOT over {self._ball.budget.samples}" if random else ""
        if subject.besides.surrogate is not None:
            draws += f"; networks trained besides: {self._ball.budget.surrogates}"
        self._say(
            f"audit of {subject.title}, {len(self._images)} points: at most {predictions:,} "
            f"predictions of {1e3 * seconds:.2g} ms and {passes:,} gradient passes of "
            f"{1e3 * each:.2g} ms, {total:,.0f} s in all; less as points fall{draws}"
        )

    def _compared(
        self, subject: Subject, attacked: Attacked, standing: Standing
    ) -> list[checks.Check]:
        clean = attacked.right["clean"]
        rights = {name: own for name, own in attacked.right.items() if name != "clean"}
        after = {"white": attacked.before, "black": standing.always}
        signs = measured.compared(
            clean,
            rights,
            black=["noise", "black"],
            transfers=[name for name in TRANSFERS if name in rights],
            few=FEW,
            many=MANY,
            by_radius=attacked.by_radius,
            margin=self._margin,
            searched=after,
        )
        refused = standing.answers(standing.images)[:, 0] < 0
        broken = ~standing.always & clean
        signs.append(checks.evaded(refused, standing.refused, broken, self._margin))
        return [*signs, *particular.compared(attacked, self._margin)]


def _as_json(point: int, each: Any) -> dict[str, Any]:
    return {"point": point, "answer": each.answer, "by": each.by, "at": each.at}


def _shapes(subject: Subject) -> tuple[tuple[int, int, int], int]:
    return subject.image_shape, subject.num_classes
