"""What a defence is: something that answers one query after another, and may change by it."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from rmc_tf.common.errors import UserError
from rmc_tf.common.traces import Traces
from rmc_tf.data.images import check_each
from rmc_tf.networks.classifier import Classifier

State = Mapping[str, np.ndarray]
"""All that a defence's next answers depend on, as named arrays; empty for a static one. Where the
answers are random, `random` is an array of integers that begins with the seed; where they come of
a network and a D', `made_of` says of which."""


REFUSED = -1
"""The label of an answer that refuses to answer."""


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The answer to one query, how long it took, and what there is to distrust it by.

    Where queries share one adaptation (`RMCConfig.queries_at_once`), the seconds of each are its
    share of the group's, all alike. Its neighbours are its own N'(x), of which the group has
    adapted to the nearest.
    """

    label: int
    """0..classes-1, or `REFUSED`."""
    probabilities: np.ndarray
    """[classes] float32."""
    steps: int = 0
    """Gradient steps of local adaptation; of a shared one, all of them."""
    seconds: float = 0.0
    """All that the caller waited. The next five are its parts; they come to a little less."""
    waited: float = 0.0
    """Seconds until other threads were done, with a query or a calibration."""
    calibrated: float = 0.0
    """Seconds for what was still due of the query before, or of priming before the first."""
    searched: float = 0.0
    """Seconds to search D' and to read N'(x)."""
    adapted: float = 0.0
    """Seconds of local adaptation."""
    answered: float = 0.0
    """Seconds for the network's answer."""
    neighbours: np.ndarray = dataclasses.field(default_factory=lambda: np.empty(0, np.int64))
    """[K] rows of D', nearest first; empty where none are searched."""
    adversarial_share: float | None = None
    """How many rows of N'(x) are adversarial examples, 0 to 1: of an adversarial query most are, as
    a rule. None: nothing adapts to them."""
    distance: float | None = None
    """‖θ' − θ₀‖, the L2 norm over all weights that may adapt; θ₀ are the deployed network's. None:
    nothing adapts."""
    radius: float | None = None
    """Within which L2 distance of the query the answer is certified to be the same, in units of
    [0, 1]; 0: within none. None: the defence certifies nothing."""

    @property
    def refused(self) -> bool:
        """Whether it refuses to answer."""
        return self.label == REFUSED

    @property
    def delay(self) -> float:
        """Seconds from the query to its answer as in section 4: search, adaptation and answer."""
        return self.searched + self.adapted + self.answered

    def to_dict(self) -> dict[str, Any]:
        """Returns all of it as JSON can hold it, arrays as lists; `delay`, too."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        values["delay"] = self.delay
        return {n: v.tolist() if isinstance(v, np.ndarray) else v for n, v in values.items()}


class Defence(Protocol):
    """A network with or without a runtime defence."""

    @property
    def network(self) -> Classifier:
        """The network with the weights as they are now, for an attacker who sees them.

        Always the same object; where the defence adapts, its weights change by each answer. Where
        `network_is_secret` of a defence is True, no attacker sees it, and an audit treats it so.
        """

    def predict(self, image: np.ndarray) -> Prediction:
        """Answers one query.

        Args:
          image: [H, W, C] float32 in [0, 1].

        Raises:
          UserError: the image is of another type, shape or range, or holds NaN; or this process
            was forked after TensorFlow was used.
        """

    def predict_many(self, images: np.ndarray | Sequence[np.ndarray]) -> list[Prediction]:
        """Answers queries in order, each as `predict` would, one after another.

        Where `queries_at_once` is larger than 1, so many at a time share one adaptation, from the
        first of this call on. Nothing comes between them: who shares the defence waits for all.

        Args:
          images: [n, H, W, C] float32 in [0, 1].

        Raises:
          UserError: as for `predict`; it names the first bad image, and none has been answered.
        """

    @property
    def queries_at_once(self) -> int:
        """How many queries of `predict_many` share one adaptation; 1: none does."""

    def prime(self, after_row: Callable[[], object] = lambda: None) -> float | None:
        """Does what is to be done once, before the first query.

        Where it is not called, the first query does it first, with the same result. `after_row` is
        called wherever a state may be taken that goes on from there.

        Returns:
          the seconds that it took; None where nothing was left to do.
        """

    def calibrate(self) -> float | None:
        """Does what may wait until the answer is out.

        Where it is not called, the next query does it first, with the same result.

        Returns:
          the seconds that it took; None where nothing was due.
        """

    def snapshot(self) -> State:
        """Returns a copy of the state."""

    def restore(self, state: State) -> None:
        """Goes back to a state: the same queries then get the same answers.

        Raises:
          UserError: it isn't one of such a defence; nothing has changed then.
        """


@runtime_checkable
class Traced(Protocol):
    """A defence that traces its predictions."""

    traces: Traces


@contextlib.contextmanager
def tracing(defence: Defence, traces: Traces) -> Iterator[None]:
    """Has a defence trace its predictions meanwhile, if it is one that does."""
    # From Python 3.12 on `isinstance` doesn't ask a property, which may say that there are none.
    if not isinstance(defence, Traced) or not hasattr(defence, "traces"):
        yield
        return
    before, defence.traces = defence.traces, traces
    try:
        yield
    finally:
        defence.traces = before


def network_shown(defence: Any) -> Any:
    """Returns the network of a defence, anyone's, as an attacker has it; None: it shows none."""
    secret = getattr(defence, "network_is_secret", False) is True
    return None if secret else getattr(defence, "network", None)


def still(defence: Defence) -> Defence:
    """Returns what answers as a defence does in its present state, without a state to go back to.

    It is the defence's `still`, where an answer moves nothing; else the defence itself. Who asks
    many images in one state needn't put weights back, then, that are there already.
    """
    found: Defence | None = getattr(defence, "still", None)
    return defence if found is None else found


def reseeded(state: State, seed: int) -> State:
    """Returns a state whose answers are drawn by another seed; the same where none is drawn."""
    if not isinstance(state, dict) or "random" not in state:  # anyone's may be of any kind
        return state
    random = state["random"].copy()
    random[0] = seed
    return {**state, "random": random}


def one_after_another(
    defence: Defence, images: np.ndarray | Sequence[np.ndarray]
) -> list[Prediction]:
    """Returns what `predict` answers to each image, for a defence that shares nothing; see there.

    Raises:
      UserError: as for `Defence.predict_many`.
    """
    return [defence.predict(x) for x in check_each(images, defence.network.image_shape, "images")]


class Static:
    """The part of `Defence` that a defence without state has nothing to do for."""

    queries_at_once = 1

    def prime(self, after_row: Callable[[], object] = lambda: None) -> float | None:
        """Does nothing, since nothing ever changes."""
        del after_row
        return None

    def calibrate(self) -> float | None:
        """Does nothing, since nothing is ever due."""
        return None

    def snapshot(self) -> State:
        """Returns nothing, since nothing changes."""
        return {}

    def restore(self, state: State) -> None:
        """Does nothing; see `Defence.restore`."""
        if state != {}:
            raise UserError(
                f"{type(self).__name__} never changes, so its states are empty; this one is of "
                "another defence, or no state at all"
            )
