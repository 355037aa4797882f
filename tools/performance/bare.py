"""Makes the least that the work takes: compiled steps and passes with nothing around them."""

from collections.abc import Callable

import keras
import tensorflow as tf

from rmc_tf.networks.classifier import Classifier
from rmc_tf.networks.graph import leaves
from rmc_tf.training.losses import cross_entropy

Step = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
"""Images [B, H, W, C] and labels [B] to something small, which is waited for by `.numpy()`."""


def training_step(classifier: Classifier, learning_rate: float) -> Step:
    """Returns a step of Adam on the cross entropy, as local adaptation takes them."""
    weights = classifier.model.trainable_variables
    optimizer = keras.optimizers.Adam(learning_rate)
    optimizer.build(weights)

    def step(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = cross_entropy(classifier.logits(images), labels)
        optimizer.apply(tape.gradient(loss, [weight.value for weight in weights]))
        return loss

    return _compiled(step, classifier)


def gradient_of_images(classifier: Classifier, by_xla: bool = False) -> Step:
    """Returns a forward and a backward pass to the pixels, as a step of PGD takes them."""

    def gradient(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(images)
            loss = cross_entropy(classifier.logits(images), labels)
        return tape.gradient(loss, images)

    return _compiled(gradient, classifier, by_xla)


def forward(classifier: Classifier) -> Step:
    """Returns a forward pass."""
    return _compiled(lambda images, labels: classifier.logits(images), classifier)


def _compiled(step: Step, classifier: Classifier, by_xla: bool = False) -> Step:
    images = tf.TensorSpec([None, *classifier.image_shape], tf.float32)
    signature = [images, tf.TensorSpec([None], tf.int32)]
    made: Step = tf.function(step, input_signature=signature, jit_compile=by_xla or None)
    return made


def training_operations(model: keras.Model) -> float:
    """Returns the floating-point operations of a training step on one image.

    A multiplication and an addition for each weight and place where it is used, in convolutions
    and dense layers; the rest (batch normalisation, ReLU, Adam) counts as nothing. Once for the
    forward pass, once for the gradient of the weights, once for that of the layer's input; the
    last isn't needed of the first layer.
    """
    passes = []
    for layer in leaves(model):
        if isinstance(layer, keras.layers.Conv2D):
            _, height, width, _ = layer.output.shape
            passes.append(2.0 * height * width * layer.kernel.shape.num_elements())
        elif isinstance(layer, keras.layers.Dense):
            passes.append(2.0 * layer.kernel.shape.num_elements())
    return float(3 * sum(passes) - passes[0])


def matrix_product(
    size: int = 2048, kind: tf.DType = tf.float32
) -> tuple[Callable[[], object], float]:
    """Returns a run of a square matrix product, and its floating-point operations."""
    normal = (tf.random.stateless_normal([size, size], [seed, 0]) for seed in (1, 2))
    left, right = (tf.cast(each, kind) for each in normal)
    product = tf.function(lambda: tf.reduce_sum(tf.matmul(left, right)))
    return lambda: product().numpy(), 2.0 * size**3
