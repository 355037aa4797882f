"""One subject after another through all stages and checks: the engine of both audits."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from rmc_tf.audit import behaviour, checks, measured, particular
from rmc_tf.audit.ball import Attacked, Ball
from rmc_tf.audit.crafting import Crafting
from rmc_tf.audit.kept import Kept
from rmc_tf.audit.stages import Stages
from rmc_tf.audit.standing import Broken, Standing
from rmc_tf.audit.subject import Subject
from rmc_tf.audit.suite import FEW, MANY, NOT_ITS_OWN, TRANSFERS
from rmc_tf.common.intervals import wilson
from rmc_tf.common.provenance import revision
from rmc_tf.common.seeding import derive_seed
from rmc_tf.networks.classifier import Classifier
from rmc_tf.networks.slopes import slopes
from rmc_tf.networks.straight_through import bridged, stopping
from rmc_tf.threats.base import undisturbed


class Auditing:
    """What is the same for all subjects of an audit; it gathers what is found."""

    def __init__(
        self,
        ball: Ball,
        images: np.ndarray,
        labels: np.ndarray,
        margin: float,
        say: Callable[[str], object],
    ) -> None:
        """Begins with clean points, [M, H, W, C] float32 in [0, 1], and their labels, [M]."""
        self._ball, self._images, self._labels = ball, images, labels
        self._margin, self._say = margin, say
        self.broken: list[dict[int, Broken]] = []
        """For each subject what broke which point."""
        self.notes: list[str] = []
        self._subjects: list[dict[str, Any]] = []
        self._described: list[dict[str, Any]] = []
        self._left_out: list[str] = []

    def add(
        self,
        subject: Subject,
        network: str,
        defence: str,
        *,
        adapts: bool,
        kept: Kept | None = None,
    ) -> None:
        """Audits one subject.

        Args:
          subject: in the state in which each point meets it, and which it is left in.
          network: its name; "target" if there are no others.
          defence: its name; "none" for a bare network.
          adapts: whether an answer changes its network.
          kept: what an earlier run has made.
        """
        kept = kept or Kept()
        ball, budget = self._ball, self._ball.budget
        few = self._images[: budget.points]
        drawn, seconds = behaviour.drawn(subject, few, ball.seed, kept)
        random = drawn > 0
        seeds = [derive_seed(ball.seed, "retest", i) for i in range(budget.retests * random)]
        through, layers, signs = self._through(subject)
        crafting = Crafting(
            subject,
            through,
            self._images,
            self._labels,
            ball,
            kept,
            random=random,
            shaking=random and behaviour.shaking(subject, through, few),
        )
        stages = Stages(subject, crafting, ball, random=random, adapts=adapts, say=self._say)
        self._estimate(subject, stages.most(), seconds, random)
        standing = Standing(subject, self._images, self._labels, seeds, kept)
        attacked = stages.run(standing)
        signs += self._compared(attacked, standing)
        fell = sum("PGD" in each.by for each in standing.broken.values())
        if through is not None:
            signs.append(checks.stopped(layers, fell, len(self._images)))
        signs.append(checks.drawn(drawn, len(few)))
        known = {each["title"] for each in self._described}
        self._described += [each for each in attacked.described if each["title"] not in known]
        self._left_out += attacked.left_out
        self.broken.append(standing.broken)
        worst, clean = standing.worst_case, float(attacked.right["clean"].mean())
        points = len(self._images)
        self._subjects.append(
            {
                "network": network,
                "defence": defence,
                "title": subject.title,
                "clean": clean,
                "clean_interval": list(wilson(clean, points)),
                "worst_case": worst,
                "interval": list(wilson(worst, points)),
                "expected": float(standing.share.mean()),
                "refused": float((standing.refused & standing.always).mean()),
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
                "seconds_a_prediction": seconds,
                "seconds": sum(stage["seconds"] for stage in standing.stages),
            }
        )

    def found(self, title: str, budget: str, classes: int, **more: Any) -> dict[str, Any]:
        """Returns all numbers of the audit as JSON; see `schema.json`.

        Args:
          title: of the page.
          budget: the name of its budget.
          classes: how many.
          more: what the page says besides.
        """
        ball = self._ball
        return {
            "title": title,
            "points": len(self._images),
            "classes": classes,
            "epsilon": ball.epsilon,
            "norm": ball.norm,
            "budget": {"name": budget, **vars(ball.budget)},
            "seed": ball.seed,
            "margin": self._margin,
            "retests": ball.budget.retests,
            "threats": self._described,
            "left_out": list(dict.fromkeys(self._left_out)),
            "subjects": self._subjects,
            "notes": self.notes,
            "revision": revision(),
            **more,
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
            draws += f"; {self._ball.budget.surrogates} of its networks are trained besides"
        self._say(
            f"audit of {subject.title}, {len(self._images)} points: at most {predictions:,} "
            f"predictions of {1e3 * seconds:.2g} ms and {passes:,} gradient passes of "
            f"{1e3 * each:.2g} ms, {total:,.0f} s in all; less as points fall{draws}"
        )

    def _compared(self, attacked: Attacked, standing: Standing) -> list[checks.Check]:
        clean = attacked.right["clean"]
        rights = {name: own for name, own in attacked.right.items() if name != "clean"}
        after = {"white": attacked.before}
        if attacked.after is not None:
            after["black"] = attacked.after
        signs = measured.compared(
            clean,
            rights,
            black=["noise", "black", *NOT_ITS_OWN],
            transfers=[name for name in TRANSFERS if name in rights],
            few=FEW,
            many=MANY,
            by_radius=attacked.by_radius,
            margin=self._margin,
            searched=after,
        )
        refused = standing.answers(standing.images)[0][:, 0] < 0
        broken = ~standing.always & clean
        signs.append(checks.evaded(refused, standing.refused, broken, self._margin))
        return [*signs, *particular.compared(attacked, self._margin)]


def _as_json(point: int, each: Broken) -> dict[str, Any]:
    return {"point": point, "answer": each.answer, "by": each.by, "at": each.at}
