"""`rmc_tf.audit.of`: five lines audit anything that answers, and say what to make of it."""

import dataclasses
import json
import pathlib
import re
from typing import Any, NamedTuple

import jsonschema
import keras
import numpy as np
import pytest
import tensorflow as tf

from rmc_tf import audit
from rmc_tf.audit import budgets, page
from rmc_tf.audit.auditing import Auditing
from rmc_tf.audit.ball import Ball
from rmc_tf.audit.illustrated import badge
from rmc_tf.audit.report import Report
from rmc_tf.audit.standing import Standing
from rmc_tf.audit.subject import subject as subject_of
from rmc_tf.augmented_set.rows_on_disk import AugmentedSet
from rmc_tf.common.errors import UserError
from rmc_tf.config import (
    AttackConfig,
    CalibrationConfig,
    EarlyStopConfig,
    RefusingConfig,
    RMCConfig,
)
from rmc_tf.defences.refusing import Refusing
from rmc_tf.defences.rmc import RMC
from rmc_tf.defences.undefended import Undefended
from rmc_tf.networks.classifier import Classifier
from rmc_tf.search.index import FeatureIndex

Examples = tuple[np.ndarray, np.ndarray]
ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def known(templates: Classifier, test_rows: Examples) -> Examples:
    """Eight digits that the network knows, by little to a lot."""
    images, labels = test_rows
    rows = np.flatnonzero(templates.forward(images)[1].argmax(1) == labels)[:8]
    return images[rows], labels[rows]


@pytest.fixture(scope="module")
def said() -> list[str]:
    return []


@pytest.fixture(scope="module")
def report(templates: Classifier, known: Examples, said: list[str]) -> Report:
    """Of an ordinary network, in a ball in which it withstands some."""
    return audit.of(templates.model, *known, epsilon=0.12, title="mine", say=said.append)


class Answering:
    """Anyone's object: a network that isn't shown, and a state that says how often it was asked."""

    def __init__(self, model: keras.Model) -> None:
        self._call = tf.function(lambda x: tf.nn.softmax(model(x, training=False)))
        self.asked = 0

    def predict(self, image: np.ndarray) -> np.ndarray:
        self.asked += 1
        return np.asarray(self._call(image[None])[0])

    def snapshot(self) -> int:
        return self.asked

    def restore(self, state: int) -> None:
        self.asked = state


def stage(report: Report, title: str) -> dict[str, Any]:
    (found,) = (each for each in report.subject["stages"] if each["title"] == title)
    return dict(found)


def truth(templates: Classifier, known: Examples, epsilon: float) -> np.ndarray:
    """Which points of a linear network stand under L∞: exactly, without an attack.

    Only as far as pixels may go: they are kept in [0, 1].
    """
    images, labels = known
    kernel, bias = templates.model.layers[-1].get_weights()
    flat = images.reshape(len(images), -1)
    low, high = np.maximum(flat - epsilon, 0) - flat, np.minimum(flat + epsilon, 1) - flat
    stands = np.ones(len(images), bool)
    for other in range(10):
        slope = kernel[:, other][None] - kernel[:, labels].T
        least = flat @ kernel[:, other] + bias[other]
        margin = least - (flat * kernel[:, labels].T).sum(1) - bias[labels]
        most = margin + np.maximum(slope * low, slope * high).sum(1)
        stands &= (most < 0) | (other == labels)
    return stands


@pytest.mark.slow
def test_larger_budgets_take_autoattack_on_the_present_network(
    templates: Classifier, known: Examples, monkeypatch: pytest.MonkeyPatch
) -> None:
    little = {"iterations": 2, "short": 1, "restarts": 1, "queries": 20, "noise": 1}
    standard = dataclasses.replace(budgets.BUDGETS["standard"], **little)  # type: ignore[arg-type]
    monkeypatch.setitem(budgets.BUDGETS, "standard", standard)  # type: ignore[arg-type]
    images, labels = known
    found = audit.of(
        templates.model, images, labels, epsilon=0.12, budget="standard", say=lambda line: None
    )
    taken = stage(found, "PGD, AutoAttack")
    assert taken["spent"] >= (1 + 9 + 3 + 9) * 100 + 5000
    assert taken["left"] == truth(templates, known, 0.12).mean()
    assert "pgd_skip_autoattack" in budgets.BUDGETS["quick"].left_out, "it would be too dear"


def test_the_worst_case_of_a_linear_network_is_the_truth_point_by_point(
    report: Report, templates: Classifier, known: Examples
) -> None:
    stands = truth(templates, known, 0.12)
    assert 0 < stands.sum() < 8
    assert report.subject["right"] == stands.tolist()
    assert report.worst_case == stands.mean()
    assert report.faults == ()


def test_what_broke_a_point_is_in_the_ball_and_breaks_it(
    report: Report, templates: Classifier, known: Examples
) -> None:
    images, labels = known
    fell = report.adversarial()
    assert sorted(fell) == np.flatnonzero(~np.array(report.subject["right"])).tolist()
    for point, image in fell.items():
        assert np.abs(image - images[point]).max() <= 0.12 + 1e-6
        assert image.min() >= 0 and image.max() <= 1
        assert templates.forward(image[None])[1].argmax() != labels[point]


def test_a_line_says_what_it_will_take_before_it_begins(report: Report, said: list[str]) -> None:
    first = r"audit of mine, 8 points: at most [\d,]+ predictions of \S+ ms and [\d,]+ gradient"
    assert re.match(first, said[0])
    assert said[-1] == report.badge
    assert re.match(r"audit, quick: \d+\.\d % \(\d+\.\d–\d+\.\d\) of 8 at L∞ 0.12", report.badge)
    assert "\n" not in report.badge


def test_points_that_fell_are_not_attacked_again_by_what_is_dear(report: Report) -> None:
    fell = 8 - round(8 * report.worst_case)
    before = 0
    for each in report.subject["stages"]:
        if "start" in each["title"] or "black box" in each["title"]:
            assert each["attacked"] == 8 - before
        before += each["broke"]
    assert before == fell
    assert stage(report, "Square, black box")["attacked"] == 8 - fell


def test_the_curve_falls_to_the_worst_case_within_what_was_spent(report: Report) -> None:
    curve = report.subject["curve"]
    at, share = np.array(curve["steps"]).T
    assert (np.diff(at) >= 0).all() and (np.diff(share) < 0).all()
    assert (share[0], share[-1]) == (1, report.worst_case)
    assert at[-1] <= curve["spent"] == sum(s["spent"] for s in report.subject["stages"])
    assert curve["broken_in_last_third"] == (at > 2 / 3 * curve["spent"]).sum()


def test_what_an_object_hides_is_left_to_black_boxes_and_it_stays_as_it_was(
    templates: Classifier, known: Examples
) -> None:
    hidden = Answering(templates.model)
    report = audit.of(hidden, *known, epsilon=0.15, say=lambda line: None)
    assert hidden.asked == 0
    assert report.found["notes"] == ["Answering shows no network: black boxes and transfer alone"]
    assert report.faults == ("black box stronger than white box",)

    class Shown(Answering):
        network = templates.model

    shown = audit.of(Shown(templates.model), *known, epsilon=0.15, say=lambda line: None)
    assert shown.worst_case == truth(templates, known, 0.15).mean() < report.worst_case


@pytest.mark.parametrize(("last", "falling"), [(10.0, False), (100.0, True)])
def test_a_worst_case_that_still_falls_at_its_end_is_told(
    report: Report, templates: Classifier, known: Examples, last: float, falling: bool
) -> None:
    """Three attacks: one breaks a point; after it one breaks none; after `last` one breaks one."""
    images, _ = known
    labels = templates.forward(images)[1].argmax(1)
    shown = subject_of(templates, images, labels, tell=lambda line: None)
    standing = Standing(shown, images, labels, seeds=())
    wrong = images[[2, 3]].copy()
    assert labels[1] != labels[2] and labels[2] != labels[3]
    standing.judge("a", "A", np.array([1]), wrong[:1], spent=10.0, seconds=0)
    standing.judge("b", "B", standing.points, images[standing.points], spent=last, seconds=0)
    assert 1 not in standing.points
    standing.judge("c", "C", np.array([2]), wrong[1:], spent=last, seconds=0)
    standing.judge("d", "D", standing.points, images[standing.points], spent=40.0, seconds=0)
    curve = standing.curve()
    assert curve["still_falling"] == falling
    assert curve["spent"] == 10 + 2 * last + 40 + 4, "each is asked once for what was made of it"
    assert [share for _, share in curve["steps"]] == [1, 7 / 8, 6 / 8]
    found = {**report.subject, "curve": curve}
    said = "It is still falling at its end: the truth is lower."
    assert (said in page.verdict(found, report.found)) == falling
    assert ("still falling" in badge(found, report.found)) == falling


def test_results_are_json_of_the_schema_and_the_page_shows_what_fell(
    report: Report, tmp_path: pathlib.Path
) -> None:
    path = report.write(tmp_path / "audit")
    found = json.loads((tmp_path / "audit" / "audit.json").read_text())
    jsonschema.validate(found, audit.schema())
    assert found == report.found
    text = path.read_text(encoding="utf-8")
    for words in ("worst case", "PGD, margin loss", "zero gradients", "points that fell"):
        assert words in text
    assert text.count('src="data:image/png') == 1 and text.count('src="data:image/svg') == 1
    assert (tmp_path / "audit" / "badge.txt").read_text() == f"{report.badge}\n"


def test_the_five_lines_of_the_page_run(
    report: Report,  # made before, since ART keeps the standard output it finds
    templates: Classifier,
    known: Examples,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    page = (ROOT / "docs" / "audit.md").read_text(encoding="utf-8")
    code = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    assert code is not None and len(re.findall(r"^.+$", code[1], re.M)) == 5
    assert page.index(code[0]) < 100, "the page begins with them"
    monkeypatch.chdir(tmp_path)
    templates.save(tmp_path / "my_model.keras")
    exec(code[1], {"images": known[0], "labels": known[1]})
    assert re.search(
        r"in the worst case \d+\.\d \(.*\) % of 8 images right", capsys.readouterr().out
    )
    assert report.found["points"] == 8
    assert {path.name for path in (tmp_path / "my_audit").iterdir()} >= {
        "audit.json",
        "audit.html",
        "badge.txt",
    }


def test_the_schema_refuses_what_is_no_audit(report: Report) -> None:
    wrong = {**report.found, "points": 0}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, audit.schema())
    subject = {**report.subject, "worst_case": 40.0}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**report.found, "subjects": [subject]}, audit.schema())


def test_the_stored_audit_of_the_config_has_the_same_schema() -> None:
    stored = json.loads((ROOT / "docs/results/audit/audit.json").read_text())
    jsonschema.validate(stored, audit.schema())


def test_a_softmax_at_the_end_changes_nothing_but_a_line(
    report: Report, templates: Classifier, known: Examples
) -> None:
    model, lines = templates.model, list[str]()
    with_softmax = keras.Model(model.inputs[0], keras.layers.Softmax()(model.outputs[0]))
    again = audit.of(with_softmax, *known, epsilon=0.12, say=lines.append)
    assert again.subject["right"] == report.subject["right"]
    assert any("softmax is left out" in line for line in lines)


def test_attacks_of_ones_own_are_run_besides(templates: Classifier, known: Examples) -> None:
    mine = AttackConfig(attack="fgsm", epsilon=0.05)
    report = audit.of(templates, *known, epsilon=0.05, attacks=[mine], say=lambda line: None)
    assert stage(report, "PGD, fgsm")["attacked"] == 8 * report.worst_case


def test_an_attack_that_was_asked_for_and_does_not_fit_is_told_with_the_reason(
    templates: Classifier, known: Examples, tmp_path: pathlib.Path
) -> None:
    images, labels = known[0][:1], known[1][:1]
    hidden = subject_of(Answering(templates.model), images, labels, title="Mine")
    few = dataclasses.replace(budgets.find("quick"), queries=3)
    names = ("transfer", "pgd_skip", "gmsa_avg", "rays", "noise")
    given = AttackConfig(attack="fgsm", norm="l2", epsilon=0.1)
    ball = Ball(0.1, "l2", few, (), (given,), 0, chosen=(*names, "besides_1_fgsm"))
    auditing = Auditing(ball, images, labels, 0.05, lambda line: None)
    auditing.add(hidden, "target", "none", adapts=False)
    shown = dataclasses.replace(hidden, network=templates, defence=Undefended(templates))
    auditing.add(shown, "target", "given", adapts=False)
    found = auditing.found("", "quick", 10)
    assert found["left_out"] == [
        "Transfer from θ* on Mine (it has no static network besides its own)",
        "PGD on Mine (it shows no network)",
        "PGD, fgsm on Mine (it shows no network)",
        "GMSA-AVG on Mine (it shows no network)",
        "RayS, black box (--config.attacks.*.norm=l2: rays has linf only; choose an attack model "
        "of that norm, or hop_skip_jump)",
        "GMSA-AVG on Mine (its network doesn't change by an answer)",
    ]
    assert {each["name"] for each in found["threats"]} >= {"noise", "pgd_skip", "besides_1_fgsm"}
    Report(found, images, auditing.broken).write(tmp_path)
    said = (tmp_path / "audit.md").read_text(encoding="utf-8")
    assert all(f"- left out: {each}" in said for each in found["left_out"])


def test_what_a_budget_has_besides_is_left_out_without_a_word(report: Report) -> None:
    assert report.found["left_out"] == [], "nobody asked for GMSA of a network alone"


class Seeing(Answering):
    """Rounds what its network is shown, where no gradient goes; and says so."""

    def __init__(self, model: keras.Model, drawn: bool) -> None:
        super().__init__(model)
        self.network, self._drawn = model, drawn

    def seen(self, images: np.ndarray, seed: int) -> np.ndarray:
        random = np.random.default_rng(seed)
        noise = 0.1 * random.standard_normal(images.shape) if self._drawn else 0.0
        return (np.round((images + noise) * 5) / 5).astype(np.float32)

    def predict(self, image: np.ndarray) -> np.ndarray:
        shown = self.seen(image[None], self.asked if self._drawn else 0)[0]
        return super().predict(shown)

    def restore(self, state: int) -> None:
        """Forgets nothing: its next answer is another draw."""


@pytest.mark.parametrize("drawn", [False, True])
def test_gradients_go_through_what_a_defence_says_its_network_is_shown(
    templates: Classifier, known: Examples, drawn: bool
) -> None:
    few = known[0][:4], known[1][:4]
    report = audit.of(Seeing(templates.model, drawn), *few, epsilon=0.3, say=lambda line: None)
    assert report.worst_case == 0
    assert ("random answers" in report.faults) == drawn
    assert report.subject["random"] == drawn


def test_answers_of_any_form_are_taken_and_others_refused_in_a_line() -> None:
    from rmc_tf.audit.subject import as_prediction
    from rmc_tf.defences.base import REFUSED

    class Answer:
        def __init__(self, **fields: Any) -> None:
            self.__dict__.update(fields)

    assert as_prediction([0.2, 0.8], "it").label == 1
    assert as_prediction(Answer(probabilities=[0.2, 0.8], label=0), "it").label == 0
    assert as_prediction(Answer(probabilities=[0.2, 0.8], refused=True), "it").label == REFUSED
    for wrong in (3, "seven", Answer(label=2), [[0.5, 0.5]]):
        with pytest.raises(UserError, match=r"it: predict returned \w+, expected probabilities"):
            as_prediction(wrong, "it")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"budget": "qick"}, "budget=qick.*did you mean quick"),
        ({"norm": "l0"}, "norm=l0"),
        ({"attacks": [AttackConfig(epsilon=0.2)]}, "another ball"),
        ({"images": np.zeros((3, 8, 8, 1), np.uint8)}, "uint8.*divide by 255"),
        ({"labels": np.array([1, 2])}, "2 labels for 8 images"),
        ({"labels": np.full(8, 10)}, "label 10"),
        ({"given": object()}, "object: neither a Keras model nor"),
    ],
)
def test_what_cannot_be_audited_is_refused_by_a_line(
    templates: Classifier, known: Examples, settings: dict[str, Any], said: str
) -> None:
    usual = {"given": templates, "images": known[0], "labels": known[1], "epsilon": 0.1}
    if "images" in settings:
        settings["labels"] = known[1][:3]
    with pytest.raises(UserError, match=said):
        audit.of(**{**usual, **settings}, say=lambda line: None)


class Answer(NamedTuple):
    probabilities: np.ndarray
    refused: bool


class Wary(Answering):
    """Refuses what is farther than so much from all images that it knows."""

    def __init__(self, model: keras.Model, images: np.ndarray, radius: float) -> None:
        super().__init__(model)
        self.network, self._known, self._radius = model, images, radius

    def predict(self, image: np.ndarray) -> Any:
        distance = np.abs(self._known - image).max(axis=(1, 2, 3)).min()
        return Answer(super().predict(image), bool(distance > self._radius))


def test_a_refusal_is_right_under_attack_and_wrong_of_a_clean_point(
    templates: Classifier, known: Examples
) -> None:
    images, labels = known
    wary = Wary(templates.model, images[:6], 0.0)  # the last two are strange to it
    report = audit.of(wary, images, labels, epsilon=0.12, say=lambda line: None)
    assert report.subject["right"] == [True] * 6 + [False] * 2
    assert report.subject["clean"] == 6 / 8
    assert [each["answer"] for each in report.subject["broken"]] == [-1, -1]
    assert "refusals that are evaded" not in report.faults


def test_what_is_refused_far_away_is_broken_nearer_by(
    templates: Classifier, known: Examples
) -> None:
    """It accepts a smaller ball; of a linear network it is known what stands in that."""
    wary = Wary(templates.model, known[0], 0.8 * 0.2)
    report = audit.of(wary, *known, epsilon=0.2, say=lambda line: None)
    nearer, accepted = (truth(templates, known, share * 0.2) for share in (0.7, 0.8))
    assert accepted.mean() <= report.worst_case <= nearer.mean() < 1
    by = {each["by"] for each in report.subject["broken"]}
    assert any("PGD" in each for each in by)
    assert "refusals that are evaded" in report.faults


@pytest.mark.slow
def test_rmc_itself_is_audited_and_is_left_as_it_was(
    trained: tuple,
    d_prime: AugmentedSet,
    index: FeatureIndex,
    test_rows: Examples,
) -> None:
    classifier = Classifier.load(*trained)
    images, labels = test_rows
    rows = np.flatnonzero(classifier.forward(images)[1].argmax(1) == labels)[:3]
    short = EarlyStopConfig(max_epochs=2)
    calibration = CalibrationConfig(early_stop=short)
    config = RMCConfig(
        k=64, primed_rows=0, batch_size=32, early_stop=short, calibration=calibration
    )
    rmc = RMC(classifier, d_prime, index, config, seed=0)
    before = rmc.snapshot()
    report = audit.of(rmc, images[rows], labels[rows], epsilon=0.03, say=lambda line: None)
    after = rmc.snapshot()
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)
    bare, own = report.found["subjects"]
    assert (bare["title"], own["title"]) == ("None", "RMC")
    assert own["adapts"] and not bare["adapts"]
    titles = [each["title"] for each in own["stages"]]
    assert {"GMSA-AVG", "Transfer from θ*", "PGD-Skip, margin loss"} <= set(titles)
    assert "Its bare network: " in report.verdict
    jsonschema.validate(report.found, audit.schema())


def test_what_is_dear_is_tried_on_some_and_is_told_so_only_where_it_was_not_tried_on_all(
    templates: Classifier, known: Examples
) -> None:
    images, labels = known
    stands = truth(templates, known, 0.12)
    withstood = sum(truth(templates, known, each) for each in (0.09, 0.1, 0.11))
    rows = np.array([*np.flatnonzero(stands)[:2], np.argmin(withstood)])
    few = dataclasses.replace(budgets.find("quick"), sampled=1, queries=400)
    seen = set()
    for seed in range(5):
        ball = Ball(0.12, "linf", few, (), (), seed, chosen=("rays",))
        auditing = Auditing(ball, images[rows], labels[rows], 0.05, lambda line: None)
        network = subject_of(templates, images[rows], labels[rows], tell=lambda line: None)
        auditing.add(network, "target", "rmc", adapts=True)
        found = auditing.found("", "quick", 10)
        (subject,) = found["subjects"]
        clean, *parts = subject["stages"]
        broke = parts[0]["broke"] == 1
        assert [(each["attacked"], each["stood"]) for each in parts] == (
            [(1, 3), (2, 2)] if broke else [(1, 3)]
        )
        assert ("Tried on a part of the points" in page.verdict(subject, found)) != broke
        most = max(each["spent"] for each in parts)
        assert subject["curve"]["spent"] == clean["spent"] + most, "each point is in one part"
        seen.add(broke)
    assert seen == {True, False}


def test_an_answer_that_looks_around_is_dear_too(templates: Classifier, known: Examples) -> None:
    images, labels = known
    (stands,) = np.nonzero(truth(templates, known, 0.12))
    rows = stands[:3]
    few = dataclasses.replace(budgets.find("quick"), sampled=1, queries=50)
    ball = Ball(0.12, "linf", few, (), (), 0, chosen=("rays",))
    auditing = Auditing(ball, images[rows], labels[rows], 0.05, lambda line: None)
    refusing = Refusing(templates, AttackConfig(epsilon=0.12), RefusingConfig(iterations=2))
    for each in (refusing, templates):
        shown = subject_of(each, images[rows], labels[rows], tell=lambda line: None)
        auditing.add(shown, "target", type(each).__name__, adapts=False)
    looking, bare = auditing.found("", "quick", 10)["subjects"]
    attacked = [
        [(each["attacked"], each["stood"]) for each in subject["stages"] if each["name"] == "rays"]
        for subject in (looking, bare)
    ]
    assert attacked == [[(1, 3)], [(3, 3)]]
