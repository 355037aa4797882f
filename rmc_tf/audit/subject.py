"""What can be audited: a network, one of our defences, or anyone's object that answers.

Of an object no more is asked than

  predict(image)    image [H, W, C] float32 in [0, 1]; returns what `as_prediction` takes
  snapshot()        all that its next answers depend on
  restore(state)    goes back to it

and what it has besides is used against it:

  network           the Keras model or `Classifier` that answers, with its weights as they are now;
                    always the same object: attacks by gradients, and simulation. It isn't used
                    where `network_is_secret` is True, unless it is given as network=
  static            the same before any query: transfer
  seen(images, seed)  what the network is shown of images, [B, H, W, C]: gradients are taken there
                    and go back as they are (BPDA), averaged over seeds where they differ (EOT)
  surrogate, members, chances, check_radius, check_norm  see `besides`

A state that is a mapping with an array `random` is asked under other seeds by another first
number in it; of any other, another answer to the same state is another draw.
"""

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

import keras
import numpy as np

from rmc_tf.audit.besides import Besides, besides
from rmc_tf.common.errors import UserError
from rmc_tf.data.images import check_images, check_labels
from rmc_tf.defences.base import REFUSED, Defence, Prediction, State, network_shown
from rmc_tf.defences.undefended import Undefended
from rmc_tf.networks.classifier import Classifier
from rmc_tf.networks.form import Tell
from rmc_tf.threats.base import SearchedRows

Network: TypeAlias = keras.Model | Classifier
Seen = Callable[[np.ndarray, int], np.ndarray]
"""(images [B, H, W, C], seed) to what the network is shown of them, of the same shape."""


@runtime_checkable
class Answering(Protocol):
    """The least that an audit asks of a defence."""

    def predict(self, image: np.ndarray) -> Any:
        """Answers one query, [H, W, C] float32 in [0, 1]; see `as_prediction`."""

    def snapshot(self) -> Any:
        """Returns a state that `restore` takes."""

    def restore(self, state: Any) -> None:
        """Goes back to a state."""


@dataclasses.dataclass(frozen=True)
class Subject:
    """A defence, and what an attacker has of it."""

    title: str
    defence: Defence
    """`network` of it may be used only where the next isn't None."""
    network: Classifier | None
    """Its present network."""
    static: Classifier | None
    """f(·; θ*), where that is another than the network before its first query."""
    seen: Seen | None
    image_shape: tuple[int, int, int]
    num_classes: int
    searched: SearchedRows | None = None
    """The rows that it searches, where these are known to the attacker."""
    besides: Besides = dataclasses.field(default_factory=Besides)
    """What it shows besides."""


class Foreign:
    """Anyone's object as a `Defence`."""

    queries_at_once = 1

    def __init__(self, given: Answering, network: Classifier | None) -> None:
        self._given = given
        self._network = network

    @property
    def network(self) -> Classifier:
        """Its network; a `UserError` where it shows none."""
        if self._network is None:
            raise UserError(f"{type(self._given).__name__}: shows no network; give it by network=")
        return self._network

    def predict(self, image: np.ndarray) -> Prediction:
        """Answers one query; see `as_prediction`."""
        begun = time.perf_counter()
        answer = self._given.predict(image)
        return as_prediction(answer, type(self._given).__name__, time.perf_counter() - begun)

    def predict_many(self, images: np.ndarray | Sequence[np.ndarray]) -> list[Prediction]:
        """Answers queries one after another."""
        return [self.predict(image) for image in images]

    def prime(self, after_row: Callable[[], object] = lambda: None) -> float | None:
        """Does nothing: whoever gives the object has prepared it."""
        del after_row
        return None

    def calibrate(self) -> float | None:
        """Does nothing: what an answer changes is done with it."""
        return None

    def snapshot(self) -> State:
        """Returns its state, which is its own affair."""
        state: State = self._given.snapshot()
        return state

    def restore(self, state: State) -> None:
        """Goes back to a state."""
        self._given.restore(state)


def as_prediction(answer: Any, source: str, seconds: float = 0.0) -> Prediction:
    """Returns what someone's defence answered, as we write it.

    Args:
      answer: probabilities [classes]; or anything with them as `probabilities`, and perhaps a
        `label`, and `refused`, True where it refuses to answer.
      source: what messages call the defence.
      seconds: what it took.

    Raises:
      UserError: it has no probabilities.
    """
    given = getattr(answer, "probabilities", answer)
    try:
        probabilities = np.asarray(given, np.float32)
    except (TypeError, ValueError):
        probabilities = np.empty(0, np.float32)
    if probabilities.ndim != 1 or len(probabilities) < 2:
        raise UserError(
            f"{source}: predict returned {type(answer).__name__}, expected probabilities [classes] "
            "or an object that has them; where it knows a label alone, return it one-hot"
        )
    label = int(getattr(answer, "label", probabilities.argmax()))
    refused = bool(getattr(answer, "refused", False))
    return Prediction(REFUSED if refused else label, probabilities, seconds=seconds)


def subject(
    given: Network | Defence | Answering,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    network: Network | None = None,
    static: Network | None = None,
    title: str = "",
    tell: Tell = print,
) -> Subject:
    """Returns what is audited, whatever was given.

    Args:
      given: a Keras model, a `Classifier`, a defence of ours, or anyone's object; see above.
      images: the clean points, [M, H, W, C] float32 in [0, 1].
      labels: theirs, [M].
      network: its present network, where it has no `network` of its own.
      static: f(·; θ*), where it has no `static` of its own.
      title: what the page calls it; "": the name of its class.
      tell: is told how a Keras model is changed to fit.

    Raises:
      UserError: it is nothing that can be audited, or the points don't fit it.
    """
    shape = tuple(np.shape(images)[1:])

    def wrap(model: Network, what: str) -> Classifier:
        if isinstance(model, Classifier):
            return model
        return Classifier(model, source=what, image_shape=_three(shape), tell=tell)

    def wrapped(model: Network | None, what: str) -> Classifier | None:
        return None if model is None else wrap(model, what)

    own: Classifier | None
    if isinstance(given, keras.Model | Classifier):
        own = wrap(given, "the model")
        defence: Defence = Undefended(own)
        before = wrapped(static, "the static network")
    elif isinstance(given, Answering):
        own = wrapped(network or network_shown(given), "the defence's network")
        before = wrapped(static or getattr(given, "static", None), "the static network")
        whole = isinstance(given, _Whole) and isinstance(given.network, Classifier)
        defence = given if whole else Foreign(given, own)  # type: ignore[assignment]
    else:
        raise UserError(
            f"{type(given).__name__}: neither a Keras model nor an object with predict, snapshot "
            "and restore; give one of them"
        )
    if own is not None and before is own:
        before = None
    shown = own or before
    check_images(images, shown.image_shape if shown else _three(shape), "images")
    if len(images) != len(labels) or not len(images):
        raise UserError(f"{len(labels)} labels for {len(images)} images; give one to each")
    seen = getattr(given, "seen", None)
    classes = shown.num_classes if shown else _classes(defence, images[0])
    check_labels(np.asarray(labels), classes, "labels")
    name = title or (given.name if isinstance(given, keras.Model) else type(given).__name__)
    more = besides(given, wrap)
    return Subject(name, defence, own, before, seen, _three(shape), classes, besides=more)


@runtime_checkable
class _Whole(Answering, Protocol):
    """What a defence of ours has besides."""

    queries_at_once: int
    network: Any

    def predict_many(self, images: np.ndarray) -> list[Prediction]: ...

    def prime(self) -> float | None: ...

    def calibrate(self) -> float | None: ...


def _three(shape: Sequence[int]) -> tuple[int, int, int]:
    if len(shape) != 3:
        raise UserError(f"images: of shape {list(shape)} each, expected [H, W, C]; reshape them")
    height, width, channels = shape
    return height, width, channels


def _classes(defence: Defence, image: np.ndarray) -> int:
    state = defence.snapshot()
    classes = len(defence.predict(image).probabilities)
    defence.restore(state)
    return classes
