"""Defences with planted faults: what an audit must say of them, and how to audit one's own.

Each takes any Keras classifier that returns logits and ends in a Dense layer, and rows of D; each
is audited by the same call, `rmc_tf.audit.of`. `answer` does that.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from rmc_tf.audit.anyones import of
from rmc_tf.audit.known_answers import adapting, looking, overfitted, planted_layers, secret
from rmc_tf.audit.report import Report
from rmc_tf.config import Norm


@dataclasses.dataclass(frozen=True)
class Given:
    """What the faults are planted into."""

    model: keras.Model
    """Of logits; it stays as it is."""
    images: np.ndarray
    """Rows of D, [n, H, W, C] float32 in [0, 1]."""
    labels: np.ndarray
    """Theirs, [n]."""
    epsilon: float
    """Radius of the ball that is searched."""


@dataclasses.dataclass(frozen=True)
class Known:
    """A defence of which it is known what is wrong with it."""

    fault: str
    """In a few words."""
    make: Callable[[Given], Any]
    """Returns what is given to `of`."""
    named: str
    """The check that names the fault; "": nothing is wrong, and no check may say so."""
    same: bool = False
    """Whether it answers as the network does that the fault is planted into: it falls as that."""
    norm: Norm = "linf"
    knows: bool = False
    """Whether the network that it was made from is its static one, which it doesn't show."""


KNOWN: Mapping[str, Known] = {
    "saturated": Known(
        "logits × 20 and a softmax: the loss is flat",
        lambda given: planted_layers.saturated(given.model),
        "zero gradients",
        same=True,
    ),
    "rounded": Known(
        "six grey levels: no gradient goes through a rounding",
        lambda given: planted_layers.rounded(given.model),
        "layers that stop the gradient",
    ),
    "drawn": Known(
        "noise that is drawn anew for each answer",
        lambda given: planted_layers.drawn(given.model),
        "random answers",
    ),
    "hiding": Known(
        "weights that are changed at run time, by a lot, so that the answer stays the same",
        lambda given: adapting.Hiding(given.model),
        "transfer stronger than white box",
        same=True,
    ),
    "detector": Known(
        "refuses what is far from D; nearer attacks are accepted",
        lambda given: looking.Detector(given.model, given.images),
        "refusals that are evaded",
    ),
    "overfitted": Known(
        "trained on PGD examples of another network, made once",
        lambda given: overfitted.overfitted(
            given.model, given.images, given.labels, epsilon=given.epsilon
        ),
        "withstands the known attack alone",
        knows=True,
    ),
    "rising": Known(
        "answers what is far from D by its nearest rows: more right with a larger ε",
        lambda given: looking.Rising(given.model, given.images, given.labels),
        "larger ε no stronger",
    ),
    "refusing": Known(
        "refuses where another label is found within ε/3 of the query",
        lambda given: looking.Refusing(given.model, given.epsilon / 3),
        "refusals that are evaded",
    ),
    "private": Known(
        "answers by a network whose seed is secret, and tells labels alone",
        lambda given: secret.Private(given.model, given.images, given.labels),
        "rests on a secret",
    ),
    "ensemble": Known(
        "one of two networks, drawn anew; the second was trained on what fools the first",
        lambda given: secret.Ensemble(
            given.model, given.images, given.labels, epsilon=given.epsilon
        ),
        "ARC stronger than EOT",
    ),
    "smoothed": Known(
        "none: randomised smoothing, with its certificate",
        lambda given: planted_layers.smoothed(given.model),
        "",
        norm="l2",
    ),
}


def answer(
    name: str,
    given: Given,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    say: Callable[[str], object] = print,
    **settings: Any,
) -> Report:
    """Returns the audit of a known defence on clean points, [M, H, W, C], and their labels [M].

    Args:
      name: of `KNOWN`.
      given: what the fault is planted into.
      images: clean points.
      labels: theirs.
      say: see `of`.
      **settings: as for `of`.
    """
    known = KNOWN[name]
    static = given.model if known.knows else None
    return of(
        known.make(given),
        images,
        labels,
        epsilon=given.epsilon,
        norm=known.norm,
        static=static,
        title=name,
        say=say,
        **settings,
    )
