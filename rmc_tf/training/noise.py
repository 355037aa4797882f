"""Losses by which a network becomes fit for Gaussian noise: by itself, or by a denoiser before it.

  noisy      L on x + N(0, σ²I) (Cohen, Rosenfeld & Kolter 2019, section 3.3)
  restored   ‖D(x + N(0, σ²I)) − x‖², of a denoiser D (Salman et al. 2020, equation 4)
  stable     L between f(D(x + N(0, σ²I))) and the class of f(x) (there, equation 5)

Noise isn't clipped to [0, 1], since the certificate is of noise that isn't.
"""

import keras
import tensorflow as tf

from rmc_tf.networks.classifier import Classifier
from rmc_tf.training.losses import Loss, cross_entropy


def noisy(classifier: Classifier, sigma: float) -> Loss:
    """Returns the loss of a network in training mode on images with noise."""

    def loss(
        images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor, weight: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        del weight
        logits = classifier.logits(with_noise(images, sigma, seed), training=True)
        return cross_entropy(logits, labels), logits

    return loss


def restored(classifier: Classifier, denoiser: keras.Model, sigma: float) -> Loss:
    """Returns the mean square error of a denoiser; the logits are those of a network behind it."""

    def loss(
        images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor, weight: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        del labels, weight
        found = denoiser(with_noise(images, sigma, seed))
        return tf.reduce_mean((found - images) ** 2), classifier.logits(found)

    return loss


def stable(classifier: Classifier, denoiser: keras.Model, sigma: float) -> Loss:
    """Returns the loss of a network's answers to denoised images against its own to clean ones.

    The network is the one behind the denoiser, by itself.
    """

    def loss(
        images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor, weight: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        del labels, weight
        own = tf.argmax(classifier.logits(images), 1, tf.int32)
        logits = classifier.logits(denoiser(with_noise(images, sigma, seed)))
        return cross_entropy(logits, own), logits

    return loss


def with_noise(images: tf.Tensor, sigma: float, seed: tf.Tensor) -> tf.Tensor:
    """Returns images [B, H, W, C] with noise of deviation σ, by a seed [2] int32."""
    return images + sigma * tf.random.stateless_normal(tf.shape(images), seed)
