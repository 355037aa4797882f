"""A defence as an estimator of ART, so that the attacks of another library run on it.

Gradients are those of its present network, as if an answer changed nothing (BPDA: the adaptation is
taken for the identity). Predictions go through the defence, and by default don't move it.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from rmc_tf.audit.subject import Answering, Network, Subject, subject
from rmc_tf.common import art_settings
from rmc_tf.common.errors import UserError
from rmc_tf.defences.base import Defence
from rmc_tf.threats.base import undisturbed

Refusal = Callable[[np.ndarray], np.ndarray]
"""From a refused query [H, W, C] to what is told of it, [classes]."""


def as_art(
    given: Network | Defence | Answering,
    *,
    image_shape: tuple[int, int, int] | None = None,
    network: Network | None = None,
    moves: bool = False,
    clean: tuple[np.ndarray, np.ndarray] | None = None,
) -> Any:
    """Returns an estimator of ART: a `TensorFlowV2Classifier`, or a black box without a network.

    What it predicts are the defence's probabilities, [n, classes] float32. ART knows no refusal.
    With `clean` it is told as the right class, so that no attack takes it for a success; without,
    it is a row of zeros, whose largest is class 0.

    Args:
      given: as for `rmc_tf.audit.of`.
      image_shape: [H, W, C], of a defence that shows no network.
      network: the present network of an object that has no `network`.
      moves: whether queries change the defence, as those of a user would. If not, each is answered
        in the state in which it was found.
      clean: images [m, H, W, C] and labels [m] that are attacked. The right class of a refused
        query is that of the nearest of them, in L∞.

    Raises:
      UserError: ART isn't installed, or it is nothing that can be attacked.
    """
    art_settings.settle()
    try:
        from art.estimators.classification import BlackBoxClassifierNeuralNetwork
    except ImportError:
        raise UserError("as_art: needs ART; pip install '.[audit]'") from None
    shown = getattr(given, "network", None) or network or given
    shape = image_shape or getattr(shown, "image_shape", None)
    if shape is None and hasattr(shown, "inputs"):
        shape = tuple(shown.inputs[0].shape[1:])
    if shape is None:
        raise UserError(f"{type(given).__name__}: shows no network; give its image_shape")
    blank = np.zeros((1, *shape), np.float32)
    chosen = subject(given, blank, np.zeros(1, np.int64), network=network, tell=lambda line: None)

    refused = _refusal(clean, chosen)

    def answer(images: np.ndarray) -> np.ndarray:
        return _answers(chosen, np.asarray(images, np.float32), moves, refused)

    if chosen.network is None:
        return BlackBoxClassifierNeuralNetwork(
            answer, shape, chosen.num_classes, channels_first=False, clip_values=(0.0, 1.0)
        )
    return _white_box(chosen, answer)


def _refusal(clean: tuple[np.ndarray, np.ndarray] | None, chosen: Subject) -> Refusal:
    """Returns what a refused query [H, W, C] is told as, [classes] float32; see `as_art`."""
    none = np.zeros(chosen.num_classes, np.float32)
    if clean is None:
        return lambda image: none
    images, labels = np.asarray(clean[0], np.float32), np.asarray(clean[1])
    shape = (len(labels), *chosen.image_shape)
    if not len(labels) or labels.ndim != 1 or images.shape != shape:
        raise UserError(
            f"clean: images {list(images.shape)} and labels {list(labels.shape)}; give those that "
            f"are attacked, images [m, {', '.join(map(str, chosen.image_shape))}] and labels [m]"
        )
    each = np.eye(chosen.num_classes, dtype=np.float32)[labels]

    def right(image: np.ndarray) -> np.ndarray:
        return np.asarray(each[np.abs(images - image).max(axis=(1, 2, 3)).argmin()])

    return right


def _answers(chosen: Subject, images: np.ndarray, moves: bool, refused: Refusal) -> np.ndarray:
    """Returns what a defence answers to images [n, H, W, C], [n, classes] float32."""
    found = np.empty((len(images), chosen.num_classes), np.float32)
    defence = chosen.defence

    def ask(number: int) -> None:
        answer = defence.predict(np.clip(images[number], 0, 1))
        found[number] = refused(images[number]) if answer.refused else answer.probabilities

    if moves:
        for number in range(len(images)):
            ask(number)
        return found
    with undisturbed(defence) as ready:
        for number in range(len(images)):
            defence.restore(ready)
            ask(number)
    return found


def _white_box(chosen: Subject, answer: Any) -> Any:
    from art.estimators.classification import TensorFlowV2Classifier

    class DefenceEstimator(TensorFlowV2Classifier):
        """ART's classifier of the defence's present network, which answers as the defence does."""

        def predict(
            self, x: np.ndarray, batch_size: int = 128, training_mode: bool = False, **kwargs: Any
        ) -> np.ndarray:
            """Returns the defence's probabilities, [n, classes]."""
            del batch_size, training_mode, kwargs
            prepared, _ = self._apply_preprocessing(x, y=None, fit=False)
            return np.asarray(self._apply_postprocessing(preds=answer(prepared), fit=False))

        def loss_gradient(self, *given: Any, **named: Any) -> Any:
            """Returns the gradient of the loss in the weights that the next answer begins with."""
            with undisturbed(chosen.defence):
                return super().loss_gradient(*given, **named)

        def class_gradient(self, *given: Any, **named: Any) -> Any:
            """Returns the gradient of logits in the weights that the next answer begins with."""
            with undisturbed(chosen.defence):
                return super().class_gradient(*given, **named)

    assert chosen.network is not None
    return DefenceEstimator(
        model=chosen.network.model,
        nb_classes=chosen.num_classes,
        input_shape=chosen.image_shape,
        loss_object=tf.keras.losses.CategoricalCrossentropy(from_logits=True, reduction="sum"),
        clip_values=(0.0, 1.0),
    )
