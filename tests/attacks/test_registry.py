"""What an attack can't do is refused by name; targets and other starts are the caller's."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import scipy.stats

from rmc_tf import attacks
from rmc_tf.common.errors import UserError
from rmc_tf.config import AttackConfig, Norm
from rmc_tf.networks.classifier import Classifier

Examples = tuple[np.ndarray, np.ndarray]
OTHER_VALUES: dict[str, Any] = dict(
    zip(
        (
            *("epsilon", "step_size", "iterations", "random_start", "decay", "learning_rate"),
            *("confidence", "initial_const", "binary_search_steps", "theta", "gamma", "saliency"),
            *("loss", "restarts", "classes_tried", "queries", "patience"),
        ),
        (0.5, 0.01, 3, False, 0.5, 0.1, 1.0, 1.0, 2, 0.5, 0.5, "target", "margin", 2, 3, 9, 9),
        strict=True,
    )
)


def first_norm(attack: str) -> Norm:
    return attacks.ATTACKS[attack].norms[0]


def starts(attack: str) -> bool:
    """Says whether an attack can have a random start."""
    return "random_start" in attacks.ATTACKS[attack].settings


def plain(attack: str, **settings: Any) -> AttackConfig:
    """Returns an attack that is allowed, with some settings of one's own."""
    settings = {"norm": first_norm(attack), "targeted": attack == "jsma"} | settings
    return AttackConfig(attack=attack, **settings)


def test_an_unknown_attack_is_refused_with_the_known_ones(network: Classifier) -> None:
    with pytest.raises(UserError, match=f"attack=cw: .*known: {', '.join(attacks.ATTACKS)}$"):
        attacks.build(AttackConfig(attack="cw"), network)


@pytest.mark.parametrize("attack", attacks.ATTACKS)
def test_a_norm_that_the_attack_does_not_have_is_refused_with_its_own(attack: str) -> None:
    norms: tuple[Norm, ...] = ("linf", "l2", "l0")
    for norm in norms:
        if norm in attacks.ATTACKS[attack].norms:
            assert attacks.find(plain(attack, norm=norm)) is attacks.ATTACKS[attack]
        else:
            own = ", ".join(attacks.ATTACKS[attack].norms)
            with pytest.raises(UserError, match=f"norm={norm}: {attack} .*known: {own}$"):
                attacks.find(plain(attack, norm=norm))


@pytest.mark.parametrize("attack", attacks.ATTACKS)
@pytest.mark.parametrize("field", OTHER_VALUES)
def test_a_setting_that_the_attack_does_not_read_is_refused(attack: str, field: str) -> None:
    config = plain(attack, **{field: OTHER_VALUES[field]})
    if field in attacks.ATTACKS[attack].settings:
        assert attacks.find(config) is attacks.ATTACKS[attack]
    else:
        with pytest.raises(UserError, match=rf"\.{field}=.*: {attack} has no such setting; leave"):
            attacks.find(config)


def test_every_setting_of_the_config_is_read_by_some_attack() -> None:
    fields = {field.name for field in dataclasses.fields(AttackConfig)} - {"attack", "norm"}
    assert fields == set(OTHER_VALUES) | {"targeted"}
    assert fields == {name for attack in attacks.ATTACKS.values() for name in attack.settings}


def test_jsma_without_targets_is_refused() -> None:
    with pytest.raises(UserError, match=r"targeted=False: jsma can only be targeted"):
        attacks.find(plain("jsma", targeted=False))


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_targets_are_reproducible_uniform_and_never_the_label(classes: int) -> None:
    labels = np.random.default_rng(0).integers(0, classes, 9000)
    targets = attacks.draw_targets(labels, classes, 3)
    assert targets.dtype == np.int32
    np.testing.assert_array_equal(attacks.draw_targets(labels, classes, 3), targets)
    assert np.all(targets != labels) and targets.min() == 0 and targets.max() == classes - 1
    for label in range(classes):
        counts = np.bincount(targets[labels == label], minlength=classes)
        others = np.delete(counts, label)
        assert len(others) == 1 or scipy.stats.chisquare(others).pvalue > 1e-4
    assert classes == 2 or np.any(attacks.draw_targets(labels, classes, 4) != targets)


def test_an_attack_that_is_given_no_targets_draws_them_by_its_seed(
    network: Classifier, test_rows: Examples
) -> None:
    images, labels = test_rows
    craft = attacks.build(plain("fgsm", targeted=True), network)
    targets = attacks.draw_targets(labels, 10, 6)
    expected = craft(images, labels, 6, targets=targets)
    np.testing.assert_array_equal(craft(images, labels, 6), expected)
    assert not np.array_equal(craft(images, labels, 7), expected)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda targets, labels: np.where(np.arange(64) == 9, labels, targets), "at row 9 is the"),
        (lambda targets, labels: targets[:-1], "63 targets for 64 images"),
        (lambda targets, labels: targets + 10, "there are 10 classes"),
        (lambda targets, labels: targets - 10, "there are 10 classes"),
    ],
)
def test_targets_that_cannot_be_are_refused(
    network: Classifier, test_rows: Examples, change: Any, told: str
) -> None:
    images, labels = test_rows
    craft = attacks.build(plain("bim", targeted=True), network)
    targets = change(attacks.draw_targets(labels, 10, 0), labels)
    with pytest.raises(UserError, match=told):
        craft(images, labels, 0, targets=targets)


def test_targets_for_an_attack_that_has_none_are_refused(
    network: Classifier, test_rows: Examples
) -> None:
    images, labels = test_rows
    with pytest.raises(UserError, match="targets for bim"):
        attacks.build(plain("bim"), network)(images, labels, 0, targets=(labels + 1) % 10)


@pytest.mark.parametrize("attack", ["fgsm", "bim", "mim"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_repeated_rows_begin_elsewhere_in_the_ball_and_the_others_at_x(
    network: Classifier, test_rows: Examples, attack: str, norm: Norm
) -> None:
    images, labels = test_rows
    craft = attacks.build(plain(attack, norm=norm, epsilon=0.1), network)
    once = craft(images, labels, 1)
    np.testing.assert_array_equal(craft(images, labels, 2), once)
    repeated = np.arange(64) % 2 == 0
    again, other = (craft(images, labels, seed, repeated=repeated) for seed in (1, 2))
    np.testing.assert_array_equal(again[~repeated], once[~repeated])
    for one, two in ((again, once), (other, once), (other, again)):
        assert np.any(one != two, axis=(1, 2, 3))[repeated].all()
    moved = (again - images).reshape(64, -1)
    assert np.linalg.norm(moved, np.inf if norm == "linf" else 2, axis=1).max() <= 0.1 + 1e-6


def test_pgd_begins_anywhere_with_or_without_being_told_that_a_row_is_repeated(
    network: Classifier, test_rows: Examples
) -> None:
    images, labels = test_rows
    craft = attacks.build(plain("pgd"), network)
    everywhere = craft(images, labels, 1, repeated=np.ones(64, bool))
    np.testing.assert_array_equal(craft(images, labels, 1), everywhere)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (plain("pgd"), True),
        (plain("pgd", random_start=False), False),
        (plain("pgd", random_start=False, targeted=True), True),
        *(
            (plain(attack), attack in ("jsma", "square", "autoattack"))
            for attack in attacks.ATTACKS
            if not starts(attack)
        ),
    ],
)
def test_an_attack_draws_at_random_if_it_has_targets_or_a_random_start(
    config: AttackConfig, expected: bool
) -> None:
    assert attacks.draws_at_random(config) == expected
