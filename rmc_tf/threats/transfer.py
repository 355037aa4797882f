"""Transfer: an attack on θ*, the train-time white-box setting (section 4.1).

It neither looks at the defence nor asks it. What beats the static network, and
is stopped by the defence, says nothing yet of an attacker who knows of it.
"""

import numpy as np

from rmc_tf import attacks
from rmc_tf.config import ThreatConfig
from rmc_tf.defences.base import Defence
from rmc_tf.threats.base import BatchThreat, Knowledge


class Transfer(BatchThreat):
    """Any attack model of `rmc_tf.attacks` against the static network."""

    def __init__(self, config: ThreatConfig, knowledge: Knowledge) -> None:
        """Prepares the attack; see `attacks.build` for what it refuses."""
        del config
        self._craft = attacks.build(knowledge.attack, knowledge.classifier)

    def craft_batch(
        self, defence: Defence, images: np.ndarray, labels: np.ndarray, seed: int
    ) -> np.ndarray:
        """Returns an x' for each image, whatever the defence."""
        del defence
        return self._craft(images, labels, seed)
