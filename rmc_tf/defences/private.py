"""A private, changing network: the answer comes from networks that no attacker has.

They are adversarially trained by a seed that is kept secret, answer so many queries, and then
expire: others, trained meanwhile by another seed, take their place (after Chen et al. 2022, whose
"transductive adversarial training" trains one for each set of queries). What is gained is what an
attack loses on its way from one seed's network to another's, so hold it against a static ensemble
of as many networks (`rmc_tf.defences.ensemble`), which hides nothing.
"""

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, SupportsIndex

import numpy as np

from rmc_tf.augmented_set.benign import rows_of_d
from rmc_tf.common.errors import UserError
from rmc_tf.common.forks import ThreadLock
from rmc_tf.common.progress import progress
from rmc_tf.common.seeding import derive_seed
from rmc_tf.config import AttackConfig, PrivateConfig
from rmc_tf.data.images import check_images
from rmc_tf.data.rows import LabelledRows
from rmc_tf.defences.base import Defence, Prediction, State, one_after_another
from rmc_tf.defences.ensemble import mean_of
from rmc_tf.defences.rmc_state import MadeOf
from rmc_tf.defences.trainee import Trainee, Weights, give, perturbed, weights_of
from rmc_tf.defences.undefended import Undefended
from rmc_tf.networks.classifier import Classifier, softmax
from rmc_tf.networks.fresh import fresh_weights

_AT_ONCE = 25
"""Steps after which a state may be taken while it is primed, as in `cleansing`. Ours."""
_NONE = -1
"""The generation that answers before there is any."""


class Private:
    """The mean of some networks that nobody else has, until others take their place.

    Attributes:
      config: how they are trained, and how long they answer.
      attack: the attack model that they are trained against.
      rows: D, by which they are trained.
      static: the deployed network, which answers nothing.
      network: what answers now. It is kept from an attacker, unless it is said to be leaked.
      network_is_secret: whether it is; an audit then sees it only where `network=` gives it.
      surrogate: trains another of its networks by another secret, as an attacker can; None, where
        what answers is leaked.
    """

    queries_at_once = 1

    def __init__(
        self,
        classifier: Classifier,
        rows: Any,
        config: PrivateConfig,
        attack: AttackConfig,
        *,
        seed: int = 0,
    ) -> None:
        """Compiles the training; `prime`, or the first query, trains the first networks.

        Args:
          classifier: the deployed network, which stays as it is.
          rows: D, as `rmc_tf.as_rows` takes it: rows, or (images, labels); or a D', of whose rows
            those of D are taken.
          config: how they are trained, and how long they answer.
          attack: the attack model that they are trained against.
          seed: of all that is drawn, unless the config has a secret.

        Raises:
          UserError: no such attack, or rows that don't fit the network.
        """
        self.config, self.attack, self.static = config, attack, classifier
        rows = rows_of_d(rows, classifier.num_classes)
        self.rows: LabelledRows = rows
        self._trainee = Trainee(classifier, rows, config, attack)
        self._networks = [classifier.clone() for _ in range(config.networks)]
        self.network = mean_of(self._networks)
        self.network_is_secret = not config.leaked
        self.surrogate: Callable[[int], Classifier] | None = None
        if self.network_is_secret:
            self.surrogate = self._surrogate
        self._secret = derive_seed(config.secret or seed, "private")
        self._now = _Counts()
        self._coming: list[Weights] = []  # of the generation that comes next, those that are done
        made_of = classifier.weights_checksum(), classifier.source
        self._made_of = MadeOf("Private", *made_of, rows.fingerprint, rows.source)
        self._lock = ThreadLock()  # a service trains in the background

    @property
    def generation(self) -> int:
        """How often the networks that answer have been replaced; −1 before there are any."""
        return self._now.generation

    @property
    def predictions(self) -> int:
        """How many queries were answered."""
        return self._now.predictions

    @property
    def expired(self) -> bool:
        """Whether the present networks have answered as often as they may."""
        return bool(self.config.expire_after) and self._now.answered >= self.config.expire_after

    @property
    def still(self) -> Defence | None:
        """The networks that answer now, however often they are asked; see `base.still`."""
        return Undefended(self.network)

    @property
    def goes_on(self) -> bool:
        """Whether there is something left to train."""
        wanted = bool(self.config.expire_after) or self._now.generation == _NONE
        return wanted and len(self._coming) < self.config.networks

    @property
    def traces_of_steps(self) -> int:
        """How often steps were traced; 1, unless there is a bug."""
        return self._trainee.traces

    def advance(self, most: int = 1) -> int:
        """Takes at most so many steps of what comes next; it answers nothing before its time.

        Whoever cuts the work into pieces gets the same weights, to the bit.

        Returns:
          how many steps it took; 0, where all that comes next is ready.

        Raises:
          UserError: memory ran out, or the weights aren't finite any more.
        """
        with self._lock:
            if not self.goes_on:
                return 0
            coming, number = self._now.generation + 1, len(self._coming)
            if not self._trainee.steps:
                before = weights_of(self._networks[number])
                self._begin(self._secret, coming, number, before)
            taken = self._trainee.take(most)
            if self._trainee.steps == self._trainee.most:
                self._coming.append(self._trainee.weights)
                self._trainee.steps = 0
            return taken

    def _begin(self, secret: int, generation: int, number: int, before: Weights) -> None:
        """Begins to train one network of a generation; `before`: the one that it replaces."""
        config, first = self.config, generation == 0
        seed = derive_seed(secret, "private network", generation, number)
        start = config.first_from if first else config.successor_from
        if start == "random":
            weights = fresh_weights(self.static, seed)
        else:
            own = before if start == "predecessor" else weights_of(self.static)
            weights = perturbed(self.static, own, config.noise, seed)
        self._trainee.begin(seed, weights, config.first_steps if first else config.successor_steps)

    def _finish(self, after_piece: Callable[[], object] = lambda: None) -> None:
        """Trains what comes next to its end, and has it answer."""
        while self.goes_on:
            self.advance(_AT_ONCE)
            after_piece()
        for network, weights in zip(self._networks, self._coming, strict=True):
            give(network, weights)
        self._coming = []
        self._now = dataclasses.replace(self._now, generation=self._now.generation + 1, answered=0)

    def _surrogate(self, seed: int) -> Classifier:
        """Returns a network that was trained as the first of those that answer, by another secret.

        Where each begins with the one before it, so does the attacker.
        """
        with self._lock:
            kept, copy = self._trainee.snapshot(), self.static.clone()
            secret, now = derive_seed(seed, "surrogate"), max(0, self._now.generation)
            chained = self.config.successor_from == "predecessor"
            for generation in range(now + 1) if chained else [now]:
                self._begin(secret, generation, 0, weights_of(copy))
                while self._trainee.steps < self._trainee.most:
                    self._trainee.take(_AT_ONCE)
                give(copy, self._trainee.weights)
            self._trainee.restore(kept)
            return copy

    def prime(self, after_row: Callable[[], object] = lambda: None) -> float | None:
        """Trains the first networks, or does what is due before the next query.

        See `Defence.prime`. An audit goes on from here, so that it waits once for those that come.
        """
        with self._lock:
            if self._now.generation != _NONE:
                return self.calibrate()
            begun, most = time.perf_counter(), self.config.first_steps
            wanted, done = self.config.primed_steps, len(self._coming) * most + self._trainee.steps

            with progress("train in private", wanted, done, "step") as tell:

                def after_piece() -> None:
                    nonlocal done
                    now = len(self._coming) * most + self._trainee.steps
                    tell(now - done)
                    done = now
                    after_row()

                self._finish(after_piece)
            return time.perf_counter() - begun

    def predict(self, image: np.ndarray) -> Prediction:
        """Answers one query; see `Defence.predict`."""
        begun = time.perf_counter()
        x = np.asarray(image)[None]
        check_images(x, self.static.image_shape, "query")
        with self._lock:
            waited = time.perf_counter()
            self.prime()  # where this is the first query, or the one before was their last
            ready = time.perf_counter()
            answer = self._answer(x[0])
            self._now = dataclasses.replace(
                self._now,
                answered=self._now.answered + 1,
                predictions=self._now.predictions + 1,
            )
        return dataclasses.replace(
            answer,
            seconds=time.perf_counter() - begun,
            waited=waited - begun,
            calibrated=ready - waited,
        )

    def _answer(self, image: np.ndarray) -> Prediction:
        """Returns what the networks answer to [H, W, C]."""
        begun = time.perf_counter()
        _, logits = self.network.forward(image[None])
        probabilities = softmax(logits[0])
        took = time.perf_counter() - begun
        return Prediction(int(probabilities.argmax()), probabilities, answered=took)

    def predict_many(self, images: np.ndarray | Sequence[np.ndarray]) -> list[Prediction]:
        """Answers queries one after another; see `Defence.predict_many`."""
        return one_after_another(self, images)

    def calibrate(self) -> float | None:
        """Has others answer from here on, where the present networks have expired.

        What of these isn't trained yet is trained now; see `Defence.calibrate`.
        """
        with self._lock:
            if not self.expired:
                return None
            begun = time.perf_counter()
            self._finish()
            return time.perf_counter() - begun

    def snapshot(self) -> State:
        """Returns a copy of all weights, of the optimizer, and of how far it is. It is secret."""
        with self._lock:
            sets = {"member": [weights_of(each) for each in self._networks]}
            sets["coming"] = self._coming
            counts = [*dataclasses.astuple(self._now), len(self._coming)]
            return {
                **self._trainee.snapshot(),
                **{
                    f"{kind}_{number}_{i}": array
                    for kind, networks in sets.items()
                    for number, weights in enumerate(networks)
                    for i, array in enumerate(weights)
                },
                "made_of": np.array(self._made_of),
                "private_secret": np.array(self._secret, np.int64),
                "private_counts": np.array(counts, np.int64),
            }

    def restore(self, state: State) -> None:
        """Goes back to a state, to the bit.

        Raises:
          UserError: it is no state, or of another network, D or number of networks; nothing has
            changed then.
        """
        with self._lock:
            self._made_of.check(state)
            number = self._number_of_coming(state)
            each = range(len(self.static.model.variables))
            for i, network in enumerate(self._networks):
                give(network, [state[f"member_{i}_{j}"] for j in each])
            self._coming = [[state[f"coming_{i}_{j}"].copy() for j in each] for i in range(number)]
            self._trainee.restore(state)
            self._secret = int(state["private_secret"])
            generation, answered, predictions, _ = (int(n) for n in state["private_counts"])
            self._now = _Counts(generation, answered, predictions)

    def _number_of_coming(self, state: State) -> int:
        """Returns how many finished networks a state holds; refuses one with other arrays."""
        counts = state.get("private_counts", np.zeros(0))
        number = int(counts[-1]) if counts.shape == (len(_COUNTED),) else -1
        mine = self._trainee.snapshot() | {"private_secret": np.array(0, np.int64)}
        if 0 <= number <= self.config.networks:
            kinds = {"member": self.config.networks, "coming": number}
            mine |= {
                f"{kind}_{i}_{j}": array
                for kind, count in kinds.items()
                for i in range(count)
                for j, array in enumerate(self._trainee.weights)
            }
        found = {n: (a.shape, a.dtype) for n, a in state.items()}
        for name in ("made_of", "private_counts"):
            found.pop(name, None)
        if found != {n: (a.shape, a.dtype) for n, a in mine.items()}:
            raise UserError(
                "this state holds other arrays than this defence's do: it was saved with another "
                "private.networks, or is damaged; set it as it was"
            )
        return number

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        """Refuses to be pickled or copied, which what is compiled can't be, by a `UserError`."""
        raise UserError(
            "Private can't be pickled, nor copied by `copy`; make another of the same parts, and "
            "give it the state: snapshot() and restore()"
        )


@dataclasses.dataclass(frozen=True)
class _Counts:
    """How far it is."""

    generation: int = _NONE
    """The one that answers."""
    answered: int = 0
    """Queries, by this generation."""
    predictions: int = 0
    """Queries, in all."""


_COUNTED = (*(field.name for field in dataclasses.fields(_Counts)), "coming")
"""What `private_counts` of a state holds."""
