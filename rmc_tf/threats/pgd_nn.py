"""PGD-NN: an attack on the choice of the K nearest rows (section 5.1).

  max over δ in A(x) of H( 1/K Σ f(x_i; θ*) over x_i in N'(x + δ), y )

by projected gradient ascent, where "the error signal [is] backpropagated
*through* the operation of finding the K nearest neighbors". The paper doesn't say
how; a top-K has no gradient of its own. Here row i counts by

  w_i = sigmoid((r² − d_i²) / T),

d_i its distance to x + δ in the static feature space, r that of the K-th row and
T a temperature: 1 for rows well inside of the K nearest and 0 well outside, so
T → 0 is the objective itself. r moves along with x + δ, so what counts is to come
nearer to some rows *than to others*. T is a share of the mean |r² − d_i²|.

The candidates are searched again, exactly, at each step: the K nearest rows that
are for y and the K nearest that aren't. The K nearest of all are among them; and
where all of those are for y, as around most clean images, the others still say
where to go. The best iterate is chosen by the objective without relaxation.
"""

import numpy as np
import tensorflow as tf

from rmc_tf.attacks import apgd, losses
from rmc_tf.attacks.ascent import ascend, highest
from rmc_tf.attacks.base import Batch, starting
from rmc_tf.attacks.craft import filled
from rmc_tf.common.errors import UserError
from rmc_tf.common.seeding import derive_seed
from rmc_tf.config import ThreatConfig
from rmc_tf.defences.base import Defence
from rmc_tf.networks.straight_through import passed
from rmc_tf.threats.base import BatchThreat, Knowledge, take_weights

_BATCH = 16
"""Images at once: each needs its distances to all rows, and 2K feature vectors."""
_TIE = 1e-3
"""Of the relaxed objective, to tell iterates apart whose K nearest rows are the same."""


class PGDNN(BatchThreat):
    """PGD through the search for neighbours; the same for all defences that search these rows.

    Attributes:
      features: of the rows, [N', d].
    """

    def __init__(self, config: ThreatConfig, knowledge: Knowledge) -> None:
        """Prepares the attack.

        Raises:
          UserError: no rows are searched.
        """
        if knowledge.searched is None:
            rule = "this defence searches no rows; choose another threat to it"
            raise UserError(f"--config.threats.*.threat={config.threat}: {rule}")
        self._config, self._attack = config, knowledge.attack
        self._classifier, searched = passed(knowledge.classifier), knowledge.searched
        self._k = searched.k
        self.features = tf.constant(searched.features)
        self._squares = tf.reduce_sum(self.features**2, axis=1)
        one_hot = np.eye(self._classifier.num_classes, dtype=np.float32)[searched.labels]
        self._votes = tf.constant(searched.outputs if config.vote == "outputs" else one_hot)
        self._copy = knowledge.classifier.clone() if config.network_share else None
        self._present = passed(self._copy) if self._copy else self._classifier
        pixels = tf.TensorSpec([None, *self._classifier.image_shape], tf.float32)
        given = [pixels, tf.TensorSpec([None], tf.int32), pixels]
        self._start = starting(self._attack, self._classifier.image_shape)
        by_xla = self._classifier.jit_compile
        self._compiled = tf.function(self._perturb, given, jit_compile=by_xla)

    def craft_batch(
        self, defence: Defence, images: np.ndarray, labels: np.ndarray, seed: int
    ) -> np.ndarray:
        """Returns an x' for each image; the defence counts only where its network's loss does."""
        if self._copy is not None:
            take_weights(self._copy, defence)
        parts = [np.empty((0, *images.shape[1:]), np.float32)]
        for begin in range(0, len(images), _BATCH):
            batch = slice(begin, begin + _BATCH)
            draw = [derive_seed(seed, "pgd_nn", begin), 0]
            x, y = tf.constant(images[batch]), tf.constant(labels[batch], tf.int32)
            given = x, y, self._start(x, draw)
            made = self._compiled(*(filled(given) if self._classifier.jit_compile else given))
            parts.append(made.numpy()[: len(x)])
        return np.concatenate(parts)

    def _perturb(self, images: tf.Tensor, labels: tf.Tensor, starts: tf.Tensor) -> tf.Tensor:
        share = self._config.network_share

        def loss(iterates: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            with tf.GradientTape() as tape:
                tape.watch(iterates)
                features, _ = self._classifier.features_and_logits(iterates)
                exact, relaxed = self._against_y(features, labels)
                own = tf.zeros_like(relaxed)
                if share:
                    of_image = losses.of(self._attack)
                    own = of_image(labels=labels, logits=self._present.logits(iterates))
                objective = (1 - share) * relaxed + share * own
            values = (1 - share) * (exact + _TIE * relaxed) + share * own
            return values, tape.gradient(objective, iterates)

        def look(iterates: tf.Tensor) -> apgd.Seen:
            values, gradient = loss(iterates)
            return apgd.Seen(iterates, values, tf.zeros_like(values, tf.bool), gradient)

        batch = Batch(images, labels, starts)
        if self._attack.attack == "apgd":
            return apgd.climb(look, self._attack, batch, self._attack.iterations)
        return ascend(loss, batch, self._attack, choice=highest)

    def _against_y(self, features: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns H of the K nearest rows and its relaxation, both [B], of features [B, d]."""
        chosen, there, threshold = self.candidates(tf.stop_gradient(features), labels)
        votes = tf.gather(tf.transpose(self._votes), labels)  # for y, [B, N']
        votes = tf.gather(votes, chosen, batch_dims=1)
        vectors = tf.gather(self.features, chosen)
        squared = tf.reduce_sum((vectors - features[:, None]) ** 2, axis=2)
        inside = tf.gather(squared, threshold, batch_dims=1) - squared  # r² moves with x + δ
        gaps = tf.reduce_sum(there * tf.abs(inside), 1, keepdims=True)
        gap = tf.stop_gradient(gaps / tf.reduce_sum(there, 1, keepdims=True))
        soft = tf.sigmoid(inside / (self._config.temperature * gap + 1e-12))
        hard = tf.cast(inside >= 0, tf.float32)
        return _entropy(there * hard, votes), _entropy(there * soft, votes)

    def candidates(
        self, features: tf.Tensor, labels: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns the candidates among the rows, and which is the K-th nearest of all.

        Returns:
          rows [B, 2K] int32; 1 for each that is there and 0 where a side has fewer than K,
          [B, 2K] float32; the place of the K-th nearest among them, [B, 1] int32.
        """
        squared = self._squares - 2 * tf.matmul(features, self.features, transpose_b=True)
        for_y = tf.argmax(self._votes, 1, tf.int32) == labels[:, None]
        far = squared.dtype.max
        sides = [tf.where(for_y, squared, far), tf.where(for_y, far, squared)]
        nearest = [tf.math.top_k(-side, self._k) for side in sides]
        chosen = tf.concat([side.indices for side in nearest], 1)
        closeness = tf.concat([side.values for side in nearest], 1)
        order = tf.math.top_k(closeness, self._k).indices
        return chosen, tf.cast(closeness > -far, tf.float32), order[:, -1:]


def _entropy(counts: tf.Tensor, votes: tf.Tensor) -> tf.Tensor:
    """Returns −log of the mean vote for y, [B], where row i counts by `counts`, [B, 2K]."""
    share = tf.reduce_sum(counts * votes, 1) / tf.reduce_sum(counts, 1)
    return -tf.math.log(tf.maximum(share, 1e-12))
