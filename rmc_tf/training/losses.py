"""What training minimises: the five blocks of Table 1 ("Trained Networks", section 4).

  regular          L, the cross entropy
  adversarial      L on adversarial examples of the network as it is, with a share of clean ones
  jacobian         L + λ·mean ‖J(x)‖_F, J = ∂ logits / ∂ x (Jakubovitz & Giryes 2018)
  cross_lipschitz  L + λΩ, Ω = mean 1/K² Σ_{l,m} ‖∇f_l(x) − ∇f_m(x)‖² (Hein & Andriushchenko 2017)

Ω is (2/K)‖PJ‖²_F, where P takes away the mean over the K classes: so both
regularisers are the squared length of a projected Jacobian, which one backward
pass for each of K unit vectors gives exactly, and one for each random vector
estimates without bias (Hoffman et al. 2019).
"""

from collections.abc import Callable, Mapping

import tensorflow as tf

from rmc_tf import attacks
from rmc_tf.common.errors import UserError
from rmc_tf.config import AttackConfig, LossConfig
from rmc_tf.networks.classifier import Classifier

Loss = Callable[[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
"""(images [B, H, W, C], labels [B] int32, seed [2] int32, weight of the regulariser: scalar) to
the loss (scalar) and the logits [B, classes] of these images."""


def build(
    config: LossConfig, classifier: Classifier, attack_models: Mapping[str, AttackConfig]
) -> Loss:
    """Returns the loss that a config names, differentiable in the classifier's weights.

    The classifier is in training mode for L, and attacked in inference mode, as it is deployed.

    Raises:
      UserError: no attack model has that name.
    """
    if config.kind == "regular":
        return _regular(classifier)
    if config.kind == "adversarial":
        if config.attack not in attack_models:
            raise UserError(
                f"--config.training.loss.attack={config.attack}: no such attack model; "
                f"known: {', '.join(attack_models)}"
            )
        return _adversarial(config, classifier, attack_models[config.attack])
    return _regularised(config, classifier)


def cross_entropy(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Returns L, the mean over the batch."""
    return tf.reduce_mean(
        tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    )


def _regular(classifier: Classifier) -> Loss:
    def loss(
        images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor, weight: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        del seed, weight
        logits = classifier.logits(images, training=True)
        return cross_entropy(logits, labels), logits

    return loss


def _adversarial(config: LossConfig, classifier: Classifier, attack_model: AttackConfig) -> Loss:
    perturb = attacks.in_graph(attack_model, classifier, starts_at_x=config.starts_at_x)

    def loss(
        images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor, weight: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        del weight
        adversarial = tf.stop_gradient(perturb(images, labels, seed))
        if not config.clean_share:
            logits = classifier.logits(adversarial, training=True)
            return cross_entropy(logits, labels), logits
        # One batch of both, so that batch normalisation sees what it will be asked.
        both = classifier.logits(tf.concat([images, adversarial], 0), training=True)
        clean, perturbed = tf.split(both, 2)
        value = config.clean_share * cross_entropy(clean, labels)
        return value + (1 - config.clean_share) * cross_entropy(perturbed, labels), clean

    return loss


def _regularised(config: LossConfig, classifier: Classifier) -> Loss:
    def loss(
        images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor, weight: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        centred = config.kind == "cross_lipschitz"
        logits, squares = squared_jacobian(
            lambda x: classifier.logits(x, training=True),
            images,
            centred=centred,
            projections=config.projections,
            seed=seed,
        )
        if centred:
            penalty = tf.reduce_mean(squares) * 2 / classifier.num_classes
        else:
            penalty = tf.reduce_mean(tf.sqrt(squares + 1e-12))  # its slope at 0 stays finite
        return cross_entropy(logits, labels) + weight * penalty, logits

    return loss


def squared_jacobian(
    network: Callable[[tf.Tensor], tf.Tensor],
    images: tf.Tensor,
    *,
    centred: bool,
    projections: int,
    seed: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the logits [B, K] of images [B, H, W, C], and ‖J‖²_F of each [B], or ‖PJ‖²_F.

    It is ‖PJ‖²_F where `centred`: then the mean over the classes is taken away from the rows of J.
    With 0 projections it is exact; else so many random directions, by the seed ([2] int32),
    estimate it.
    """
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(images)
        logits = network(images)
        batch, classes = tf.shape(logits)[0], logits.shape[1]
        sums = []
        for number in range(projections or classes):
            if projections:  # entries of ±1: E[vvᵀ] is the identity
                signs = tf.random.stateless_uniform([batch, classes], seed + number, 0, 2, tf.int32)
                direction = tf.cast(2 * signs - 1, tf.float32)
            else:
                direction = tf.one_hot(tf.fill([batch], number), classes)
            if centred:
                direction -= tf.reduce_mean(direction, axis=1, keepdims=True)
            sums.append(tf.reduce_sum(logits * direction))
    axes = list(range(1, images.shape.rank))
    squares = [tf.reduce_sum(tape.gradient(s, images) ** 2, axes) for s in sums]
    return logits, tf.add_n(squares) / max(1, projections)
