"""`--config.defence=recommended`: what docs/withstanding.md recommends in a situation."""

import dataclasses
from typing import NamedTuple

from rmc_tf.config.experiment import ExperimentConfig
from rmc_tf.config.section import require
from rmc_tf.config.service import SERVED
from rmc_tf.config.situation import SituationConfig


class Recommendation(NamedTuple):
    """A defence, and why."""

    defence: str
    """A name of `rmc_tf.defences`."""
    because: str


def recommend(situation: SituationConfig) -> Recommendation:
    """Returns which defence was shown to add most in a situation."""
    if situation.certificate:
        return Recommendation("smoothed", "its answers come with a certified radius, under L2")
    if situation.may_refuse:
        if situation.adversarially_trained:
            return Recommendation("refusing", "an answer that is near to another may be refused")
        return Recommendation(
            "refusing_cleansing",
            "a regular network becomes robust while it serves, and what is near to another answer "
            "may be refused",
        )
    if not situation.adversarially_trained:
        return Recommendation("cleansing", "a regular network becomes robust while it serves")
    if situation.keeps_a_secret:
        return Recommendation(
            "private",
            "several networks that nobody else has, and that expire, withstand more than one that "
            "everybody knows, for as long as they are secret",
        )
    return Recommendation(
        "none",
        "where nothing may be refused, nothing can be kept secret and no certificate is wanted, "
        "nothing at run time was shown to add to an adversarially trained network what an ensemble "
        "of as many doesn't",
    )


def recommended(config: ExperimentConfig, serves: bool = False) -> tuple[ExperimentConfig, str]:
    """Returns an experiment with the recommended defence where it asks for it, and a line of why.

    It is evaluated and audited beside the bare network, and served. What is trained in the
    background is evaluated as it is in the end. The line also says how long the first answer takes.

    Args:
      config: the experiment.
      serves: whether it is to be put into a bundle.

    Raises:
      UserError: it is a table, which has its own defences; no bundle can hold it; or a situation is
        told, and nothing is recommended.
    """
    if not config.defence:
        for name, value in config.situation.to_dict().items():
            rule = "only --config.defence=recommended reads it; give that, too, or leave it out"
            require(not value, f"situation.{name}", value, rule)
        return config, ""
    rule = "a table has its own defences; leave one of them out"
    require(not config.table.rows, "defence", config.defence, rule)
    defence, because = recommend(config.situation)
    served = next((each for each in SERVED if each == defence), None)
    rule = f"here that is {defence}, which can't be served; leave it out, and choose by "
    rule += f"--config.service.defence={'|'.join(SERVED)}"
    require(served is not None or not serves, "defence", config.defence, rule)
    steps = config.cleansing.primed_steps or config.cleansing.most_steps
    rule = "it has no end to be evaluated at; give --config.cleansing.primed_steps, too"
    ends = steps > 0 or serves or "cleansing" not in defence
    require(ends, "cleansing.most_steps", config.cleansing.most_steps, rule)
    made = dataclasses.replace(
        config,
        defence="",
        situation=SituationConfig(),
        evaluation=dataclasses.replace(
            config.evaluation, defences=tuple(dict.fromkeys(("none", defence)))
        ),
        audit=dataclasses.replace(config.audit, defences=(defence,)),
        cleansing=dataclasses.replace(config.cleansing, primed_steps=steps),
        service=dataclasses.replace(config.service, defence=served or config.service.defence),
    )
    own = {"smoothed": config.smoothing.fitted, "private": config.private.primed_steps}
    first = own.get(defence, steps if "cleansing" in defence else 0)
    cost = f"; {first:,} steps before the first answer of an evaluation or audit" if first else ""
    cost += ", none while it is served" if first and "cleansing" in defence else ""
    return made, f"defence: {defence}, for {because} (docs/withstanding.md){cost}"
