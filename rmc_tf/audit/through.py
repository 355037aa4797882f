"""Gradients where a defence has none: through what rounds (BPDA), and over what is drawn (EOT).

BPDA (Athalye et al. 2018): what isn't differentiable is computed on the way there, and taken for
the identity on the way back; of layers, by `rmc_tf.networks.straight_through`. EOT: the loss is
that of the mean logits over several draws. A network that is all but sure is climbed on smaller
logits, by which its loss isn't flat. To an attack of `rmc_tf.attacks` all of these are a network
like any other.
"""

import itertools

import numpy as np
import tensorflow as tf

from rmc_tf.audit.subject import Seen
from rmc_tf.common.seeding import derive_seed
from rmc_tf.networks.classifier import Classifier


def flatness(classifier: Classifier, images: np.ndarray) -> float:
    """Returns by what to divide a network's logits, so that its cross entropy isn't flat; 1: none.

    Ours: where the median margin is above 15, p(y) is all but 1 in float32; at 5 it isn't.
    """
    best = np.sort(classifier.forward(images)[1], axis=1)
    margin = float(np.median(best[:, -1] - best[:, -2]))
    return margin / 5 if margin > 15 else 1.0


class Through:
    """A network as `rmc_tf.attacks` wants one, whose logits are means over draws.

    Attributes are those of `Classifier` that an attack reads.
    """

    def __init__(
        self,
        classifier: Classifier,
        samples: int = 1,
        seen: Seen | None = None,
        flat: float = 1.0,
    ) -> None:
        self._flat, self._seed = flat, 0
        self._classifier, self._samples, self._seen = classifier, samples, seen
        self._draws = itertools.count()
        self.image_shape, self.num_classes = classifier.image_shape, classifier.num_classes
        self.jit_compile = classifier.jit_compile if seen is None else None
        self.source = classifier.source

    def draw_by(self, seed: int) -> None:
        """Begins to draw anew, by a seed: by the same one, the same."""
        self._seed, self._draws = seed, itertools.count()

    def logits(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns the mean logits [B, classes] float32, by `flat`; differentiable."""
        drawn = [
            self._classifier.logits(self._shown(images), training) for _ in range(self._samples)
        ]
        return tf.add_n(drawn) / (self._flat * len(drawn))

    def _shown(self, images: tf.Tensor) -> tf.Tensor:
        seen = self._seen
        if seen is None:
            return images

        def draw(x: np.ndarray) -> np.ndarray:
            number = next(self._draws)
            return seen(x, derive_seed(self._seed, "seen", number)).astype(np.float32)

        shown = tf.numpy_function(draw, [images], tf.float32)
        shown.set_shape(images.shape)
        return images + tf.stop_gradient(shown - images)
