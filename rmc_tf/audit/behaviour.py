"""How a defence behaves before it is attacked: whether it adapts, and whether it draws."""

import time

import numpy as np

from rmc_tf.audit.kept import Arrays, Kept
from rmc_tf.audit.subject import Subject
from rmc_tf.common.seeding import derive_seed
from rmc_tf.defences.base import reseeded
from rmc_tf.defences.undefended import Undefended
from rmc_tf.networks.classifier import Classifier
from rmc_tf.threats.base import undisturbed, weights

_SAME = 1e-5
"""By how much probabilities may differ by rounding."""
_DRAWS = 3
"""So often each image is answered to see whether answers are drawn. Ours: few show it."""


def adapts(subject: Subject, image: np.ndarray) -> bool:
    """Returns whether an answer to an image, [H, W, C], changes the weights of its network."""
    if subject.network is None or isinstance(subject.defence, Undefended):
        return False
    with undisturbed(subject.defence):
        before = weights(subject.network)
        subject.defence.predict(image)
        after = weights(subject.network)
    return any(not np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def drawn(subject: Subject, images: np.ndarray, seed: int, kept: Kept) -> tuple[int, float]:
    """Returns of how many images, [n, H, W, C], answers are drawn, and the seconds of one answer.

    Each is answered three times in the same state, under other seeds where it has any.
    """
    with undisturbed(subject.defence) as ready:

        def ask(number: int) -> Arrays:
            seen, labels, times = [], set(), []
            for draw in range(_DRAWS):
                other = derive_seed(seed, "drawn", draw)
                subject.defence.restore(reseeded(ready, other) if draw else ready)
                begun = time.perf_counter()
                answer = subject.defence.predict(images[number])
                times.append(time.perf_counter() - begun)
                seen.append(answer.probabilities)
                labels.add(answer.label)  # whether it is refused may be drawn, too
            differ = len(labels) > 1 or np.ptp(np.array(seen), axis=0).max() > _SAME
            return {"differ": np.array(differ), "times": np.array(times)}

        found = kept.each("whether answers are drawn", [seed], len(images), ask)
    return int(found["differ"].sum()), float(np.median(found["times"]))


def shaking(subject: Subject, through: Classifier | None, images: np.ndarray) -> bool:
    """Returns whether what its network gives, or is shown, is another each time.

    Then its gradients are, too; not so where an adaptation alone is drawn.

    Args:
      subject: what is attacked.
      through: its network as it is attacked; None: it shows none.
      images: some, [n, H, W, C].
    """
    if through is None:
        return False
    seen = subject.seen
    if seen is not None and not np.array_equal(seen(images, 0), seen(images, 1)):
        return True
    first, second = (through.forward(images)[1] for _ in range(2))
    return bool(np.abs(first - second).max() > _SAME)
