"""Refusing: an answer is given only where an attack around the query finds no other label."""

import dataclasses

from rmc_tf.config.attack import AttackConfig
from rmc_tf.config.section import Section, require


@dataclasses.dataclass(frozen=True, kw_only=True)
class RefusingConfig(Section):
    """How a defence looks around a query before it answers (`rmc_tf.defences.refusing`)."""

    _where = "refusing"

    attack: str = ""
    """The attack model whose norm and ε are meant, a name out of `attacks`. Empty: the first of
    those that D' is made by (`augmented_set.attacks`)."""
    share: float = 0.25
    """The radius within which it looks, as a share of ε (Palumbo et al., ICML 2024: 1/4)."""
    iterations: int = 10
    """Steps towards each class. Ours: a small ball is nearly linear; as `AttackConfig.iterations`.
    An answer that is refused takes fewer as a rule, since they end with the first other label."""
    step: float = 0.25
    """The size of one, as a share of the radius (Madry et al. 2017: 2.5 × radius ÷ steps)."""
    rivals: int = 9
    """At so many of the classes likeliest beside the answer, all at once: who climbs the margin
    alone stays with the one that leads at x̂. As `AttackConfig.classes_tried` (Croce & Hein
    2020a)."""
    restarts: int = 1
    """From so many points of the ball: x̂ first, then random ones. Ours: 1, so that nothing is
    drawn; another start finds little that these steps don't."""

    def __post_init__(self) -> None:
        self._within("(0, 1]", "share", "step")
        self._within("[1, ∞)", "iterations", "rivals", "restarts")

    def model(self, given: AttackConfig) -> AttackConfig:
        """Returns an attack model as it is looked by: in its norm, in the smaller ball.

        Raises:
          UserError: its norm bounds no ball that is searched by gradients.
        """
        rule = "only balls of linf and l2 are looked at; name such a model by refusing.attack"
        require(given.norm in ("linf", "l2"), "attacks.*.norm", given.norm, rule)
        radius = self.share * given.epsilon
        step = self.step * radius
        return AttackConfig(
            norm=given.norm, epsilon=radius, step_size=step, iterations=self.iterations
        )
