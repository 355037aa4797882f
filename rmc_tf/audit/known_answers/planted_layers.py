"""Faults that are planted into a network by a layer: saturation, rounding, drawn noise; smoothing.

Each takes any Keras classifier that returns logits, and returns one that shares its layers.
"""

from typing import Any

import keras
import numpy as np
import scipy.stats
import tensorflow as tf

from rmc_tf.networks import graph


@keras.saving.register_keras_serializable("rmc_tf")
class Rounded(keras.layers.Layer):
    """Pixels in [0, 1] of so many grey levels: no gradient goes through, none is needed."""

    def __init__(self, levels: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.levels = levels

    def call(self, images: tf.Tensor) -> tf.Tensor:
        """Returns the images rounded."""
        return tf.round(images * (self.levels - 1)) / (self.levels - 1)

    def get_config(self) -> dict[str, Any]:
        """Returns what it is made again from."""
        return {**super().get_config(), "levels": self.levels}


@keras.saving.register_keras_serializable("rmc_tf")
class Drawn(keras.layers.Layer):
    """Images with noise that is drawn anew for each answer."""

    def __init__(self, noise: float, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.noise, self.seed = noise, seed
        self._draws = keras.random.SeedGenerator(seed)

    def call(self, images: tf.Tensor) -> tf.Tensor:
        """Returns other images at each call."""
        return images + keras.random.normal(tf.shape(images), 0.0, self.noise, seed=self._draws)

    def get_config(self) -> dict[str, Any]:
        """Returns what it is made again from."""
        return {**super().get_config(), "noise": self.noise, "seed": self.seed}


@keras.saving.register_keras_serializable("rmc_tf")
class Copies(keras.layers.Layer):
    """Each image so many times, with the same Gaussian noise for all images: [B·draws, H, W, C]."""

    def __init__(self, draws: int, sigma: float, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.draws, self.sigma, self.seed = draws, sigma, seed

    def call(self, images: tf.Tensor) -> tf.Tensor:
        """Returns the noisy copies, those of an image one after another."""
        shape = [1, self.draws, *images.shape[1:]]
        noise = self.sigma * tf.random.stateless_normal(shape, [self.seed, 0])
        return tf.reshape(images[:, None] + noise, [-1, *images.shape[1:]])

    def get_config(self) -> dict[str, Any]:
        """Returns what it is made again from."""
        return {**super().get_config(), "draws": self.draws, "sigma": self.sigma, "seed": self.seed}


@keras.saving.register_keras_serializable("rmc_tf")
class Mean(keras.layers.Layer):
    """The logarithm of the mean probabilities of so many copies: [B·draws, classes] to [B, …]."""

    def __init__(self, draws: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.draws = draws

    def call(self, logits: tf.Tensor) -> tf.Tensor:
        """Returns logits of the mean, [B, classes]."""
        classes = logits.shape[-1]
        each = tf.reshape(tf.nn.log_softmax(logits), [-1, self.draws, classes])
        return tf.reduce_logsumexp(each, axis=1) - tf.math.log(float(self.draws))

    def get_config(self) -> dict[str, Any]:
        """Returns what it is made again from."""
        return {**super().get_config(), "draws": self.draws}


def saturated(model: keras.Model, factor: float = 20.0) -> keras.Model:
    """Returns a network of the same answers that is so sure that its loss has no gradient."""
    output = keras.layers.Rescaling(factor, name="scaled")(model.outputs[0])
    return keras.Model(model.inputs[0], keras.layers.Softmax(name="sure")(output), name="saturated")


def rounded(model: keras.Model, levels: int = 6) -> keras.Model:
    """Returns a network that sees so many grey levels."""
    return _after(model, Rounded(levels, name="grey_levels"), "rounded")


def drawn(model: keras.Model, noise: float = 0.15, seed: int = 0) -> keras.Model:
    """Returns a network that sees another image each time."""
    return _after(model, Drawn(noise, seed, name="drawn"), "drawn")


def smoothed(
    model: keras.Model, sigma: float = 0.25, draws: int = 200, seed: int = 0
) -> keras.Model:
    """Returns a network's mean answer around an image (Cohen et al. 2019), on fixed noise."""
    images = keras.Input(model.inputs[0].shape[1:], name="images")
    copies = Copies(draws, sigma, seed, name="copies")(images)
    mean = Mean(draws, name="mean")(graph.call(model, copies))
    return keras.Model(images, mean, name="smoothed")


def certified(
    model: keras.Model,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    epsilon: float,
    sigma: float = 0.25,
    draws: int = 10_000,
    seed: int = 1,
    alpha: float = 1e-3,
) -> np.ndarray:
    """Returns which points no attack in the ball of L2 can break, but for a chance of α, [M] bool.

    Of any function into [0, 1] the mean under Gaussian noise, taken through Φ⁻¹, moves by at most
    ‖δ‖₂/σ (Salman et al. 2019); so p(y) stays above ½ where it is above Φ(ε/σ). Its lower bound is
    Hoeffding's.

    Args:
      model: that is smoothed, of logits.
      images: x, [M, H, W, C] float32 in [0, 1].
      labels: y, [M].
      epsilon: radius under L2.
      sigma: of the noise.
      draws: other ones than those of the network.
      seed: of these.
      alpha: the chance of an error.
    """
    random = np.random.default_rng(seed)
    low = np.empty(len(images))
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        noise = random.standard_normal((draws, *image.shape)).astype(np.float32)
        outputs = model.predict(image + sigma * noise, batch_size=2000, verbose=0)
        mean = float(tf.nn.softmax(outputs)[:, int(label)].numpy().mean())
        low[number] = mean - np.sqrt(np.log(1 / alpha) / (2 * draws))
    return np.asarray(low > scipy.stats.norm.cdf(epsilon / sigma))


def _after(model: keras.Model, layer: keras.layers.Layer, name: str) -> keras.Model:
    images = keras.Input(model.inputs[0].shape[1:], name="images")
    return keras.Model(images, graph.call(model, layer(images)), name=name)
