"""Which points stand where answers are drawn, and how often each is asked."""

from types import SimpleNamespace
from typing import Any

import numpy as np

from rmc_tf.audit import behaviour
from rmc_tf.audit.kept import Kept
from rmc_tf.audit.standing import CLEAN, Standing
from rmc_tf.audit.subject import subject as subject_of

SEEDS = (5, 6, 7)


class Drawn:
    """Answers 0, or 1 where its first number says so of how bright an image is; counts."""

    def __init__(self) -> None:
        self.state = {"random": np.array([0, 0])}
        self.asked = 0

    def predict(self, image: np.ndarray) -> np.ndarray:
        self.asked += 1
        bright = float(image.mean())
        wrong = bright > (0.9 if self.state["random"][0] == 0 else 0.6)
        return np.array([0.5 - bright / 4, 0.0] if not wrong else [0.0, 1.0])

    def snapshot(self) -> dict[str, np.ndarray]:
        return dict(self.state)

    def restore(self, state: dict[str, np.ndarray]) -> None:
        self.state = dict(state)


def at(*brightness: float) -> np.ndarray:
    return np.array(brightness, np.float32)[:, None, None, None] * np.ones((2, 2, 1), np.float32)


def begun(images: np.ndarray, labels: np.ndarray) -> tuple[Drawn, Standing]:
    drawn = Drawn()
    standing = Standing(subject_of(drawn, images, labels), images, labels, SEEDS)
    drawn.asked = 0
    return drawn, standing


def attacked(standing: Standing, points: np.ndarray, name: str, *brightness: float) -> np.ndarray:
    return standing.judge(name, name, points, at(*brightness), spent=1.0, seconds=0.0)


def test_a_final_point_that_falls_under_another_seed_is_broken_by_what_made_it() -> None:
    _, standing = begun(at(0.1, 0.1), np.array([0, 0]))
    every = np.arange(2)
    right = standing.judge("clean", CLEAN, every, standing.images, spent=0.0, seconds=0.0)
    assert right.all() and standing.worst_case == 1
    assert attacked(standing, every, "strong", 0.8, 0.4).all(), "under its own seed"
    attacked(standing, every, "weak", 0.5, 0.3)
    assert standing.worst_case == 1
    assert standing.ask_again()
    assert standing.always.tolist() == [False, True]
    assert standing.broken[0].by == "strong"
    assert standing.share.tolist() == [1 / 4, 1], "one answer of four, its own seed's, was right"
    last = standing.stages[-1]
    assert (last["name"], last["attacked"], last["broke"]) == ("asked_again", 2, 1)


def test_a_wrong_answer_is_asked_again_until_most_are_and_a_right_one_is_not() -> None:
    drawn, standing = begun(at(0.1, 0.1, 0.1), np.array([0, 0, 0]))
    every = np.arange(3)
    attacked(standing, every, "first", 0.95, 0.2, 0.2)
    assert drawn.asked == 3 + len(SEEDS)
    assert standing.share.tolist() == [0, 1, 1] and standing.points.tolist() == [1, 2]
    attacked(standing, every, "second", 0.95, 0.2, 0.2)
    assert drawn.asked == 2 * 3 + len(SEEDS), "it is known that it falls"


def test_clean_points_are_asked_under_all_seeds() -> None:
    drawn, standing = begun(at(0.1, 0.7), np.array([0, 0]))
    standing.judge("clean", CLEAN, np.arange(2), standing.images, spent=0.0, seconds=0.0)
    assert drawn.asked == 2 * (1 + len(SEEDS))
    assert standing.always.tolist() == [True, False] and standing.points.tolist() == [0]
    assert standing.broken[1].by == CLEAN


def test_whether_it_is_refused_may_be_what_is_drawn() -> None:
    class Refuses(Drawn):
        def predict(self, image: np.ndarray) -> Any:
            refused = self.state["random"][0] == 0 and image.mean() > 0.5
            return SimpleNamespace(probabilities=np.array([0.7, 0.3]), refused=refused)

    images, labels = at(0.1, 0.8), np.array([0, 0])
    given = subject_of(Refuses(), images, labels)
    assert behaviour.drawn(given, images, 0, Kept())[0] == 1
