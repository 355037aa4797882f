"""What an object shows besides its network is used against it, and is checked before."""

import dataclasses
import pathlib
from typing import Any

import jsonschema
import keras
import numpy as np
import pytest
import tensorflow as tf

from rmc_tf import attacks, audit
from rmc_tf.audit import budgets
from rmc_tf.audit.ball import Attacked, Ball
from rmc_tf.audit.kept import KeptOnDisk
from rmc_tf.audit.particular import Particular, compared
from rmc_tf.audit.report import Report
from rmc_tf.audit.standing import Standing
from rmc_tf.audit.subject import subject as subject_of
from rmc_tf.common.errors import UserError
from rmc_tf.config import AttackConfig
from rmc_tf.networks.classifier import Classifier

Examples = tuple[np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def known(templates: Classifier, test_rows: Examples) -> Examples:
    """Six digits that the network knows; in a ball of 0.12 some stand."""
    images, labels = test_rows
    rows = np.flatnonzero(templates.forward(images)[1].argmax(1) == labels)[:6]
    return images[rows], labels[rows]


class Hidden:
    """Tells labels alone, of a network that it doesn't show."""

    def __init__(self, model: keras.Model) -> None:
        self._label = tf.function(lambda x: tf.argmax(model(x, training=False)[0]))

    def predict(self, image: np.ndarray) -> np.ndarray:
        return np.asarray(np.eye(10, dtype=np.float32)[int(self._label(image[None]))])

    def snapshot(self) -> int:
        return 0

    def restore(self, state: int) -> None:
        pass


def audited(given: Any, known: Examples, epsilon: float = 0.12) -> Report:
    return audit.of(given, *known, epsilon=epsilon, say=lambda line: None)


@pytest.fixture(scope="module")
def stands(templates: Classifier, known: Examples) -> np.ndarray:
    """Which points stand if the network is shown: of a linear one PGD on the margin says so."""
    steps = AttackConfig(epsilon=0.12, step_size=0.015, iterations=40, loss="margin")
    made = attacks.build(steps, templates)(*known, 0)
    return np.asarray(templates.forward(made)[1].argmax(1) == known[1])


def test_who_trains_the_same_network_breaks_what_is_kept_secret_as_if_it_were_shown(
    templates: Classifier, known: Examples, stands: np.ndarray
) -> None:
    asked: list[int] = []

    class Trained(Hidden):
        def surrogate(self, seed: int) -> keras.Model:
            asked.append(seed)
            return templates.model

    report = audited(Trained(templates.model), known)
    assert 0 < stands.sum() < len(stands)
    assert report.subject["right"] == stands.tolist()
    assert "rests on a secret" in report.faults
    assert len(asked) == report.found["budget"]["surrogates"] == 1
    by = {each["by"] for each in report.subject["broken"]}
    assert by <= {"1 surrogate", "1 surrogate, lowest margin"}
    jsonschema.validate(report.found, audit.schema())


class Lucky(Hidden):
    """Shows two members, of which it happens to draw the first each time that it is asked."""

    def __init__(self, *members: keras.Model, chances: tuple[float, ...]) -> None:
        super().__init__(members[0])
        self.members, self.chances = members, chances


def test_of_an_ensemble_the_chance_of_a_right_answer_is_what_is_expected(
    templates: Classifier, known: Examples, stands: np.ndarray
) -> None:
    """A member that errs on all of these adds nothing; the other falls where it fell alone."""
    wrong = templates.clone().model
    kernel, bias = wrong.layers[-1].get_weights()
    wrong.layers[-1].set_weights([np.roll(kernel, 1, axis=1), np.roll(bias, 1)])
    lucky = Lucky(templates.model, wrong, chances=(0.75, 0.25))
    subject = subject_of(lucky, *known, tell=lambda line: None)
    few = dataclasses.replace(budgets.find("quick"), iterations=10)
    found, standing = Attacked(), Standing(subject, *known, seeds=())
    told: list[str] = []
    Particular(subject, None, Ball(0.12, "linf", few, (), (), 0), samples=1).run(
        found, standing, lambda each: told.append(each.stages[-1]["title"])
    )
    assert told == ["EOT over the members", "EOT over the members, margin loss", "ARC"]
    assert found.members is not None
    truth = 0.75 * stands
    for chances in found.members:
        np.testing.assert_allclose(chances, truth)
    np.testing.assert_allclose(standing.share, truth, err_msg="and not what was drawn")
    (check,) = compared(found, margin=0.05)
    assert (check.name, check.status) == ("ARC stronger than EOT", "pass")
    assert check.numbers["arc"] == pytest.approx(truth.mean())


def test_an_audit_that_was_killed_goes_on_with_the_attack_it_stopped_at(
    templates: Classifier, known: Examples, tmp_path: pathlib.Path
) -> None:
    asked: list[int] = []

    class Shown(Lucky):
        def surrogate(self, seed: int) -> keras.Model:
            asked.append(seed)
            return templates.model

    few = dataclasses.replace(budgets.find("quick"), iterations=3)
    subject = subject_of(Shown(templates.model, chances=(1.0,)), *known, tell=lambda line: None)

    def run(dies_after: str = "") -> list[dict[str, Any]]:
        kept = KeptOnDisk(tmp_path, "it", seconds=0.0)
        standing = Standing(subject, *known, seeds=())

        def told(each: Standing) -> None:
            if each.stages[-1]["name"] == dies_after:
                raise KeyboardInterrupt

        ball = Ball(0.12, "linf", few, (), (), 0)
        Particular(subject, None, ball, samples=1, kept=kept).run(Attacked(), standing, told)
        return [{**each, "seconds": 0} for each in standing.stages]

    def names() -> list[str]:
        return sorted(path.name.partition("-")[0] for path in tmp_path.iterdir())

    with pytest.raises(KeyboardInterrupt):
        run(dies_after="members")
    first = ["surrogates", "surrogates_margin", "members"]
    assert names() == sorted(first)
    rest = run()
    assert len(asked) == 1, "what is trained is of no use any more"
    assert [each["name"] for each in rest] == [*first, "members_margin", "arc"]
    assert names() == sorted([*first, "members_margin", "arc"])
    assert run() == rest


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"members": 2, "chances": (0.5,)}, r"chances \[0.5\] of 2 members; give one to each"),
        ({"members": 2, "chances": (0.5, 0.6)}, "adding up to 1"),
        ({"members": 0, "chances": (1.0,)}, "of 0 members"),
        ({"check_radius": 0.0}, "check_radius 0.0; give one above 0"),
        ({"check_radius": 0.1, "check_norm": "l1"}, "check_norm l1; give linf or l2"),
    ],
)
def test_what_does_not_fit_is_refused_by_a_line(
    templates: Classifier, known: Examples, settings: dict[str, Any], said: str
) -> None:
    given = Hidden(templates.model)
    shows = {**settings, "members": [templates.model] * settings.get("members", 0)}
    for name, value in shows.items():
        setattr(given, name, value)
    with pytest.raises(UserError, match=f"Hidden: .*{said}"):
        audited(given, known)
