"""HopSkipJump (Chen et al. 2020), by ART: a black box that sees the label and nothing else.

It walks along the boundary of y towards x, so its distance falls with each query and
no ball is known to it. What is submitted is the nearest image that it saw the
defence err on; where that is outside of A(x), the point of A(x) nearest to it.

ART draws the image to begin with from a generator that can't be seeded, and
from as many trials as it likes: here it is handed one, and the trials count.
"""

import contextlib

import numpy as np
import tensorflow as tf

from rmc_tf.attacks.base import order, project
from rmc_tf.common.seeding import generator
from rmc_tf.config import AttackConfig, ThreatConfig
from rmc_tf.data.images import distance
from rmc_tf.defences.base import Defence
from rmc_tf.threats.black_box import (
    Answers,
    BlackBox,
    BudgetSpent,
    art_classifier,
    asking,
    check_by_art,
    seeded,
)

_TRIALS = 4
"""The most that the search for a beginning may take: one query in so many."""


def check(config: ThreatConfig, attack: AttackConfig) -> None:
    """Refuses too few queries, and to go without ART; any ball will do."""
    del attack
    check_by_art(config, 8, "the image, a beginning and a step")


class HopSkipJump(BlackBox):
    """Steps along the decision boundary, by the labels of random points around it.

    The paper takes 1,000 to 25,000 queries; few lead not far.
    """

    def craft(self, defence: Defence, image: np.ndarray, label: int, seed: int) -> np.ndarray:
        """Returns x', or x if the defence errs on it already; see `Threat.craft`."""
        with asking(defence, label, self._queries) as answers, seeded(seed):
            if answers.ask(image).label != label:
                return image
            far = self._beginning(answers, label, seed)
            if answers.ask(far).label != label:
                self._walk(answers, image, label, far)
        return self._best(answers, image, label)

    def _beginning(self, answers: Answers, label: int, seed: int) -> np.ndarray:
        """Returns an image of noise that isn't answered by y, or the last of those tried."""
        random = generator(seed, "beginning")
        for _ in range(max(1, self._queries // _TRIALS)):
            far = random.random(self._classifier.image_shape, np.float32)
            if answers.ask(far).label != label:
                break
        return far

    def _walk(self, answers: Answers, image: np.ndarray, label: int, far: np.ndarray) -> None:
        """Asks until nothing is left to ask."""
        from art.attacks import evasion

        around = max(4, self._queries // 10)  # ours: some steps of the walk, and not one alone
        attack = evasion.HopSkipJump(
            art_classifier(self._classifier, answers.labels),
            norm=order(self._attack.norm),
            max_iter=self._queries,
            init_eval=around,
            verbose=False,
        )
        with contextlib.suppress(BudgetSpent):
            attack.generate(image[None], np.array([label]), x_adv_init=far[None].copy())

    def _best(self, answers: Answers, image: np.ndarray, label: int) -> np.ndarray:
        """Returns the nearest image that was answered wrongly, or else the last, in A(x)."""
        known = list(answers.known.values())
        wrong = [x for x, answer in known if answer.label != label]
        images = np.array(wrong or [known[-1][0]])
        distances = distance(images, np.broadcast_to(image, images.shape), self._attack.norm)
        nearest = images[distances.argmin()]
        inside = project(tf.constant(nearest[None]), tf.constant(image[None]), self._attack)
        return np.asarray(inside.numpy()[0])
