"""Attack models."""

import dataclasses
import math
from typing import Literal

from rmc_tf.config.section import Section

Norm = Literal["linf", "l2", "l0"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttackConfig(Section):
    """An attack model: a known attack with the norm ball A(x) that it may use (footnote 1).

    Each attack reads some of these settings; one that it doesn't read is refused.
    """

    _where = "attacks.*"

    attack: str = "pgd"
    """A name of `rmc_tf.attacks`."""
    norm: Norm = "linf"
    """The norm of the ball; of the distance that is minimised (CW-L2: l2; JSMA: l0)."""
    epsilon: float = 8 / 255
    """Radius of the ball A(x), in units of the pixel range [0, 1] (section 4.1)."""
    step_size: float = 2 / 255
    """BIM, PGD, MIM. Madry et al. 2017; the paper doesn't say."""
    iterations: int = 10
    """BIM, PGD, MIM: the paper's number of descent iterations for ImageNet; it doesn't say for
    CIFAR-10. CW-L2: of each step of the binary search; the field's usual value is 1,000. APGD, FAB:
    of each run; their papers' value is 100 (Croce & Hein 2020a, 2020b)."""
    random_start: bool = True
    """PGD and APGD start anywhere in the ball (Madry et al. 2017)."""
    targeted: bool = False
    """Whether it aims at a class, drawn for each image from those that aren't the label. The
    paper's CW-L2 and JSMA do (section 4.1)."""
    loss: Literal["cross_entropy", "margin", "dlr"] = "cross_entropy"
    """FGSM, BIM, PGD, MIM, APGD: what they climb. The paper's is the cross entropy (Eq. 1), which
    has no gradient left where a network is all but sure; "margin" has (Carlini & Wagner 2017b, f6),
    and so has "dlr", the margin relative to the other logits (Croce & Hein 2020a, Eq. 6)."""
    restarts: int = 1
    """APGD, Square, AutoAttack: how often all is tried on what isn't broken yet, from another point
    each time (AutoAttack, standard: 1)."""
    classes_tried: int = 9
    """APGD-T, FAB, AutoAttack: at how many of the most likely other classes they aim, one after
    another (Croce & Hein 2020a: 9)."""
    queries: int = 5000
    """Square, AutoAttack: for each image and restart (Croce & Hein 2020a: 5,000)."""
    patience: int = 100
    """AutoAttack: iterations of each run of APGD and FAB (Croce & Hein 2020a: 100)."""
    decay: float = 1.0
    """MIM: of the momentum (Dong et al. 2018)."""
    learning_rate: float = 0.002
    """CW-L2: of its Adam (section 4.1)."""
    confidence: float = 0.0
    """CW-L2: κ, by how much the logit must win (Carlini & Wagner 2017b; CleverHans' default)."""
    initial_const: float = 0.01
    """CW-L2: c at the begin of the binary search (CleverHans' default)."""
    binary_search_steps: int = 5
    """CW-L2: for c (CleverHans' default)."""
    theta: float = 1.0
    """JSMA: by how much a pixel changes (Papernot et al. 2016a: all the way to white)."""
    gamma: float = 0.145
    """JSMA: the largest share of pixels that change (Papernot et al. 2016a: 14.5 %)."""
    saliency: Literal["paper", "target"] = "paper"
    """JSMA: what makes a pair of pixels the best. "paper": it speaks for the target and against
    the other classes (Papernot et al. 2016a, Eq. 8). "target": for the target alone, as ART."""

    def __post_init__(self) -> None:
        rule = "must be above 0, and at most 1 under L∞"
        most = 1 if self.norm == "linf" else math.inf
        fits = 0 < self.epsilon <= most and math.isfinite(self.epsilon)
        self._require(fits, "epsilon", rule)
        rule = f"must be above 0 and at most epsilon = {self.epsilon:g}"
        own_steps = ("fgsm", "apgd", "apgd_t", "fab", "square", "autoattack")  # they follow from ε
        fits = self.attack in own_steps or 0 < self.step_size <= self.epsilon
        self._require(fits, "step_size", rule)
        self._within("[1, ∞)", "iterations", "binary_search_steps")
        self._within("[1, ∞)", "restarts", "classes_tried", "queries", "patience")
        self._within("[0, ∞)", "decay", "confidence")
        self._within("(0, ∞)", "learning_rate", "initial_const")
        self._require(0 < abs(self.theta) <= 1, "theta", "must be in [-1, 1], and not 0")
        self._within("(0, 1]", "gamma")
