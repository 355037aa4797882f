"""A black box: Square Attack (Andriushchenko et al. 2020), by ART, on the answers alone.

What gradients can't show, since a defence masks them, a search without gradients
may (Croce et al. 2022 ask for one). Each query is answered in the same state, as
if it came next, and the attacker sees the probabilities and nothing else.

ART asks the same image several times and draws from NumPy's global generator:
answers are remembered, and that generator is left as it was.
"""

import contextlib
from collections.abc import Iterator

import numpy as np

from rmc_tf.config import ThreatConfig
from rmc_tf.defences.base import Defence
from rmc_tf.errors import UserError
from rmc_tf.threats.base import Knowledge, undisturbed


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
        if knowledge.attack.norm != "linf":
            raise UserError(
                f"--config.attacks.*.norm={knowledge.attack.norm}: {config.threat} has linf only; "
                "choose an attack model of that norm"
            )
        if config.queries < 3:
            raise UserError(
                f"--config.threats.*.queries={config.queries}: {config.threat} takes at least 3, "
                "for the image, stripes and a square"
            )
        try:
            from art.attacks.evasion import SquareAttack
            from art.estimators.classification import BlackBoxClassifierNeuralNetwork
        except ImportError:
            raise UserError(
                f"--config.threats.*.threat={config.threat}: needs ART; "
                "pip install adversarial-robustness-toolbox"
            ) from None
        self._attack, self._black_box = SquareAttack, BlackBoxClassifierNeuralNetwork
        self._classifier = knowledge.classifier
        self._epsilon = knowledge.attack.epsilon
        self._queries = config.queries

    def craft(self, defence: Defence, image: np.ndarray, label: int, seed: int) -> np.ndarray:
        """Returns x', or x if the defence errs on it already; see `Threat.craft`."""
        answers: dict[bytes, np.ndarray] = {}
        with undisturbed(defence) as ready, _seeded(seed):

            def answer(images: np.ndarray) -> np.ndarray:
                for x in images:
                    if x.tobytes() not in answers:
                        defence.restore(ready)
                        answers[x.tobytes()] = defence.predict(x).probabilities
                return np.array([answers[x.tobytes()] for x in images])

            black_box = self._black_box(
                answer,
                self._classifier.image_shape,
                self._classifier.num_classes,
                channels_first=False,
                clip_values=(0.0, 1.0),
            )
            steps = self._queries - 2  # besides the image itself, and stripes
            attack = self._attack(black_box, eps=self._epsilon, max_iter=steps, verbose=False)
            return np.asarray(attack.generate(image[None], np.array([label]))[0], np.float32)


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seeds NumPy's global generator, and puts it back."""
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed % 2**32)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002
