"""The benchmark of attacks compares like with like, and reckons ratios of neighbours in time."""

import numpy as np
import pytest

from rmc_tf.networks.classifier import Classifier
from tools import benchmark_attacks
from tools.performance import attack_peers
from tools.performance.attack_peers import Pair, Task


@pytest.fixture
def task(network: Classifier, test_rows: tuple[np.ndarray, np.ndarray]) -> Task:
    images, labels = test_rows[0][:4], test_rows[1][:4]
    return Task(network, images, labels, (labels + 1) % 10, iterations=2)


def test_both_of_a_pair_move_the_same_images_as_far(task: Task) -> None:
    pair = next(attack_peers.pairs(task))  # FGSM: the quickest to compile
    ours, theirs = (np.abs(run() - task.images) for run in (pair.ours, pair.theirs))
    assert ours.max() > 0.02
    np.testing.assert_allclose(ours.max(axis=(1, 2, 3)), theirs.max(axis=(1, 2, 3)), atol=1e-5)
    assert pair.gradients is not None
    assert pair.gradients().shape == task.images.shape


def test_ratios_are_the_peers_time_by_ours_and_by_the_gradients_alone(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ours() -> np.ndarray:
        return task.images

    def theirs() -> np.ndarray:
        return 0 * task.images  # what a peer gives where it has found nothing

    def gradients() -> np.ndarray:
        return task.images

    seconds: dict[attack_peers.Run, float] = {ours: 2.0, theirs: 6.0, gradients: 1.5}
    calls_asked = []

    def timed(run: attack_peers.Run, calls: int = 1) -> float:
        calls_asked.append(calls)
        return seconds[run]

    monkeypatch.setattr(benchmark_attacks, "_seconds", timed)
    pair = Pair("fgsm", "peer", ours, theirs, gradients)
    found = benchmark_attacks.measure(task, pair, repeats=5, seconds_at_most=60)
    assert found["ratios"] == [3.0] * 5
    assert (found["ratio"], found["limit"]) == (3.0, 4.0)
    assert (found["ours_s"], found["theirs_s"]) == (2.0, 6.0)
    assert found["their_success"] == 0
    assert set(calls_asked) == {1}  # each takes longer than the least that is measured
    no_gradients = benchmark_attacks.measure(task, pair._replace(gradients=None), 1, 60)
    assert no_gradients["limit"] is None
