"""The audit by the command line: what is on the page, what is reused, and what is refused."""

import dataclasses
import json
import pathlib
import re
import shutil
from typing import Any

import jsonschema
import pytest

from rmc_tf import audit, main
from rmc_tf.audit import page
from rmc_tf.audit.plan import plan
from rmc_tf.audit.suite import most, suite, title
from rmc_tf.common.errors import UserError
from rmc_tf.config import (
    AttackConfig,
    DatasetConfig,
    ExperimentConfig,
    LossConfig,
    NetworkConfig,
    ThreatConfig,
)

# Seconds of work: what is tested is how the parts hang together, not how robust the network is.
TINY = (
    "--mode=audit",
    "--config.attacks.pgd.iterations=2",
    "--config.attacks.pgd.epsilon=0.02",  # in which some points stand
    "--config.attacks.pgd.step_size=0.01",
    "--config.augmented_set.adversarial_per_row=0.2",
    "--config.rmc.k=32",
    "--config.rmc.batch_size=8",  # in an order that is drawn
    "--config.rmc.primed_rows=2",
    "--config.rmc.early_stop.max_epochs=1",
    "--config.rmc.calibration.early_stop.max_epochs=1",
    "--config.audit.budget=quick",
    "--config.audit.defences=('rmc',)",
    "--config.audit.threats=('transfer','pgd_nn','pgd_skip_short','pgd_skip','gmsa_avg','noise',"
    "'square')",
    "--config.audit.points=3",
    "--config.audit.before=1",
    "--config.audit.retests=2",
    "--config.audit.iterations=3",
    "--config.audit.rounds=2",
    "--config.audit.queries=8",
)


def run(data_dir: pathlib.Path, workdir: pathlib.Path, *flags: str) -> int:
    """Audits the network that lies in the work directory."""
    flags = (f"--config.model.path={workdir / 'digits.keras'}", *flags)
    own = {flag.partition("=")[0] for flag in flags}
    tiny = [flag for flag in TINY if flag.partition("=")[0] not in own]
    return main.main(["main.py", f"--data_dir={data_dir}", f"--workdir={workdir}", *tiny, *flags])


@pytest.fixture(scope="module")
def finished(
    data_dir: pathlib.Path,
    trained: tuple[pathlib.Path, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> pathlib.Path:
    """The work directory of an undisturbed audit."""
    workdir = tmp_path_factory.mktemp("finished")
    shutil.copy(trained[0], workdir / "digits.keras")
    assert run(data_dir, workdir) == 0
    return workdir


def found(workdir: pathlib.Path) -> dict[str, Any]:
    return dict(json.loads((workdir / "audit" / "audit.json").read_text()))


def stages(workdir: pathlib.Path, defence: str) -> dict[str, dict[str, Any]]:
    (subject,) = (each for each in found(workdir)["subjects"] if each["defence"] == defence)
    return {stage["name"]: stage for stage in subject["stages"]}


def files(workdir: pathlib.Path) -> dict[pathlib.Path, int]:
    """Returns when each file of the audit's work was written."""
    kept = [*workdir.glob("audited/*"), *workdir.rglob("done.json")]
    return {path.relative_to(workdir): path.stat().st_mtime_ns for path in kept}


def test_the_page_has_the_verdict_every_table_and_what_produced_it(finished: pathlib.Path) -> None:
    text = (finished / "audit" / "audit.md").read_text()
    for heading in ("None", "RMC", "Checks for masked gradients", "What was tried"):
        assert f"\n## {heading}\n" in text
    assert re.search(
        r"^- \*\*RMC\*\*: in the worst case .* of 3 images right\. Its bare network: ", text, re.M
    )
    assert "No number here proves that a defence is safe" in text
    percent = r"\d+\.\d \(\d+\.\d–\d+\.\d\)"
    row = rf"^\| PGD-Skip \| 3 \| {percent} \| \d \| \*\*{percent}\*\*, n = 3 \| 4 \| \d+\.\d \|"
    assert len(re.findall(row, text, re.M)) == 1
    by = "L∞, 0.02 | cross entropy"
    assert f"| PGD-Skip, 2 steps | {by} | 0.01 | 2 | – | 1 | – | yes |" in text
    assert f"| GMSA-AVG | {by} | 0.005 | 3 | 2 | 1 | – | yes |" in text
    assert "| PGD-Skip, no ball | L∞, 1 | cross entropy | 0.25 | 3 | – | 1 | – | no, " in text
    assert "| Square, black box | L∞, 0.02 | – | – | – | – | – | 8 | yes |" in text
    for name in ("zero gradients", "probabilities for logits", "random answers"):
        assert len(re.findall(rf"^\| {name} \|", text, re.M)) == 2
    assert "- RMC is primed by 2 rows of D' before its first answer; 1 clean queries before" in text
    assert "--mode=audit" in text and "![a falling line" in text
    provenance = json.loads((finished / "audit" / "provenance.json").read_text())
    assert provenance["config"]["audit"]["points"] == 3
    html = (finished / "audit" / "audit.html").read_text()
    assert "worst case" in html and 'src="data:image/svg' in html
    badge = (finished / "audit" / "badge.txt").read_text().splitlines()
    assert [line.partition(":")[0] for line in badge] == ["None", "RMC"]
    jsonschema.validate(found(finished), audit.schema())


def test_the_worst_case_is_at_most_every_attack_in_it(finished: pathlib.Path) -> None:
    none, rmc = found(finished)["subjects"]
    assert (none["defence"], rmc["defence"]) == ("none", "rmc")
    for subject in (none, rmc):
        assert subject["worst_case"] == sum(subject["right"]) / 3 <= subject["expected"]
        for stage in subject["stages"]:
            assert subject["worst_case"] <= stage["left"]
            whole = stage["attacked"] == 3
            assert not whole or subject["worst_case"] <= stage["right"]
    assert {"transfer", "pgd_nn", "gmsa_avg"} <= set(stages(finished, "rmc"))
    assert not {"transfer", "pgd_nn", "gmsa_avg"} & set(stages(finished, "none")), "it has no such"
    assert "unbounded" not in stages(finished, "rmc"), "that is no attack in the ball"
    by = {each["name"]: each["found"] for each in rmc["checks"]}
    assert "no ball" in by["larger ε no stronger"]


@pytest.mark.slow
def test_a_second_audit_reads_and_a_broken_one_goes_on_to_the_same_numbers(
    finished: pathlib.Path,
    data_dir: pathlib.Path,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    workdir = pathlib.Path(shutil.copytree(finished, tmp_path / "copy"))
    made = files(workdir)
    capsys.readouterr()
    assert run(data_dir, workdir) == 0
    assert files(workdir) == made, "nothing is computed anew"
    assert found(workdir) == found(finished)
    out = capsys.readouterr().out
    assert out.rstrip().endswith("A low number does show that it isn't.")
    lost = [*workdir.glob("audited/noise-*"), *workdir.glob("audited/pgd_nn-*")]
    assert len(lost) == 3  # noise is of both subjects
    for path in lost:
        path.unlink()
    assert run(data_dir, workdir) == 0
    assert set(files(workdir)) == set(made)
    again = [(stage["name"], stage["right"]) for stage in stages(workdir, "rmc").values()]
    assert again == [(stage["name"], stage["right"]) for stage in stages(finished, "rmc").values()]


@pytest.mark.slow
def test_another_number_of_retests_asks_again_and_attacks_nothing_anew(
    finished: pathlib.Path, data_dir: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    workdir = pathlib.Path(shutil.copytree(finished, tmp_path / "copy"))
    before = files(workdir)
    assert run(data_dir, workdir, "--config.audit.retests=1") == 0
    new = {path.name.partition("-")[0] for path in files(workdir).keys() - before.keys()}
    assert "asked_again" in new
    assert not new & {"noise", "transfer", "pgd_skip_short", "pgd_skip"}
    for name in ("clean", "transfer", "pgd_skip"):
        assert stages(workdir, "rmc")[name]["right"] == stages(finished, "rmc")[name]["right"]


def test_what_asks_most_is_tried_on_some_points_first_and_where_it_breaks_one_on_all(
    finished: pathlib.Path, data_dir: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    workdir = pathlib.Path(shutil.copytree(finished, tmp_path / "copy"))
    tried = ("noise", "square", "rays")
    assert (
        run(data_dir, workdir, "--config.audit.sampled=1", f"--config.audit.threats={tried}") == 0
    )
    none, rmc = found(workdir)["subjects"]
    assert all(each["attacked"] == each["stood"] for each in none["stages"]), "it is cheap there"
    verdict, sampled = page.verdict(rmc, found(workdir)), []
    for name in ("square", "rays"):
        parts = [each for each in rmc["stages"] if each["name"] == name]
        assert parts[0]["attacked"] == min(1, parts[0]["stood"])
        whole = sum(each["attacked"] for each in parts) == parts[0]["stood"]
        assert whole == (len(parts) == 2 or parts[0]["stood"] < 2) == (parts[0]["broke"] > 0)
        sampled += [] if whole else [parts[0]["title"]]
    assert sampled, "of three points some stand"
    assert f"of which they broke none: {', '.join(sampled)}." in verdict
    jsonschema.validate(found(workdir), audit.schema())


EXPERIMENT = ExperimentConfig(
    dataset=DatasetConfig(name="digits"),
    attacks={
        "fgsm": AttackConfig(attack="fgsm", epsilon=0.1),
        "pgd": AttackConfig(epsilon=0.1, step_size=0.02, iterations=7),
        "round": AttackConfig(epsilon=2.0, step_size=0.5, norm="l2"),
    },
    networks={
        "at": NetworkConfig(loss=LossConfig(kind="adversarial", attack="pgd")),
        "other": NetworkConfig(number=1),
    },
    threats={"mine": ThreatConfig(threat="fpa", attack="pgd", rounds=2)},
)


def audited(**settings: Any) -> Any:
    return plan(ExperimentConfig.from_dict(EXPERIMENT.to_dict() | {"audit": settings}))


def test_each_network_worth_comparing_is_audited_bare_and_behind_each_defence() -> None:
    defences = ("none", "web_nn_vote", "rmc")
    assert audited().subjects == tuple((n, d) for n in ("target", "at") for d in defences)
    chosen = audited(defences=("rmc",), networks=("other",))
    assert chosen.subjects == (("other", "none"), ("other", "rmc"))


def test_the_protocol_has_one_attack_of_each_kind_and_those_of_the_config() -> None:
    found = suite(audited().ball)
    names = list(found)
    static = ["noise", "transfer", "transfer_margin", "transfer_autoattack"]
    searched = ["pgd_nn", "pgd_nn_labels"]
    simulating = ["mine", "fpa", "gmsa_avg", "gmsa_avg_margin", "gmsa_min", "gmsa_avg_eot"]
    cost = [*static, *searched, "pgd_skip", "pgd_skip_margin", *simulating, "square"]
    assert [name for name in names if name in cost] == cost, "what is dear comes last"
    assert found["pgd_skip_short"].model == EXPERIMENT.attacks["pgd"]
    assert found["mine"].model == EXPERIMENT.attacks["pgd"]
    patient = found["gmsa_min"].model
    assert (patient.epsilon, patient.iterations, patient.loss) == (0.1, 50, "cross_entropy")
    assert patient.step_size * patient.iterations == pytest.approx(5 * 0.1)
    assert {found[n].model.loss for n in ("transfer_margin", "gmsa_avg_margin")} == {"margin"}
    assert found["transfer_autoattack"].model == AttackConfig(attack="autoattack", epsilon=0.1)
    assert found["pgd_nn_labels"].config.vote == "labels"
    titles = [title(name, found[name], "PGD-Skip") for name in ("gmsa_avg_margin", "gmsa_avg_eot")]
    assert titles == ["GMSA-AVG, margin loss", "GMSA-AVG, EOT over 10"]


def test_a_threat_of_the_config_keeps_its_own_settings_whatever_it_is_called() -> None:
    patient = ThreatConfig(threat="gmsa_min", attack="pgd", rounds=10, samples=0)
    again = ThreatConfig(threat="pgd_skip", attack="pgd", restarts=3, asked_along=2)
    config = dataclasses.replace(EXPERIMENT, threats={"gmsa_min": patient, "again": again})
    found = suite(plan(config).ball)
    assert found["own_gmsa_min"].config.rounds == 10 != found["gmsa_min"].config.rounds
    assert not found["again"].present, "one ascent would be less than it asks for"
    passes, predictions = most(found["own_gmsa_min"])
    assert passes >= 7 * 10 and predictions == 10 * 10, "of samples=0, as many as there may be"


def test_who_names_attacks_gets_these_and_more_of_them_than_the_budget_has() -> None:
    quick = suite(audited(budget="quick").ball)
    assert "fpa" not in quick and "transfer_autoattack" not in quick
    chosen = suite(audited(budget="quick", threats=("fpa", "pgd_skip_margin")).ball)
    assert list(chosen) == ["pgd_skip_margin", "pgd_skip_margin_2", "fpa"], "each start is meant"
    assert suite(audited(budget="exhaustive", iterations=7).ball)["fpa"].model.iterations == 7
    assert suite(audited(budget="exhaustive", iterations=7).ball)["square"].config.queries == 5_000


def test_under_l2_the_black_box_is_one_that_can() -> None:
    ball = audited(attack="round", larger=(3.0,)).ball
    assert "hop_skip_jump" in suite(ball)
    assert "square" not in suite(ball)
    assert (ball.norm, ball.steps("margin", 5, 3.0).epsilon) == ("l2", 6)
    no_ball = ball.steps("margin", 5, 0.0)
    assert (no_ball.norm, no_ball.epsilon) == ("linf", 1)


def test_threats_of_the_config_count_only_in_the_ball_that_is_searched() -> None:
    assert audited().left_out == ()
    assert audited(attack="round").left_out == ("mine",), "it is of another norm"
    larger = EXPERIMENT.attacks["pgd"].to_dict() | {"epsilon": 0.11}
    attacks = EXPERIMENT.to_dict()["attacks"] | {"larger": larger}
    threats = {"mine": {"threat": "pgd_skip", "attack": "larger"}}
    config = EXPERIMENT.to_dict() | {"attacks": attacks, "threats": threats}
    chosen = plan(ExperimentConfig.from_dict(config | {"audit": {"attack": "pgd"}}))
    assert chosen.left_out == ("mine",)
    assert "mine" not in suite(chosen.ball)
    chosen = plan(ExperimentConfig.from_dict(config | {"audit": {"attack": "larger"}}))
    assert "mine" in suite(chosen.ball)
    with pytest.raises(UserError, match=r"audit.threats=mine: .* its ball isn't within .* pgd"):
        audit = {"attack": "pgd", "threats": ["mine"]}
        plan(ExperimentConfig.from_dict(config | {"audit": audit}))


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--config.audit.points=401", r"400 rows; lower it"),
        ("--config.audit.before=398", r"only 397 rows of .* aren't attacked; lower it"),
    ],
)
def test_more_points_than_there_are_rows_are_refused_by_the_setting_that_says_so(
    finished: pathlib.Path,
    data_dir: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
    flag: str,
    said: str,
) -> None:
    assert run(data_dir, finished, flag) == 2
    assert re.search(rf"{re.escape(flag)}: .*{said}", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"defences": ("hindsight",)}, "audit.defences=hindsight.*history"),
        ({"defences": ("rmc", "non_masking")}, "audit.defences=non_masking.*history"),
        ({"threats": ("pgd_skp",)}, "audit.threats=pgd_skp.*did you mean pgd_skip"),
        ({"defences": ("magic",)}, "audit.defences=magic.*known: none"),
        ({"networks": ("magic",)}, "audit.networks=magic.*known: target, at, other"),
        ({"attack": "magic"}, "audit.attack=magic.*known: fgsm, pgd, round"),
        ({"attack": "fgsm"}, "audit.attack=fgsm.*PGD or BIM"),
        ({"queries": 3}, "audit.queries=3.*must be 8 or more"),
        ({"larger": (1.0,)}, r"audit.larger=\(1.0,\): must be above 1"),
        ({"iterations": 0}, "audit.iterations=0: must be 1 or more, or -1"),
        ({"before": -1}, "audit.before=-1"),
        ({"points": 0}, "audit.points=0"),
        ({"retests": -2}, "audit.retests=-2"),
        ({"margin": 1.0}, "audit.margin=1.0"),
        ({"defences": ("rmc", "rmc")}, "audit.defences=.*each once"),
    ],
)
def test_what_cannot_be_audited_is_refused_by_a_line(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        audited(**settings)


def subject(title: str, right: list[bool], **more: Any) -> dict[str, Any]:
    share = sum(right) / len(right)
    return {
        "title": title,
        "network": "target",
        "defence": title.lower(),
        "right": right,
        "worst_case": share,
        "interval": [0.0, 1.0],
        "stages": [],
        "checks": [],
        "curve": {"still_falling": False},
    } | more


@pytest.mark.parametrize(
    ("right", "said"),
    [
        ([True] * 10, r"The defence adds 80\.0 percentage points \(8 images won, 0 lost, p = 0.0"),
        ([True] * 4 + [False] * 6, r"adds 20\.0 percentage points, no more than chance would"),
        ([True] * 2 + [False] * 8, r"adds nothing that these attackers leave \(0 images won, 0"),
        ([False] * 10, r"takes 20\.0 percentage points away, no more than chance"),
    ],
)
def test_what_a_defence_adds_is_told_against_its_own_network(right: list[bool], said: str) -> None:
    bare = subject("None", [True] * 2 + [False] * 8)
    defended = subject("RMC", right)
    found = {"subjects": [bare, defended]}
    assert re.search(said, page.verdict(defended, found))
    assert "Its bare network" not in page.verdict(bare, found)


def test_a_suspicious_check_is_in_the_verdict() -> None:
    bare = subject("None", [True, False], checks=[{"name": "zero gradients", "status": "pass"}])
    assert "The truth" not in page.verdict(bare, {"subjects": [bare]})
    bare["checks"][0]["status"] = "suspicious"
    assert "a sign of: zero gradients" in page.verdict(bare, {"subjects": [bare]})


def test_the_chance_is_that_of_a_fair_coin() -> None:
    # 6 won and 0 lost: 2 / 2**6; by hand.
    bare, defended = subject("None", [False] * 6), subject("RMC", [True] * 6)
    assert "p = 0.031" in page.difference(defended, bare)


def test_an_audit_says_what_it_will_take_and_how_it_goes(
    finished: pathlib.Path, data_dir: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert run(data_dir, finished) == 0
    lines = capsys.readouterr().out.splitlines()
    bare, rmc = (line for line in lines if "gradient passes" in line)
    assert re.search(r"at most [\d,]+ predictions of \S+ ms and [\d,]+ gradient passes", bare)
    # A point: clean, first and last, and two times again, as the final one is. What five attacks
    # by gradients make of it is asked, and on the way back seven more, each two times again, too;
    # what noise and Square make is without a way back. In two larger balls it is answered once.
    # Noise itself asks three times, Square eight, GMSA two times.
    a_point = (3 + 1 + 2) + 5 * (1 + 7 * 3) + 2 * 3 + 2 + 3 + 8 + 2
    assert f"at most {3 * a_point} predictions" in rmc
    told = re.compile(r"  PGD-Skip: \d of 3 points broken, \d+\.\d % of all stand")
    assert any(map(told.match, lines))
