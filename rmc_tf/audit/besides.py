"""What an object may show besides its network, to be used against it.

surrogate(seed)   trains another of its networks, with another secret, and returns it: a Keras
                  model or a `Classifier`
members, chances  the networks of which one, drawn by its chance, gives an answer
check_radius      how far around a query it looks for another label, and refuses where there is
                  one
check_norm        in which norm, "linf" or "l2"; without it, in that of the audit
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, TypeAlias, cast, get_args

import keras
import numpy as np

from rmc_tf.common.errors import UserError
from rmc_tf.networks.classifier import Classifier

Wrap: TypeAlias = Callable[[keras.Model | Classifier, str], Classifier]
"""A network, and what messages call it, to a classifier."""
CheckNorm: TypeAlias = Literal["", "linf", "l2"]


@dataclasses.dataclass(frozen=True)
class Besides:
    """What one defence shows."""

    surrogate: Callable[[int], Classifier] | None = None
    """Trains another network, by a seed."""
    members: tuple[Classifier, ...] = ()
    """The networks that an answer is drawn from."""
    chances: tuple[float, ...] = ()
    """Of each, adding up to 1."""
    check_radius: float | None = None
    """In units of [0, 1]."""
    check_norm: CheckNorm = ""
    """Empty: that of the audit."""


def besides(given: Any, wrap: Wrap) -> Besides:
    """Returns what an object shows.

    Args:
      given: the defence.
      wrap: makes a classifier of what it gives.

    Raises:
      UserError: chances that don't fit the members, or a radius or a norm that is none.
    """
    name, own = type(given).__name__, getattr(given, "surrogate", None)
    surrogate = None
    if callable(own):
        surrogate = _wrapped(own, wrap)
    members = tuple(
        wrap(network, f"member {number}")
        for number, network in enumerate(getattr(given, "members", ()))
    )
    even = [1 / len(members)] * len(members) if members else []
    chances = np.asarray(getattr(given, "chances", even), np.float64)
    fits = chances.shape == (len(members),) and (chances >= 0).all()
    if not fits or (members and not np.isclose(chances.sum(), 1)):
        raise UserError(
            f"{name}: chances {chances.tolist()} of {len(members)} members; give one to each, "
            "adding up to 1"
        )
    radius = getattr(given, "check_radius", None)
    if radius is not None and not 0 < float(radius) < np.inf:
        raise UserError(f"{name}: check_radius {radius}; give one above 0, or none")
    norm = cast(CheckNorm, getattr(given, "check_norm", ""))
    if norm not in get_args(CheckNorm):
        raise UserError(f"{name}: check_norm {norm}; give linf or l2, or none")
    return Besides(
        surrogate,
        members,
        tuple(chances.tolist()),
        None if radius is None else float(radius),
        norm,
    )


def _wrapped(own: Callable[[int], Any], wrap: Wrap) -> Callable[[int], Classifier]:
    def surrogate(seed: int) -> Classifier:
        return wrap(own(seed), f"the surrogate of seed {seed}")

    return surrogate
