"""An adaptation that only hides: what the defence shows of itself leads nowhere."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rmc_tf.common.errors import UserError
from rmc_tf.common.seeding import generator
from rmc_tf.networks import graph, loading


class Hiding:
    """Adapts the last kernel to each query: by a lot, and so that the answer stays what it was.

    W' = W + R (I − φφᵀ/φᵀφ), with φ the features of the query and R drawn anew. Then W'φ = Wφ: the
    answer is the static network's. Who follows the gradients of W' follows those of R.

    Attributes:
      static: the network before any query.
      network: the network as it is now.
    """

    def __init__(self, model: keras.Model, size: float = 30.0, seed: int = 0) -> None:
        """Takes a network of logits that ends in a Dense layer.

        Args:
          model: stays as it is.
          size: of R, in standard deviations of W.
          seed: of R.

        Raises:
          UserError: it ends in another layer.
        """
        self.static = model
        self.network = loading.copy(model, "the model")
        last = graph.maker(self.network.outputs[0])
        if not isinstance(last.operation, keras.layers.Dense):
            raise UserError(f"{model.name}: Hiding takes a network that ends in Dense")
        self._dense = last.operation
        below = keras.Model(self.network.inputs[0], last.input_tensors[0])
        self._features = tf.function(lambda image: below(image, training=False))
        bias = self._dense.bias
        self._bias = 0.0 if bias is None else np.array(bias)
        self._kernel = np.array(self._dense.kernel)
        self._size = size * float(self._kernel.std())
        self._random = np.array([seed, 0])
        self._adapt(np.zeros(len(self._kernel)))

    def predict(self, image: np.ndarray) -> np.ndarray:
        """Answers one query, [H, W, C]; returns probabilities [classes]."""
        features = np.asarray(self._features(image[None])[0], np.float64)
        self._adapt(features)
        logits = features @ np.array(self._dense.kernel) + self._bias
        exponentials = np.exp(logits - logits.max())
        return np.asarray(exponentials / exponentials.sum(), np.float32)

    def snapshot(self) -> dict[str, Any]:
        """Returns the number of draws, and the kernel."""
        return {"random": self._random.copy(), "kernel": np.array(self._dense.kernel)}

    def restore(self, state: dict[str, Any]) -> None:
        """Goes back."""
        self._random = state["random"].copy()
        self._dense.kernel.assign(state["kernel"])

    def _adapt(self, features: np.ndarray) -> None:
        random = generator(int(self._random[0]), "hiding", int(self._random[1]))
        self._random[1] += 1
        large = self._size * random.standard_normal(self._kernel.shape)
        along = np.outer(features, features @ large) / max(float(features @ features), 1e-12)
        self._dense.kernel.assign((self._kernel + large - along).astype(np.float32))
