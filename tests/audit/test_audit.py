"""The audit by the command line: what is on the page, what is reused, and what is refused."""

import dataclasses
import json
import pathlib
import re
import shutil
from typing import Any

import pytest

from rmc_tf import main
from rmc_tf.audit import page
from rmc_tf.audit.plan import plan
from rmc_tf.common.errors import UserError
from rmc_tf.config import (
    AttackConfig,
    AuditConfig,
    DatasetConfig,
    ExperimentConfig,
    LossConfig,
    NetworkConfig,
    ThreatConfig,
)

# Seconds of work: what is tested is how the parts hang together, not how robust the network is.
TINY = (
    "--mode=audit",
    "--config.model.filters=8",
    "--config.training.epochs=3",
    "--config.attacks.pgd.iterations=2",
    "--config.augmented_set.adversarial_per_row=0.2",
    "--config.rmc.k=32",
    "--config.rmc.primed_rows=2",
    "--config.rmc.early_stop.max_epochs=1",
    "--config.rmc.calibration.early_stop.max_epochs=1",
    "--config.audit.defences=('rmc',)",
    "--config.audit.threats=('transfer','pgd_nn','pgd_skip_short','pgd_skip','gmsa_avg','noise',"
    "'square')",
    "--config.audit.points=3",
    "--config.audit.retests=2",
    "--config.audit.iterations=3",
    "--config.audit.rounds=2",
    "--config.audit.queries=8",
)


def run(data_dir: pathlib.Path, workdir: pathlib.Path, *flags: str) -> int:
    own = {flag.partition("=")[0] for flag in flags}
    tiny = [flag for flag in TINY if flag.partition("=")[0] not in own]
    return main.main(["main.py", f"--data_dir={data_dir}", f"--workdir={workdir}", *tiny, *flags])


@pytest.fixture(scope="module")
def finished(data_dir: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The work directory of an undisturbed audit."""
    workdir = tmp_path_factory.mktemp("finished")
    assert run(data_dir, workdir) == 0
    return workdir


def found(workdir: pathlib.Path) -> dict[str, Any]:
    return dict(json.loads((workdir / "audit" / "audit.json").read_text()))


def without_times(value: Any) -> Any:
    """Returns the numbers of an audit that don't depend on the machine."""
    if isinstance(value, list):
        return [without_times(item) for item in value]
    if isinstance(value, dict):
        return {k: without_times(v) for k, v in value.items() if not k.endswith("seconds")}
    return value


def records(workdir: pathlib.Path, name: str) -> list[bool]:
    (path,) = workdir.glob(f"evaluate/{name}-[0-9a-f]*/records.jsonl")
    lines = map(json.loads, path.read_text().splitlines())
    return [line["prediction"] == line["label"] for line in lines]


def test_the_page_has_the_verdict_every_table_and_what_produced_it(finished: pathlib.Path) -> None:
    text = (finished / "audit" / "audit.md").read_text()
    for heading in ("None", "RMC", "Checks for masked gradients", "What was tried"):
        assert f"\n## {heading}\n" in text
    assert re.search(r"^- \*\*RMC\*\*: worst case .* of 3 points\. Its bare network: ", text, re.M)
    assert "No number here proves that a defence is safe" in text
    percent = r"\d+\.\d \(\d+\.\d–\d+\.\d\)"
    row = rf"^\| GMSA-AVG \| {percent} \| {percent} \| \d+\.\d ± \d+\.\d \| \d+\.\d \| \d+ \| \d"
    assert len(re.findall(row, text, re.M)) == 2  # of both defences, attacking and replayed
    by = "L∞, 0.15 | cross entropy"
    assert f"| PGD-Skip, 2 steps | {by} | 0.0375 | 2 | – | – | – | yes |" in text
    assert f"| GMSA-AVG | {by} | 0.01875 | 3 | 2 | 1 | – | yes |" in text
    by = "L∞, 1 | cross entropy"
    assert f"| GMSA-AVG, no ball | {by} | 0.125 | 3 | 2 | 1 | – | no, for a check |" in text
    assert "| Square, black box | L∞, 0.15 | – | – | – | – | – | 8 | yes |" in text
    zero = ("zero gradients", "zero gradients after 3 queries")
    for name in (*zero, "probabilities for logits", "random answers"):
        assert len(re.findall(rf"^\| {name} \|", text, re.M)) == 2
    assert "- RMC is primed by 2 rows of D' before its first answer" in text
    assert "--mode=audit" in text
    provenance = json.loads((finished / "audit" / "provenance.json").read_text())
    assert provenance["config"]["audit"]["points"] == 3
    assert page.render(found(finished), provenance) == text
    noted = page.render({**found(finished), "notes": ["as seen"]}, provenance)
    assert noted.index("- **Note:** as seen") < noted.index("worst case")


def test_the_worst_case_is_at_most_every_attack_in_it_point_by_point(
    finished: pathlib.Path,
) -> None:
    none, rmc = found(finished)["subjects"]
    assert (none["defence"], rmc["defence"]) == ("none", "rmc")
    for subject in (none, rmc):
        assert subject["worst_case"] == sum(subject["right"]) / 3
        for own in subject["threats"].values():
            shares = (own["attacking"], own["replayed"], own["retested"], own["always_right"])
            assert all(share is None or subject["worst_case"] <= share for share in shares)
        names = [f"{subject['defence']}-{name}" for name in subject["threats"]]
        names += [f"{name}-replayed" for name in names if not name.endswith("clean")]
        every = zip(*(records(finished, name) for name in names), strict=True)
        assert all(not ever or all(answers) for ever, answers in zip(subject["right"], every))  # noqa: B905
    assert "pgd_nn" in rmc["threats"]
    assert "pgd_nn" not in none["threats"], "it searches nothing"
    assert "unbounded" not in rmc["threats"], "that is no attack in the ball"


@pytest.mark.slow
def test_a_second_audit_reads_and_a_broken_one_goes_on_to_the_same_numbers(
    finished: pathlib.Path,
    data_dir: pathlib.Path,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    workdir = pathlib.Path(shutil.copytree(finished, tmp_path / "copy"))
    made = {path: path.stat().st_mtime_ns for path in workdir.rglob("done.json")}
    capsys.readouterr()
    assert run(data_dir, workdir) == 0
    assert {path: path.stat().st_mtime_ns for path in workdir.rglob("done.json")} == made
    assert found(workdir) == found(finished)
    out = capsys.readouterr().out
    assert out.rstrip().endswith("A low number does show that it isn't.")
    shutil.rmtree(workdir / "audit")
    lost = [*workdir.glob("evaluate/rmc-gmsa_avg-*"), *workdir.glob("retest/rmc-gmsa_avg-*")]
    assert len(lost) == 3  # attacking, replayed, asked again
    for path in lost:
        shutil.rmtree(path)
    assert run(data_dir, workdir) == 0
    assert without_times(found(workdir)) == without_times(found(finished))
    assert set(workdir.rglob("done.json")) == set(made)


def test_another_number_of_retests_asks_again_and_attacks_nothing_anew(
    finished: pathlib.Path, data_dir: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    workdir = pathlib.Path(shutil.copytree(finished, tmp_path / "copy"))
    before = {path.parent.name for path in workdir.rglob("done.json")}
    assert run(data_dir, workdir, "--config.audit.retests=0") == 0
    new = {path.parent for path in workdir.rglob("done.json") if path.parent.name not in before}
    assert new
    assert {path.parent.name for path in new} == {"retest"}
    _, rmc = found(workdir)["subjects"]
    assert rmc["threats"]["gmsa_avg"]["retested"] is None
    (randomness,) = (c for c in rmc["checks"] if c["name"] == "random answers")
    assert randomness["status"] == "not run"


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


def test_the_protocol_has_one_threat_of_each_kind_and_those_of_the_config() -> None:
    chosen = audited()
    assert chosen.inside == (
        "mine",
        "transfer",
        "pgd_nn",
        "pgd_nn_labels",
        "pgd_skip_short",
        "pgd_skip",
        "fpa",
        "gmsa_avg",
        "gmsa_min",
        "joint",
        "transfer_margin",
        "transfer_autoattack",
        "pgd_skip_margin",
        "gmsa_avg_margin",
        "noise",
        "square",
    )
    assert chosen.beyond == ("larger_2", "unbounded")
    assert chosen.model("pgd_skip_short") == EXPERIMENT.attacks["pgd"]
    patient = chosen.model("gmsa_min")
    assert (patient.epsilon, patient.iterations) == (0.1, AuditConfig().iterations)
    assert patient.step_size == pytest.approx(0.1 / 8)
    losses = {chosen.model(name).loss for name in ("transfer", "pgd_skip", "gmsa_avg")}
    assert losses == {"cross_entropy"}
    by_margin = [chosen.model(f"{name}_margin") for name in ("transfer", "pgd_skip", "gmsa_avg")]
    assert by_margin == [dataclasses.replace(patient, loss="margin")] * 3
    assert chosen.title("gmsa_avg_margin") == "GMSA-AVG, margin loss"
    standard = AttackConfig(attack="autoattack", epsilon=0.1)
    assert chosen.model("transfer_autoattack") == standard, "of the same ball, and all its patience"
    assert chosen.title("transfer_autoattack").endswith(", AutoAttack")
    told = chosen.described("transfer_autoattack")
    assert told["attack"] == "autoattack" and not {"loss", "step_size", "iterations"} & set(told)
    round_one = audited(attack="round").model("transfer_autoattack")
    assert (round_one.norm, round_one.epsilon) == ("l2", 2.0)
    assert chosen.model("larger_2").epsilon == pytest.approx(0.2)
    assert chosen.model("unbounded").epsilon == 1
    assert set(chosen.cells("at", "none")) == {"clean", *chosen.inside, *chosen.beyond} - {
        "pgd_nn",
        "pgd_nn_labels",
        "joint",
    }


def test_under_l2_the_black_box_is_one_that_can() -> None:
    chosen = audited(attack="round", larger=(3.0,))
    assert "hop_skip_jump" in chosen.inside
    assert "square" not in chosen.inside
    assert (chosen.model("larger_3").norm, chosen.model("larger_3").epsilon) == ("l2", 6)
    assert (chosen.model("unbounded").norm, chosen.model("unbounded").epsilon) == ("linf", 1)


def test_threats_of_the_config_count_only_in_the_ball_that_is_searched() -> None:
    assert audited().left_out == ()
    assert audited(attack="round").left_out == ("mine",), "it is of another norm"
    larger = EXPERIMENT.attacks["pgd"].to_dict() | {"epsilon": 0.11}
    attacks = EXPERIMENT.to_dict()["attacks"] | {"larger": larger}
    threats = {"mine": {"threat": "pgd_skip", "attack": "larger"}}
    config = EXPERIMENT.to_dict() | {"attacks": attacks, "threats": threats}
    chosen = plan(ExperimentConfig.from_dict(config | {"audit": {"attack": "pgd"}}))
    assert chosen.left_out == ("mine",)
    assert "mine" not in {*chosen.inside, *chosen.beyond}
    chosen = plan(ExperimentConfig.from_dict(config | {"audit": {"attack": "larger"}}))
    assert "mine" in chosen.inside
    with pytest.raises(UserError, match=r"audit.threats=mine: .* its ball isn't within .* pgd"):
        audit = {"attack": "pgd", "threats": ["mine"]}
        plan(ExperimentConfig.from_dict(config | {"audit": audit}))


def test_more_points_than_there_are_rows_are_refused_by_the_setting_that_says_so(
    data_dir: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(data_dir, tmp_path, "--config.audit.points=401") == 2
    assert re.search(r"--config\.audit\.points=401: .* 400 rows; lower it", capsys.readouterr().err)


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
        ({"step_share": 0.0}, "audit.step_share=0.0"),
        ({"points": 0}, "audit.points=0"),
        ({"retests": -1}, "audit.retests=-1"),
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
        "checks": [],
    } | more


@pytest.mark.parametrize(
    ("right", "said"),
    [
        ([True] * 10, r"The defence adds 80\.0 points of accuracy \(8 points won, 0 lost, p = 0.0"),
        ([True] * 4 + [False] * 6, r"adds 20\.0 points of accuracy, no more than chance would"),
        ([True] * 2 + [False] * 8, r"adds nothing that these attackers leave \(0 points won, 0"),
        ([False] * 10, r"takes 20\.0 points of accuracy away, no more than chance"),
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


def test_an_audit_says_what_it_will_take(
    finished: pathlib.Path, data_dir: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert run(data_dir, finished) == 0
    lines = capsys.readouterr().out.splitlines()
    (bare, rmc) = (line for line in lines if "gradient passes" in line)
    assert re.search(r"at most \d+ predictions of \S+ ms, \d+ s in all, and \d+ gradient", bare)
    # A point, clean, under seven attacks in the ball, and two in larger ones: each is answered
    # once. The first eight are asked again under two seeds and once as they were, seven are
    # replayed. Black boxes ask eight times, GMSA two times in each of three balls.
    a_point = 10 + 8 * 3 + 7 + 2 * 8 + 3 * 2
    assert f"at most {3 * a_point} predictions" in rmc


def test_a_budget_sets_the_parts_of_a_config() -> None:
    chosen = audited(budget="exhaustive", iterations=7)
    assert chosen.experiment.audit.queries == 5_000
    assert chosen.model("pgd_skip").iterations == 7, "what was set stays"
