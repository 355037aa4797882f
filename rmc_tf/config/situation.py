"""What a deployment allows, by which `--config.defence=recommended` chooses."""

import dataclasses

from rmc_tf.config.section import Section


@dataclasses.dataclass(frozen=True, kw_only=True)
class SituationConfig(Section):
    """What is known of a deployed network, and of who waits for its answers."""

    _where = "situation"

    adversarially_trained: bool = False
    """Whether the network was, so that its present weights withstand something."""
    may_refuse: bool = False
    """Whether an answer may be refused: a person, or a slower network, then takes over."""
    keeps_a_secret: bool = False
    """Whether weights and a number can be kept from attackers, who may know all else."""
    certificate: bool = False
    """Whether an answer is to come with a radius, under L2, within which it is proven not to
    change."""
