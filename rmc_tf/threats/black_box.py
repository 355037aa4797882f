"""Black boxes: attackers who ask the defence and see its answers, and nothing else.

What gradients can't show, since a defence masks them, a search without gradients
may (Croce et al. 2022 ask for one). Each question is answered in the same state,
as if it came next, and each is counted: a second time the same image costs
nothing, and more questions than were agreed are not answered.

Square and HopSkipJump are ART's, which draws from NumPy's global generator: that
is seeded here, and put back.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from rmc_tf.common import art_settings
from rmc_tf.common.errors import UserError
from rmc_tf.config import ThreatConfig
from rmc_tf.config.section import require
from rmc_tf.defences.base import Defence, Prediction
from rmc_tf.networks.classifier import Classifier
from rmc_tf.threats.base import Knowledge, undisturbed
from rmc_tf.threats.view import View

_CIRCLE = 1_000
"""After so many questions in a row that were asked before, the search is ended. ART's HopSkipJump
halves a step until an answer changes; where rounding has put it on y's side that has no end."""


class BudgetSpent(Exception):  # noqa: N818 - no error: how a search ends that has no end of its own
    """No question is left."""


class Answers:
    """What a defence answers in one state, to a limited number of questions.

    Attributes:
      known: each image that was asked, [H, W, C] float32, with its answer, by the image's bytes; in
        the order of the questions.
    """

    def __init__(self, answer: Callable[[np.ndarray], Prediction], queries: int) -> None:
        self._answer = answer
        self._queries = queries
        self._repeats = 0
        self.known: dict[bytes, tuple[np.ndarray, Prediction]] = {}

    def ask(self, image: np.ndarray) -> Prediction:
        """Returns the answer to an image, [H, W, C] in [0, 1].

        Raises:
          BudgetSpent: it would be one question too many, or the search turns in a circle.
        """
        x = np.array(image, np.float32)
        key = x.tobytes()
        if key not in self.known:
            if len(self.known) >= self._queries:
                raise BudgetSpent
            self.known[key] = x, self._answer(x)
            self._repeats = 0
        self._repeats += 1
        if self._repeats > _CIRCLE:
            raise BudgetSpent
        return self.known[key][1]

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Returns the answers to [B, H, W, C] as probabilities, [B, classes]."""
        return np.array([self.ask(image).probabilities for image in images])

    def labels(self, images: np.ndarray) -> np.ndarray:
        """Returns the answers to [B, H, W, C] as one-hot labels alone, [B, classes] float32."""
        answers = [self.ask(image) for image in images]
        classes = np.eye(len(answers[0].probabilities), dtype=np.float32)
        return np.asarray(classes[[answer.label for answer in answers]])


class BlackBox:
    """An attacker who knows A(x), the shape of images and the classes, and may ask so often."""

    def __init__(self, config: ThreatConfig, knowledge: Knowledge) -> None:
        self._queries = config.queries
        self._attack = knowledge.attack
        self._classifier = knowledge.classifier  # nothing but its shapes is used


@contextlib.contextmanager
def asking(defence: Defence, label: int, queries: int) -> Iterator[Answers]:
    """Lets a defence be asked in its present state; it is left as it was found.

    A refusal is as good as y, the label: no success; see `View`.
    """
    view = View(defence, label)
    with undisturbed(defence) as ready:

        def answer(image: np.ndarray) -> Prediction:
            defence.restore(ready)
            return view.predict(image)

        yield Answers(answer, queries)


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seeds NumPy's global generator, and puts it back."""
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed % 2**32)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(state)  # noqa: NPY002


def check_by_art(config: ThreatConfig, least: int, what_for: str) -> None:
    """Refuses, by a `UserError`, fewer queries than it takes to begin, and to go without ART."""
    rule = f"{config.threat} takes at least {least}, for {what_for}"
    require(config.queries >= least, "threats.*.queries", config.queries, rule)
    art_settings.settle()
    try:
        import art.attacks.evasion  # noqa: F401
    except ImportError:
        raise UserError(
            f"--config.threats.*.threat={config.threat}: needs ART; "
            "pip install adversarial-robustness-toolbox (extra: audit)"
        ) from None


def art_classifier(classifier: Classifier, answer: Callable[[np.ndarray], np.ndarray]) -> Any:
    """Returns what ART attacks: a function from images [B, H, W, C] to answers [B, classes]."""
    from art.estimators.classification import BlackBoxClassifierNeuralNetwork

    return BlackBoxClassifierNeuralNetwork(
        answer,
        classifier.image_shape,
        classifier.num_classes,
        channels_first=False,
        clip_values=(0.0, 1.0),
    )
