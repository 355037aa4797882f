"""A running service as the threats of `rmc_tf.threats` know a defence: a black box over HTTP."""

from collections.abc import Callable, Sequence
from typing import NoReturn

import numpy as np

from rmc_tf.common.errors import UserError
from rmc_tf.defences.base import Prediction, State
from rmc_tf.service.client import Client


class FrozenService:
    """A `Defence` whose every answer begins from the state in which a service was frozen.

        with client.frozen() as version:
            x = threat.craft(FrozenService(client, version), image, label, seed)

    So `restore` has nothing to send: the service itself takes its state back after each answer. It
    is for an attacker who sees answers alone; there are no weights to look at.
    """

    queries_at_once = 1

    def __init__(self, client: Client, version: int) -> None:
        """Takes the client of a frozen service, and the number of its state."""
        self._client, self._version = client, version

    @property
    def network(self) -> NoReturn:
        """There is none to be seen.

        Raises:
          UserError: always.
        """
        raise UserError(
            f"{self._client.url}: a service shows no weights; attack it by a black box, such as "
            "hop_skip_jump"
        )

    def predict(self, image: np.ndarray) -> Prediction:
        """Answers one query, [H, W, C] float32 in [0, 1]; see `Defence`.

        Raises:
          UserError: the service doesn't answer; or not by the defence, from that state.
        """
        answer = self._client.predict(image, neighbours=True)
        if not answer.adapted or answer.state_version != self._version:
            raise UserError(
                f"{self._client.url}: answered from state {answer.state_version} ({answer.why}), "
                f"not adapted from {self._version}; have nobody else change it meanwhile"
            )
        seconds = answer.seconds
        return Prediction(
            answer.label,
            answer.probabilities,
            seconds=seconds.get("total", 0.0),
            waited=seconds.get("queued", 0.0),
            calibrated=seconds.get("calibrated", 0.0),
            searched=seconds.get("searched", 0.0),
            adapted=seconds.get("adapted", 0.0),
            answered=seconds.get("answered", 0.0),
            neighbours=answer.neighbours,
        )

    def predict_many(self, images: np.ndarray | Sequence[np.ndarray]) -> list[Prediction]:
        """Answers queries one after another, each from the same state; see `predict`."""
        return [self.predict(image) for image in images]

    def prime(self, after_row: Callable[[], object] = lambda: None) -> float | None:
        """Does nothing: a service that is ready is primed."""
        del after_row
        return None

    def calibrate(self) -> float | None:
        """Does nothing: the service calibrates by itself, before it is frozen."""
        return None

    def snapshot(self) -> State:
        """Returns the number of the state."""
        return {"state_version": np.array(self._version)}

    def restore(self, state: State) -> None:
        """Does nothing, for the service is still in that state.

        Raises:
          UserError: it is another state.
        """
        if state.keys() != {"state_version"} or int(state["state_version"]) != self._version:
            raise UserError(
                f"{self._client.url}: is frozen in state {self._version}; to go to another, thaw "
                "it and roll it back"
            )
