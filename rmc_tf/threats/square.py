"""Square Attack (Andriushchenko et al. 2020), by ART: a black box that sees the probabilities."""

import numpy as np

from rmc_tf.config import AttackConfig, ThreatConfig
from rmc_tf.config.section import require
from rmc_tf.defences.base import Defence
from rmc_tf.threats.black_box import BlackBox, art_classifier, asking, check_by_art, seeded


def check(config: ThreatConfig, attack: AttackConfig) -> None:
    """Refuses a ball that isn't L∞, too few queries, and to go without ART."""
    rule = f"{config.threat} has linf only; choose an attack model of that norm, or hop_skip_jump"
    require(attack.norm == "linf", "attacks.*.norm", attack.norm, rule)
    check_by_art(config, 3, "the image, stripes and a square")


class Square(BlackBox):
    """Random squares of ±2ε that are kept where they lower y's margin."""

    def craft(self, defence: Defence, image: np.ndarray, label: int, seed: int) -> np.ndarray:
        """Returns x', or x if the defence errs on it already; see `Threat.craft`."""
        from art.attacks.evasion import SquareAttack

        with asking(defence, label, self._queries) as answers, seeded(seed):
            attack = SquareAttack(
                art_classifier(self._classifier, answers.probabilities),
                eps=self._attack.epsilon,
                max_iter=self._queries - 2,  # besides the image itself, and stripes
                verbose=False,
            )
            return np.asarray(attack.generate(image[None], np.array([label]))[0], np.float32)
