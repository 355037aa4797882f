"""What the result of a threatened cell depends on: all that its threat is made from."""

import dataclasses
import pathlib
import weakref
from typing import Any

import pytest

from rmc_tf import threats
from rmc_tf.common.errors import UserError
from rmc_tf.config import (
    AttackConfig,
    AugmentedSetConfig,
    DatasetConfig,
    EvaluationConfig,
    ExperimentConfig,
    ModelConfig,
    PrivateConfig,
    RMCConfig,
    ThreatConfig,
)
from rmc_tf.experiment import artefacts
from rmc_tf.experiment.cells import Cell
from rmc_tf.experiment.pipeline import Pipeline
from rmc_tf.experiment.sides import Role, Sides
from rmc_tf.experiment.workspace import Workspace
from rmc_tf.search.index import FeatureIndex

PGD = AttackConfig(epsilon=0.1, step_size=0.02, iterations=7)


@pytest.fixture
def config(trained: tuple[pathlib.Path, str], data_dir: pathlib.Path) -> ExperimentConfig:
    return ExperimentConfig(
        dataset=DatasetConfig(name="digits", data_dir=str(data_dir)),
        model=ModelConfig(path=str(trained[0]), feature_layer=trained[1]),
        attacks={"pgd": PGD},
        threats={
            "neighbours": ThreatConfig(threat="pgd_nn", attack="pgd"),
            "static": ThreatConfig(threat="transfer", attack="pgd"),
            "whole": ThreatConfig(threat="gmsa_avg", attack="pgd"),
        },
        augmented_set=AugmentedSetConfig(attacks=("pgd",), adversarial_per_row=0.5),
        rmc=RMCConfig(k=64, primed_rows=0),
        evaluation=EvaluationConfig(streams=("clean",)),
    )


def paths(config: ExperimentConfig, workdir: pathlib.Path) -> dict[str, str]:
    """Returns where the results of the bare network under each threat are."""
    pipeline = Pipeline(config, workdir, print)
    return {
        name: pipeline.finished_path(Cell("target", "none", (), name, "")).name
        for name in config.threats
    }


def test_a_threat_that_searches_depends_on_what_it_searches_even_if_the_defence_does_not(
    config: ExperimentConfig, tmp_path: pathlib.Path
) -> None:
    before = paths(config, tmp_path)
    other_set = dataclasses.replace(config.augmented_set, adversarial_per_row=0.25)
    for changed in (
        dataclasses.replace(config, rmc=dataclasses.replace(config.rmc, k=32)),
        dataclasses.replace(config, augmented_set=other_set),
    ):
        after = paths(changed, tmp_path)
        assert after["neighbours"] != before["neighbours"]
        assert after["static"] == before["static"]
        assert after["whole"] == before["whole"]


@pytest.mark.parametrize("what", ["revision", "package"])
def test_a_result_is_not_reused_once_its_threat_computes_otherwise(
    config: ExperimentConfig, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    before = paths(config, tmp_path)
    kind = threats.THREATS["gmsa_avg"]
    if what == "revision":
        other = dataclasses.replace(kind, revision=kind.revision + 1)
    else:
        other = dataclasses.replace(kind, packages=(*kind.packages, "foolbox"))
    monkeypatch.setattr(threats, "THREATS", {**threats.THREATS, "gmsa_avg": other})
    after = paths(config, tmp_path)
    assert after["whole"] != before["whole"]
    assert after["static"] == before["static"]


def test_no_defence_keeps_the_index_of_one_d_prime_while_that_of_the_next_is_built(
    config: ExperimentConfig, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[weakref.ref[FeatureIndex]] = []
    alive_meanwhile = []

    def watched(*args: Any, **options: Any) -> FeatureIndex:
        alive_meanwhile.append(sum(each() is not None for each in built))
        index = FeatureIndex(*args, **options)
        built.append(weakref.ref(index))
        return index

    monkeypatch.setattr(artefacts, "FeatureIndex", watched)
    made = artefacts.Artefacts(Workspace(config, tmp_path, print))
    sides = Sides(config, made)
    bare = sides.defence(Cell("target", "none", (), "clean", ""))
    sides.defence(Cell("target", "rmc", ("pgd",), "clean", ""))
    sides.defence(Cell("target", "web_nn", (), "clean", ""))
    assert alive_meanwhile == [0, 0]
    assert sides.defence(Cell("target", "none", (), "clean", "")) is bare


def test_threats_that_cannot_be_made_are_refused_before_any_work(
    config: ExperimentConfig, tmp_path: pathlib.Path
) -> None:
    few = {"few": ThreatConfig(threat="hop_skip_jump", attack="pgd", queries=2)}
    with pytest.raises(UserError, match="queries=2: hop_skip_jump takes at least 8"):
        Pipeline(dataclasses.replace(config, threats=few), tmp_path, print)
    with pytest.raises(UserError, match=r"threats\.odd\.attack=pdg: known: pgd"):
        dataclasses.replace(config, threats={"odd": ThreatConfig(threat="fpa", attack="pdg")})
    with pytest.raises(UserError, match=r"threats=clean: .*taken"):
        dataclasses.replace(config, threats={"clean": ThreatConfig(attack="pgd")})
    assert not any(tmp_path.iterdir())


def test_a_secret_is_the_defenders_alone(config: ExperimentConfig, tmp_path: pathlib.Path) -> None:
    config = dataclasses.replace(config, private=PrivateConfig(secret=7))
    sides = Pipeline(config, tmp_path, print).sides
    cell = Cell("target", "private", (), "clean", "")
    assert sides.settings(cell).private.secret == 7
    for role in (Role.REPLAY, Role.PARTIAL_ATTACKER):
        other = sides.settings(cell, role)
        assert other.private.secret == 0 and other.seed != config.seed
        assert sides.made_from(cell, role) != sides.made_from(cell)
