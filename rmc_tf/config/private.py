"""A private, changing network: what answers is what no attacker has, and not for long."""

import dataclasses
from typing import Literal

from rmc_tf.config.section import Section


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrivateConfig(Section):
    """How the networks are trained that answer (`rmc_tf.defences.private`), and how long they do.

    The idea is that of transductive adversarial training (Chen et al. 2022, "Towards Evaluating
    the Robustness of Neural Networks Learned by Transduction"): a network that was adversarially
    trained with fresh randomness after the attacker has chosen x'. Theirs is trained for each set
    of queries; the numbers below are ours.
    """

    _where = "private"

    networks: int = 3
    """How many answer together, by the mean of their logits; 1: one alone. Ours: as long as they
    are secret one withstands as much; when they leak, three withstand what an ensemble does."""
    expire_after: int = 1000
    """Then others take their place, after so many answers. Ours: about as long as these take to be
    trained, where five ask a second; a black box asks five times as often for one image (Square:
    5,000 queries, Andriushchenko et al. 2020). 0: never."""
    first_steps: int = 1000
    """Steps of Adam of each of the first. Ours: on digits, and on 5,000 rows of Fashion-MNIST, what
    begins with random weights gains little more after as many (docs/withstanding.md)."""
    successor_steps: int = 1000
    """And of each that takes its place. Ours: as many."""
    first_from: Literal["random", "deployed"] = "random"
    """What the first begin with: random weights, or those of the deployed network, perturbed by
    `noise`. Ours: random ones, as the next says."""
    successor_from: Literal["random", "deployed", "predecessor"] = "random"
    """And those that come after; "predecessor": the weights that they take the place of, perturbed
    likewise. Ours: on digits, of the points that an attack broke on a network, it broke nearly all
    after 400 steps of fine-tuning, and little more than half on one that began with random ones."""
    noise: float = 0.0
    """How far weights that aren't random ones are perturbed at first: the standard deviation of
    what is added to each kernel, as a share of its own. Ours: none; the order of the rows and the
    starts of the attacks are others in any case."""
    attack: str = ""
    """The attack model that is trained against, a name out of `attacks`. Empty: the first of those
    that D' is made by (`augmented_set.attacks`)."""
    batch_size: int = 64
    """Rows of a step, as in `CleansingConfig`."""
    learning_rate: float = 1e-3
    """Of Adam at first, that of `TrainingConfig`; as there it falls to 0 along a cosine."""
    clean_share: float = 0.0
    """The weight of the loss on the same rows as they are. 0: none (Madry et al. 2017)."""
    secret: int = 0
    """What all of it is drawn by. 0: a seed out of the experiment's. Whoever reads it, or a state,
    has the networks: it is worth what the folders are worth that these are in."""
    leaked: bool = False
    """Whether attackers see the networks, for an audit of what remains then."""

    def __post_init__(self) -> None:
        self._within("[1, ∞)", "networks", "first_steps", "successor_steps", "batch_size")
        self._within("[0, ∞)", "expire_after", "noise", "secret")
        self._within("(0, 1)", "learning_rate")
        self._within("[0, 1)", "clean_share")

    @property
    def primed_steps(self) -> int:
        """How many steps come before the first query."""
        return self.networks * self.first_steps
