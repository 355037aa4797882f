"""What an audit's attacks draw by, and when what they made is made anew."""

import dataclasses
import pathlib

import numpy as np
import pytest

from rmc_tf import attacks
from rmc_tf.audit import budgets
from rmc_tf.audit.ball import Ball
from rmc_tf.audit.crafting import Crafting
from rmc_tf.audit.kept import Kept, KeptOnDisk
from rmc_tf.audit.subject import subject as subject_of
from rmc_tf.audit.suite import suite
from rmc_tf.common.seeding import generator
from rmc_tf.networks.classifier import Classifier, softmax

Examples = tuple[np.ndarray, np.ndarray]


class Noisy:
    """Its network is shown what is drawn; it remembers by which seeds."""

    def __init__(self, network: Classifier) -> None:
        self.network = network
        self.state = {"random": np.array([-1])}
        self.shown, self.answered = list[int](), set[int]()

    def seen(self, images: np.ndarray, seed: int) -> np.ndarray:
        self.shown.append(seed)
        noise = 0.1 * generator(seed, "noise").standard_normal(images.shape)
        return np.asarray(images + noise, np.float32)

    def predict(self, image: np.ndarray) -> np.ndarray:
        self.answered.add(int(self.state["random"][0]))
        return np.asarray(softmax(self.network.forward(image[None])[1][0]))

    def snapshot(self) -> dict[str, np.ndarray]:
        return dict(self.state)

    def restore(self, state: dict[str, np.ndarray]) -> None:
        self.state = dict(state)


def crafting(
    noisy: Noisy, rows: Examples, seed: int, kept: Kept | None = None
) -> tuple[Crafting, Ball]:
    few = dataclasses.replace(budgets.find("quick"), iterations=3, samples=2, draws=3, queries=8)
    ball = Ball(0.1, "linf", few, (), (), seed)
    images, labels = rows
    subject = subject_of(noisy, images, labels, tell=lambda line: None)
    through = noisy.network
    made = Crafting(
        subject, through, images, labels, ball, kept or Kept(), random=True, shaking=True
    )
    return made, ball


@pytest.fixture(scope="module")
def few(test_rows: Examples) -> Examples:
    return test_rows[0][:2], test_rows[1][:2]


def test_what_a_gradient_is_averaged_over_is_drawn_by_the_audits_seed(
    templates: Classifier, few: Examples
) -> None:
    def drawn(seed: int, *before: str) -> tuple[list[int], np.ndarray]:
        noisy = Noisy(templates)
        made, ball = crafting(noisy, few, seed)
        attack, points = suite(ball)["pgd_skip"], np.arange(2)
        for name in before:
            made.in_a_batch(name, attack, points, templates)
        noisy.shown.clear()
        images = made.in_a_batch("pgd_skip", attack, points, templates)["images"]
        return noisy.shown, images

    (seeds, images), (same, again), (others, _) = drawn(3), drawn(3, "pgd_skip"), drawn(4)
    assert len(seeds) == len(set(seeds)) == 3 * 2, "two a step"
    assert seeds == same and np.array_equal(images, again), "whatever was drawn before"
    assert not set(seeds) & set(others)


def test_what_an_answer_is_averaged_over_is_drawn_by_the_audits_seed(
    templates: Classifier, few: Examples
) -> None:
    def drawn(seed: int) -> set[int]:
        noisy = Noisy(templates)
        made, ball = crafting(noisy, few, seed)
        made.of("rays", suite(ball)["rays"])(np.arange(1))
        return noisy.answered - {-1}  # its own

    assert len(drawn(3)) == 2
    assert drawn(3) == drawn(3) and not drawn(3) & drawn(4)


def test_what_is_kept_of_an_attack_is_made_anew_once_its_code_is_another(
    templates: Classifier,
    few: Examples,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def run() -> int:
        made, ball = crafting(Noisy(templates), few, 0, KeptOnDisk(tmp_path, "it", seconds=0.0))
        made.in_a_batch("pgd_skip", suite(ball)["pgd_skip"], np.arange(2), templates)
        return len([*tmp_path.glob("pgd_skip-*")])

    assert run() == run() == 1
    newer = dataclasses.replace(attacks.ATTACKS["pgd"], revision=2)
    monkeypatch.setitem(attacks.ATTACKS, "pgd", newer)  # type: ignore[arg-type]
    assert run() == 2
