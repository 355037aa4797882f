"""The defence that is recommended in a situation, and what comes of it in an experiment."""

import itertools

import pytest

from rmc_tf import defences, main
from rmc_tf.common.errors import UserError
from rmc_tf.config import SituationConfig, recommend, recommended, shipped

FIELDS = ("adversarially_trained", "may_refuse", "keeps_a_secret", "certificate")
SITUATIONS = [
    SituationConfig(**dict(zip(FIELDS, values, strict=True)))
    for values in itertools.product((False, True), repeat=4)
]


@pytest.mark.parametrize("situation", SITUATIONS)
def test_every_situation_has_a_defence_that_does_what_it_allows_and_no_more(
    situation: SituationConfig,
) -> None:
    name, because = recommend(situation)
    assert name in defences.DEFENCES and because
    assert ("refusing" in name) <= situation.may_refuse
    assert (name == "smoothed") == situation.certificate
    assert ("private" in name) <= situation.keeps_a_secret
    assert not (situation.adversarially_trained and "cleansing" in name)


def test_what_is_recommended_is_evaluated_audited_and_served() -> None:
    base = shipped.of_dataset("digits")
    assert recommended(base) == (base, "")
    made, why = recommended(base.overridden({"defence": "recommended"}), serves=True)
    assert made.evaluation.defences == ("none", "cleansing")
    assert made.audit.defences == ("cleansing",)
    assert made.service.defence == "cleansing" in why
    assert made.cleansing.primed_steps == made.cleansing.most_steps, "as it is in the end"
    assert recommended(made) == (made, ""), "it is applied once"


@pytest.mark.parametrize("field", FIELDS)
def test_a_situation_is_not_told_for_nothing(field: str) -> None:
    asked = shipped.of_dataset("digits").overridden({f"situation.{field}": True})
    line = f"--config.situation.{field}=True: only --config.defence=recommended reads it; give"
    with pytest.raises(UserError, match=line):
        recommended(asked)
    made, _ = recommended(asked.overridden({"defence": "recommended"}))
    assert recommended(made) == (made, ""), "it is applied once"


@pytest.mark.parametrize(
    ("situation", "cost"),
    [
        ({}, "; 40 steps before the first answer of an evaluation or audit, none while it is s"),
        (
            {"may_refuse": True},
            "; 40 steps before the first answer of an evaluation or audit, none",
        ),
        ({"certificate": True}, "; 1,300 steps before the first answer of an evaluation or audit"),
        ({"certificate": True, "adversarially_trained": True}, "; 1,300 steps before"),
        ({"keeps_a_secret": True, "adversarially_trained": True}, "; 3,000 steps before the first"),
        ({"may_refuse": True, "adversarially_trained": True}, ""),
    ],
)
def test_the_line_says_what_is_waited_for(situation: dict[str, bool], cost: str) -> None:
    asked = shipped.of_dataset("digits").overridden(
        {
            "defence": "recommended",
            "cleansing.primed_steps": 40,
            "smoothing.steps": 1300,
            **{f"situation.{name}": value for name, value in situation.items()},
        }
    )
    line = recommended(asked)[1]
    assert cost in line and ("steps" in line) == bool(cost) and "\n" not in line
    assert ("served" in line) == ("none while it is served" in line) == ("40" in line)


def test_what_no_bundle_can_hold_is_not_served_by_another_name() -> None:
    asked = shipped.of_dataset("digits").overridden(
        {"defence": "recommended", "situation.adversarially_trained": True}
    )
    assert recommended(asked)[0].evaluation.defences == ("none",)
    with pytest.raises(UserError, match=r"defence=recommended: .* none, which can't be served"):
        recommended(asked, serves=True)


def test_a_network_that_is_cleansed_for_ever_is_not_evaluated_before_it_begins() -> None:
    asked = shipped.of_dataset("digits").overridden(
        {"defence": "recommended", "cleansing.most_steps": 0}
    )
    with pytest.raises(UserError, match="most_steps=0: it has no end to be evaluated at"):
        recommended(asked)
    assert recommended(asked, serves=True)[0].cleansing.primed_steps == 0
    made = recommended(asked.overridden({"cleansing.primed_steps": 5}))[0]
    assert made.cleansing.primed_steps == 5


def test_a_table_is_not_given_another_defence(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["main.py", "--config=table1", "--config.defence=recommended"]
    assert main.main(flags) == 2
    assert "a table has its own defences" in capsys.readouterr().err
