"""Square Attack (Andriushchenko et al. 2020), by ART: a black box that sees the probabilities."""

import numpy as np

from rmc_tf.common.errors import UserError
from rmc_tf.config import AttackConfig, ThreatConfig
from rmc_tf.defences.base import Defence
from rmc_tf.threats.base import Knowledge
from rmc_tf.threats.black_box import art_classifier, art_evasion, asking, check_queries, seeded


class Square:
    """Random squares of ±2ε that are kept where they lower y's margin."""

    def __init__(self, config: ThreatConfig, knowledge: Knowledge) -> None:
        """Prepares the attack.

        Args:
          config: how many queries.
          knowledge: the shape of images, the number of classes, and the ball.

        Raises:
          UserError: the ball isn't L∞, or there are too few queries, or ART isn't installed.
        """
        self.check(config, knowledge.attack)
        self._art = art_evasion(config)
        self._classifier = knowledge.classifier
        self._epsilon = knowledge.attack.epsilon
        self._queries = config.queries

    @staticmethod
    def check(config: ThreatConfig, attack: AttackConfig) -> None:
        """Refuses what it can't do.

        Raises:
          UserError: the ball isn't L∞, or there are too few queries, or ART isn't installed.
        """
        if attack.norm != "linf":
            raise UserError(
                f"--config.attacks.*.norm={attack.norm}: {config.threat} has linf only; "
                "choose an attack model of that norm, or hop_skip_jump"
            )
        check_queries(config, 3, "the image, stripes and a square")
        art_evasion(config)

    def craft(self, defence: Defence, image: np.ndarray, label: int, seed: int) -> np.ndarray:
        """Returns x', or x if the defence errs on it already; see `Threat.craft`."""
        with asking(defence, self._queries) as answers, seeded(seed):
            black_box = art_classifier(self._classifier, answers.probabilities)
            steps = self._queries - 2  # besides the image itself, and stripes
            attack = self._art.SquareAttack(
                black_box, eps=self._epsilon, max_iter=steps, verbose=False
            )
            return np.asarray(attack.generate(image[None], np.array([label]))[0], np.float32)
