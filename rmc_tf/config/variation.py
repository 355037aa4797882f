"""What a row of a table changes of the method."""

import dataclasses

from rmc_tf.config.section import Section


@dataclasses.dataclass(frozen=True, kw_only=True)
class VariationConfig(Section):
    """What a row says of the method's two sizes (Figure 4); None: as the experiment has it.

    A value must be such as the setting of the same name may have.
    """

    k: int | None = None
    """K: `rmc.k`."""
    adversarial_per_row: float | None = None
    """(N' − |D|)/|D|: `augmented_set.adversarial_per_row`."""
