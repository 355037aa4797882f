"""Settings: the same as JSON and as flags, frozen, and refused by a line that names the field."""

import dataclasses
import json
import math
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from rmc_tf import config
from rmc_tf.common.errors import UserError
from rmc_tf.config import ExperimentConfig, RMCConfig

PAPERS = config.shipped.datasets()
DEFAULT = dict.fromkeys(("table2", "denoising"), "imagenet")
"""The data set of a config that is made of one, where it isn't digits."""


def shipped(name: str) -> ExperimentConfig:
    """Returns what a file in configs/ builds."""
    if name in PAPERS:
        return config.shipped.of_dataset(name)
    return config.shipped.made_of(name, shipped(DEFAULT.get(name, "digits")))


DIGITS = shipped("digits")
AT_LEAST_1 = [
    *("model.blocks", "model.filters", "training.batch_size"),
    *("attacks.pgd.iterations", "attacks.pgd.binary_search_steps"),
    *("augmented_set.batch_size", "augmented_set.shard_rows"),
    *("index.recall_queries", "rmc.batch_size", "rmc.early_stop.patience"),
    *("rmc.calibration.early_stop.max_epochs", "evaluation.points", "rmc.calibration.every"),
    *("rmc.fast.batch_size", "rmc.fast.max_epochs"),
    *("cleansing.steps", "cleansing.batch_size", "cleansing.held_out"),
    *("private.networks", "private.first_steps", "private.successor_steps", "private.batch_size"),
    *("smoothing.steps", "smoothing.batch_size", "smoothing.filters", "smoothing.batch"),
]
LISTS = ["augmented_set.attacks", "evaluation.streams", "evaluation.defences"]
ABOVE_0 = [
    *("training.learning_rate", "attacks.pgd.epsilon", "attacks.pgd.step_size"),
    *("attacks.pgd.learning_rate", "attacks.pgd.initial_const", "attacks.pgd.gamma"),
    *("augmented_set.adversarial_per_row", "index.leaves_searched", "index.least_recall"),
    *("rmc.training_rate", "rmc.rate_share", "rmc.validation_share"),
    *("rmc.fast.neighbours", "rmc.fast.rate_factor"),
    *("cleansing.learning_rate", "cleansing.most_clean_loss", "private.learning_rate"),
    *("smoothing.sigma", "smoothing.learning_rate", "smoothing.alpha"),
]


def parent_of(values: dict[str, Any], field: str) -> tuple[dict[str, Any], str]:
    """Returns the innermost dictionary of "a.b.c", and c."""
    *parents, last = field.split(".")
    for parent in parents:
        values = values[parent]
    return values, last


def with_value(field: str, value: object) -> ExperimentConfig:
    """Returns the digits' experiment with one other setting, as read from JSON."""
    values = DIGITS.to_dict()
    inner, last = parent_of(values, field)
    inner[last] = value
    return ExperimentConfig.from_dict(values)


def refusal(field: str, value: object) -> str:
    """Returns the one line that a value is refused with."""
    with pytest.raises(UserError) as caught:
        with_value(field, value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def names(line: str, field: str) -> bool:
    """Says whether a line names a field; one of many alike is named by a star."""
    alike = field.replace(".pgd.", ".*."), "*." + ".".join(field.split(".")[-2:])
    return line.startswith(tuple(f"--config.{name}=" for name in (field, *alike)))


def changes(old: dict[str, Any], new: dict[str, Any], where: str = "") -> dict[str, object]:
    """Returns the settings of `new` that aren't those of `old`, as "a.b.c" to value."""
    assert old.keys() == new.keys()
    found: dict[str, object] = {}
    for name, value in new.items():
        if isinstance(value, dict):
            found |= changes(old[name], value, f"{where}{name}.")
        elif value != old[name]:
            found[where + name] = value
    return found


@pytest.mark.parametrize("name", config.shipped.names())
def test_a_shipped_config_is_the_same_after_json_and_as_flags(name: str) -> None:
    made = shipped(name)
    assert ExperimentConfig.from_dict(json.loads(json.dumps(made.to_dict()))) == made
    assert ExperimentConfig.from_dict(config.to_flags(made).to_dict()) == made
    assert config.shipped.load(name).get_config().to_dict() == made.to_dict()


def sections(value: Any) -> Iterator[Any]:
    """Yields a group of settings and all groups within."""
    if dataclasses.is_dataclass(value):
        yield value
    inner = value.values() if isinstance(value, dict) else getattr(value, "__dict__", {}).values()
    for each in inner:
        yield from sections(each)


@pytest.mark.parametrize("section", sections(DIGITS), ids=lambda section: type(section).__name__)
def test_no_setting_can_be_changed(section: Any) -> None:
    for field in dataclasses.fields(section):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(section, field.name, getattr(section, field.name))


@pytest.mark.parametrize(
    ("field", "remedy"),
    [
        ("epsilon", "known: seed, deterministic, dataset"),
        ("traning", "did you mean training?"),
        ("training.epoch", "did you mean training.epochs?"),
        ("attacks.pgd.epsilom", "did you mean attacks.pgd.epsilon?"),
        ("rmc.calibration.row", "did you mean rmc.calibration.rows?"),
    ],
)
def test_an_unknown_setting_is_answered_with_the_nearest(field: str, remedy: str) -> None:
    assert refusal(field, 1).startswith(f"--config.{field}: no such setting; {remedy}")


@pytest.mark.parametrize("field", ["dataset", "attacks", "dataset.name"])
def test_a_missing_setting_that_has_no_default_is_named(field: str) -> None:
    values = DIGITS.to_dict()
    inner, last = parent_of(values, field)
    del inner[last]
    with pytest.raises(UserError, match=f"^--config.{field}\\b"):
        ExperimentConfig.from_dict(values)


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("seed", "0", "expected int, got str"),
        ("seed", True, "expected int, got bool"),
        ("deterministic", 1, "expected bool, got int"),
        ("dataset", "digits", "expected DatasetConfig, got str"),
        ("dataset.name", None, "expected str, got NoneType"),
        ("attacks", ["pgd"], "expected dict, got list"),
        ("attacks.pgd", 0.1, "expected AttackConfig, got float"),
        ("training.epochs", 1.5, "expected int, got float"),
        ("training.learning_rate", True, "expected float, got bool"),
        ("augmented_set.attacks", "pgd", "expected tuple, got str"),
        ("index.exact_rows", [1, 2.5], "expected int, got float"),
        ("model.pixels", "0-255", "must be one of 0..1, 0..255, -1..1, caffe, torch"),
        ("model.pixels", "0..255", "only a model of the user's (model.path) needs it"),
        ("model.channels", "repeat", "only a model of the user's (model.path) needs it"),
        ("model.check", "no", "must be one of refuse, warn"),
        ("attacks.pgd.norm", "l1", "must be one of linf, l2, l0"),
        ("training.augmentation", "flip", "must be one of none, shift, shift_flip"),
        ("index.kind", ["exact"], "must be one of auto, exact, tree, quantised"),
        ("defence", "none", "must be recommended, or empty"),
        ("rmc.early_stop.keep", "", "must be one of last, best"),
        ("rmc.calibration.source", "D", "must be one of training_set, augmented_set"),
        ("augmented_set.attacks", ["cw"], "=cw: known: fgsm, pgd"),
        ("evaluation.streams", ["clean", "cw"], "=cw: known: clean, fgsm, pgd"),
        ("attacks.pgd.step_size", 0.2, "at most epsilon = 0.15"),
        *(("attacks.pgd.gamma", value, "in (0, 1]") for value in (0, -0.1, 1.1, math.nan)),
        *(("attacks.pgd.theta", value, "not 0") for value in (0, -1.1, 1.1, math.nan)),
        *(
            (f"attacks.pgd.{field}", value, "0 or more")
            for field in ("decay", "confidence")
            for value in (-0.1, math.inf, math.nan)
        ),
        *(
            (f"attacks.pgd.{field}", value, "above 0")
            for field in ("learning_rate", "initial_const")
            for value in (math.inf, math.nan)
        ),
        ("rmc.validation_share", 0.9999, "on either side"),
        ("rmc.k", 1, "at least 2"),
        ("index.exact_rows", [1000], "two numbers"),
        ("index.exact_rows", [0, 0], ""),
        *(("index.memory_gib", value, "0 or more") for value in (-1, math.inf, math.nan)),
        *(("index.candidates", value, "1 or more") for value in (0.9, math.inf, math.nan)),
        *((field, -1, "") for field in ("seed", "dataset.image_size", "rmc.calibration.rows")),
        *((field, [], "at least one") for field in LISTS[1:]),
        *((field, ["pgd", "pgd"], "each once") for field in LISTS),
        ("attacks", {"pgd": {}, "clean": {}}, "taken"),
        ("rmc.calibration.rows", 1, "at least 2"),
        *(("attacks.pgd.epsilon", value, "at most 1") for value in (1.5, math.nan, math.inf)),
        *((field, 0, "") for field in AT_LEAST_1 + ABOVE_0),
        *((field, -0.1, "") for field in ABOVE_0),
        *(
            (field, math.inf, "")
            for field in ("augmented_set.adversarial_per_row", "rmc.rate_share")
        ),
        *((f"{field}.validation_share", 1, "") for field in ("rmc", "rmc.calibration")),
        ("rmc.calibration.validation_share", -0.1, ""),
        ("rmc.trust_radius", -0.1, ""),
        *((field, -0.1, "0 or more") for field in ("rmc.settled", "rmc.fast.settled")),
        ("rmc.profile", "quick", "faithful, fast"),
        ("training.loss.starts_at_x", 0.2, "regular training has no attack"),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_name(field: str, value: Any, expected: str) -> None:
    line = refusal(field, value)
    assert names(line, field)
    assert expected in line


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *((field, 1) for field in [*AT_LEAST_1, "index.leaves_searched", "index.least_recall"]),
        *(("attacks.pgd.epsilon", 1), ("attacks.pgd.step_size", 0.15), ("rmc.k", 2), ("seed", 0)),
        *(("attacks.pgd.gamma", 1), ("attacks.pgd.theta", 1), ("attacks.pgd.theta", -1)),
        *(("attacks.pgd.decay", 0), ("attacks.pgd.confidence", 0)),
    ],
)
def test_a_limit_itself_is_allowed_and_takes_the_type_of_its_field(field: str, value: Any) -> None:
    inner, last = parent_of(with_value(field, value).to_dict(), field)
    assert inner[last] == value
    assert type(inner[last]) is type(parent_of(DIGITS.to_dict(), field)[0][last])


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (
            lambda: config.AugmentedSetConfig(attacks=("pgd")),  # type: ignore[arg-type]
            "augmented_set.attacks='pgd': expected tuple, got str; a comma makes a tuple: ('pgd',)",
        ),
        (
            lambda: config.TableConfig(rows="one"),  # type: ignore[arg-type]
            "table.rows='one': expected tuple, got str; a comma makes a tuple: ('one',)",
        ),
        (lambda: RMCConfig(k="512"), "rmc.k='512': expected int, got str"),  # type: ignore[arg-type]
        (lambda: RMCConfig(k=51.2), "rmc.k=51.2: expected int, got float"),  # type: ignore[arg-type]
        (lambda: RMCConfig(k=True), "rmc.k=True: expected int, got bool"),
        (
            lambda: RMCConfig(early_stop=5),  # type: ignore[arg-type]
            "rmc.early_stop=5: expected EarlyStopConfig, got int",
        ),
    ],
)
def test_a_value_of_another_type_is_refused_where_it_is_given(make: Any, told: str) -> None:
    with pytest.raises(UserError) as caught:
        make()
    assert str(caught.value) == f"--config.{told}"


def test_numbers_of_numpy_and_lists_are_taken_as_plain_ones() -> None:
    given = RMCConfig(k=np.int64(64), rate_share=np.float64(0.5), settled=1)  # type: ignore[arg-type]
    assert json.dumps(given.to_dict()) == json.dumps(
        RMCConfig(k=64, rate_share=0.5, settled=1.0).to_dict()
    )
    sets = [config.AugmentedSetConfig(attacks=each) for each in (["a", "b"], ("a", "b"))]  # type: ignore[arg-type]
    assert sets[0] == sets[1]


def test_a_radius_under_l2_may_be_above_1_and_fgsm_needs_no_step() -> None:
    assert config.AttackConfig(norm="l2", epsilon=1.5).epsilon == 1.5
    assert config.AttackConfig(attack="fgsm", epsilon=0.001, step_size=0.1).epsilon == 0.001
    with pytest.raises(UserError, match="epsilon=inf"):
        config.AttackConfig(norm="l2", epsilon=math.inf)


def test_only_frozen_statistics_can_be_folded() -> None:
    with pytest.raises(UserError, match=r"rmc\.step=fused: .*rmc\.batch_norm=training"):
        RMCConfig(step="fused", batch_norm="training")
    moving = RMCConfig(batch_norm="training", profile="fast")
    assert config.with_profile(moving).step == "plain", "it does without, and says nothing"


def test_a_data_set_is_primed_and_the_papers_tables_begin_at_the_trained_network() -> None:
    assert shipped("digits").rmc.primed_rows == RMCConfig().primed_rows > 0
    for table in ("table1", "table2", "table5a", "table7", "figure3", "figure4a"):
        assert shipped(table).rmc.primed_rows == 0, table
    with pytest.raises(UserError, match=r"rmc\.primed_rows=-1"):
        RMCConfig(primed_rows=-1)


def test_the_adaptation_rate_is_a_quarter_of_the_training_rate() -> None:
    assert RMCConfig().learning_rate == 0.25 * config.TrainingConfig().learning_rate
    assert RMCConfig(training_rate=0.04, rate_share=0.5).learning_rate == pytest.approx(0.02)


@pytest.mark.parametrize(("own", "followed"), [(1e-3, 0.25), (0.5, 0.5)])
def test_on_flags_rmc_follows_the_training_rate_unless_it_has_its_own(
    own: float, followed: float
) -> None:
    flags = config.to_flags(with_value("rmc.training_rate", own))
    flags.training.learning_rate = 0.25
    assert ExperimentConfig.from_dict(flags.to_dict()).rmc.training_rate == followed
    flags.rmc.training_rate = 0.75
    made = ExperimentConfig.from_dict(flags.to_dict())
    assert (made.training.learning_rate, made.rmc.training_rate) == (0.25, 0.75)


@pytest.mark.parametrize("name", PAPERS)
def test_the_authors_code_differs_from_the_paper_in_the_documented_options_only(name: str) -> None:
    file = config.shipped.load("authors_code")
    assert file.get_config(name).to_dict() == file.experiment(shipped(name)).to_dict()
    paper = dataclasses.replace(shipped(name), rmc=RMCConfig(k=77, training_rate=0.5))
    training = dataclasses.replace(paper.training, augmentation="shift")
    paper = dataclasses.replace(paper, training=training)
    assert changes(paper.to_dict(), file.experiment(paper).to_dict()) == {
        "augmented_set.sampling": "each",
        "rmc.validation": "quarter_of_nearest",
        "rmc.early_stop.patience": 5,
        "rmc.primed_rows": 0,
        "rmc.calibration.source": "augmented_set",
        "rmc.calibration.validation_share": 1 / 8,
        "rmc.calibration.augmentation": "shift",  # that of the training
        "rmc.calibration.early_stop.patience": 5,
        "evaluation.defences": ("none", "deep_nn_vote", "web_nn_vote", "rmc"),
        "evaluation.with_replacement": True,
        "table.name": "authors_code",
    }


def test_the_authors_code_overrules_the_options_of_later_works() -> None:
    stop = config.EarlyStopConfig(patience=2, max_epochs=7, keep="best")
    calibration = config.CalibrationConfig(early_stop=stop)
    later = RMCConfig(
        early_stop=stop,
        optimizer_state="reset",
        batch_norm="training",
        primed_rows=7,
        calibration=calibration,
    )
    assert config.authors_code(later) == config.authors_code(RMCConfig())


@pytest.mark.parametrize("name", ["table4", "table4.py", "configs/table4.py"])
def test_a_shipped_config_is_found_from_anywhere(
    name: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert config.shipped.find(name) == config.shipped.folder() / "table4.py"
    own = tmp_path / name
    own.parent.mkdir(exist_ok=True)
    own.write_text("")
    assert config.shipped.find(name) == pathlib.Path(name), "the user's own comes first"
    with pytest.raises(UserError, match=r"elsewhere/table4\.py: no such file"):
        config.shipped.find("elsewhere/table4.py")


def test_a_copy_of_a_shipped_config_runs_elsewhere(tmp_path: pathlib.Path) -> None:
    copy = tmp_path / "mine.py"
    copy.write_text((config.shipped.folder() / "table5b.py").read_text(encoding="utf-8"))
    loaded, name = config.shipped.run(str(copy))
    assert name == "digits" and loaded.table.name == "table5b"


def test_a_config_needs_no_more_than_an_experiment(tmp_path: pathlib.Path) -> None:
    own = tmp_path / "mine.py"
    own.write_text(
        "from rmc_tf import config\n\n\ndef experiment():\n"
        "    return config.shipped.of_dataset('digits')\n"
    )
    loaded, name = config.shipped.run(str(own))
    assert name == "mine" and loaded.to_dict() == DIGITS.to_dict()
    own.write_text("x = 1\n")
    with pytest.raises(UserError, match=r"mine\.py: it defines no experiment\(\) and no get_"):
        config.shipped.run(str(own))


def test_networks_beside_a_users_own_are_given_images_as_they_are() -> None:
    own = {"path": "own.keras", "pixels": "0..255", "channels": "repeat"}
    values = DIGITS.to_dict() | {"model": own, "networks": {"other": {"number": 1}}}
    model, _ = ExperimentConfig.from_dict(values).network("other")
    assert (model.path, model.pixels, model.channels) == ("", "0..1", "same")


def test_names_may_be_parted_by_commas_where_several_are_wanted() -> None:
    found = config.DatasetConfig.from_dict({"name": "", "folder": "photos", "classes": ["cat,dog"]})
    assert found.classes == ("cat", "dog")


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("port", 70_000, r"--config.service.port=70000: must be in \[0, 65535\]"),
        ("name", "a/b", "--config.service.name=a/b: must be letters, digits"),
        ("host", "", "--config.service.host=: must be an address"),
        ("queue", 0, "--config.service.queue=0: must be 1 or more"),
        ("canary_bar", 0.0, "--config.service.canary_bar=0.0: must be in"),
        ("defence", "none", "--config.service.defence=none: must be one of rmc, rmc_plus"),
    ],
)
def test_a_service_that_cannot_be_is_refused_in_a_line(field: str, value: Any, said: str) -> None:
    with pytest.raises(UserError, match=said):
        config.ServiceConfig(**{field: value})


def test_a_service_listens_on_loopback_alone_unless_it_is_told_otherwise() -> None:
    assert config.ServiceConfig().host == "127.0.0.1"
