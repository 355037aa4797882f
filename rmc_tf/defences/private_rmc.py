"""RMC on top of private, changing networks: N'(x̂) is chosen by features that no attacker has.

The rows of D' stay those that PREPARE left, of the deployed network. Where networks begin to
answer, D' is indexed by them, and local adaptation starts from them; θ* moves on from there
(lines 12–21 of Algorithm 1), until they expire. What is gained by it is to be held against the same
networks without it (`rmc_tf.defences.private`).
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from rmc_tf.augmented_set.features import of_rows
from rmc_tf.augmented_set.rows_on_disk import SearchedSet
from rmc_tf.common.errors import UserError
from rmc_tf.common.seeding import derive_seed
from rmc_tf.common.traces import Traces
from rmc_tf.config import AttackConfig, IndexConfig, PrivateConfig, RMCConfig, with_profile
from rmc_tf.defences.base import Defence, Prediction, State
from rmc_tf.defences.private import Private
from rmc_tf.defences.rmc import RMC
from rmc_tf.defences.rmc_checks import check_d_prime
from rmc_tf.defences.trainee import weights_of
from rmc_tf.networks.classifier import Classifier
from rmc_tf.search.index import FeatureIndex

_ON_TOP = "rmc_"
"""What the names of RMC's arrays in a state begin with."""
_BLOCK = 4096
"""Rows of D' that are in memory at once. Ours: as where features are copied."""


class PrivateRMC(Private):
    """Private networks whose mean adapts to each query as RMC does.

    Attributes:
      rmc: what adapts; its static network is the mean of those that are private.
      augmented_set: D', as it was given.
      index_config: how D' is searched.
    """

    def __init__(
        self,
        classifier: Classifier,
        augmented_set: SearchedSet,
        config: PrivateConfig,
        attack: AttackConfig,
        method: RMCConfig | None = None,
        index: IndexConfig | None = None,
        *,
        seed: int = 0,
    ) -> None:
        """Compiles training and adaptation, and indexes D' by the networks as they are.

        Args:
          classifier: the deployed network, which stays as it is.
          augmented_set: D'; the networks are trained on its rows of D.
          config: how they are trained, and how long they answer.
          attack: the attack model that they are trained against.
          method: of the local adaptation. None: its defaults.
          index: how D' is searched. None: its defaults.
          seed: of all that is drawn, unless the config has a secret.

        Raises:
          UserError: as for `Private` and for `RMC`.
        """
        check_d_prime(augmented_set)  # private networks alone take other rows, too
        super().__init__(classifier, augmented_set, config, attack, seed=seed)
        self.augmented_set, self.index_config = augmented_set, index or IndexConfig()
        self._mean = self.network
        method = with_profile(method or RMCConfig())
        self._k = min(method.k, len(augmented_set))
        method = dataclasses.replace(method, k=self._k)
        self.rmc = RMC(self._mean, augmented_set, self._indexed(), method)
        self.network = self.rmc.network
        self._fresh = self.rmc.snapshot()
        self._of = self._mean.weights_checksum()

    @property
    def still(self) -> Defence | None:
        """None: an answer moves θ*."""
        return None

    @property
    def traces(self) -> Traces:
        """What is told of every local adaptation."""
        return self.rmc.traces

    @traces.setter
    def traces(self, traces: Traces) -> None:
        self.rmc.traces = traces

    def _indexed(self) -> FeatureIndex:
        """Returns an index over the features of D' by the networks as they are."""
        count = len(self.augmented_set)
        found = [
            of_rows(self._mean, self.augmented_set, np.arange(begin, min(begin + _BLOCK, count)))[0]
            for begin in range(0, count, _BLOCK)
        ]
        return FeatureIndex(np.concatenate(found), self.index_config, self._k)

    def _index_anew(self) -> None:
        """Has D' searched by the networks as they are, unless it is already."""
        now = self._mean.weights_checksum()
        if now != self._of:
            self.rmc.searching(self.augmented_set, self._indexed())()
            self._of = now

    def _finish(self, after_piece: Callable[[], object] = lambda: None) -> None:
        super()._finish(after_piece)
        self._index_anew()
        # θ* are the new networks' weights; Adam begins anew, and so does what is drawn.
        weights = {f"weights_{i}": array for i, array in enumerate(weights_of(self._mean))}
        starts = {f"start_{name}": value for name, value in weights.items()}
        random = self._fresh["random"].copy()
        random[0] = derive_seed(self._secret, "rmc", self.generation)
        fresh = {**self._fresh, **weights, **starts, "random": random}
        made_of = self.rmc.snapshot()["made_of"]
        self.rmc.restore({name: fresh[name] for name in self._fresh} | {"made_of": made_of})

    def _answer(self, image: np.ndarray) -> Prediction:
        return self.rmc.predict(image)

    def prime(self, after_row: Callable[[], object] = lambda: None) -> float | None:
        """Trains the first networks, and answers rows of D' by them; see `RMC.prime`."""
        with self._lock:
            return _sum(super().prime(after_row), self.rmc.prime(after_row))

    def calibrate(self) -> float | None:
        """Lines 18–21 of the query before; or has others answer, where these have expired."""
        with self._lock:
            if not self.expired:
                return self.rmc.calibrate()
            return _sum(super().calibrate(), self.rmc.prime())

    def snapshot(self) -> State:
        """Returns a copy of all weights, θ* among them, and of how far it is. It is secret."""
        with self._lock:
            own = {f"{_ON_TOP}{name}": array for name, array in self.rmc.snapshot().items()}
            return {**super().snapshot(), **own}

    def restore(self, state: State) -> None:
        """Goes back to a state, to the bit.

        Raises:
          UserError: as for `Private`, or RMC's part is of something else; nothing has changed then.
        """
        with self._lock:
            before = self.snapshot()
            inner = {n: a for n, a in state.items() if not n.startswith(_ON_TOP)}
            own = {n.removeprefix(_ON_TOP): a for n, a in state.items() if n.startswith(_ON_TOP)}
            super().restore(inner)
            try:
                self._index_anew()
                self.rmc.restore(own)
            except UserError:
                self.restore(before)
                raise


def _sum(*seconds: float | None) -> float | None:
    """Returns what all took; None where nothing was left to do."""
    taken = [each for each in seconds if each is not None]
    return sum(taken) if taken else None
