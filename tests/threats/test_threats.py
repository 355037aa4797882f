"""Attacks on a defence: what they know of it, and that they leave no trace in it."""

import dataclasses
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from rmc_tf import attacks, threats
from rmc_tf.augmented_set import features, rows_on_disk
from rmc_tf.common.errors import UserError
from rmc_tf.common.traces import Traces
from rmc_tf.config import (
    AttackConfig,
    CalibrationConfig,
    EarlyStopConfig,
    RMCConfig,
    ThreatConfig,
    TrainingConfig,
)
from rmc_tf.data.images import distance
from rmc_tf.defences.base import Defence, Prediction, State, reseeded
from rmc_tf.defences.non_masking import NonMasking
from rmc_tf.defences.rmc import RMC
from rmc_tf.defences.undefended import Undefended
from rmc_tf.evaluation.streams import Stream
from rmc_tf.networks.classifier import Classifier
from rmc_tf.search.index import FeatureIndex
from rmc_tf.threats import hindsight
from rmc_tf.threats.base import SearchedRows, Threat, undisturbed, weights
from rmc_tf.threats.ensemble_pgd import EnsemblePGD
from rmc_tf.threats.histories import Standing, state_after
from rmc_tf.threats.pgd_skip import crafted_from, in_another_order
from rmc_tf.training import loop

SHORT = EarlyStopConfig(max_epochs=2)
CONFIG = RMCConfig(
    k=64,
    primed_rows=0,
    batch_size=32,
    rate_share=1,  # so that a few steps are seen in the answers
    early_stop=SHORT,
    calibration=CalibrationConfig(early_stop=SHORT),
)
Examples = tuple[np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def deployed(trained: tuple[pathlib.Path, str]) -> Classifier:
    """θ*, which no test here changes."""
    return Classifier.load(*trained)


@pytest.fixture(scope="module")
def shared(
    deployed: Classifier, d_prime: rows_on_disk.AugmentedSet, index: FeatureIndex
) -> tuple[RMC, State]:
    """One RMC for all tests, since each takes a second to trace; and its first state."""
    rmc = RMC(deployed, d_prime, index, CONFIG)
    return rmc, rmc.snapshot()


@pytest.fixture
def rmc(shared: tuple[RMC, State]) -> RMC:
    """RMC as it was deployed."""
    shared[0].restore(shared[1])
    return shared[0]


@pytest.fixture(scope="module")
def surest(deployed: Classifier, test_rows: Examples) -> tuple[np.ndarray, int]:
    """The digit that the network knows best, and its label: no weak attack changes its answer."""
    images, labels = test_rows
    best = int(_loss(deployed, images, labels).argmin())
    return images[best], int(labels[best])


class Heard:
    """A defence, and all that it was asked and answered."""

    def __init__(self, defence: Defence) -> None:
        self._defence = defence
        self.asked: list[np.ndarray] = []
        self.answers: list[Prediction] = []
        self.adapted: list[list[np.ndarray]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._defence, name)

    def predict(self, image: np.ndarray) -> Prediction:
        self.asked.append(image)
        self.answers.append(self._defence.predict(image))
        self.adapted.append(weights(self._defence.network))
        return self.answers[-1]

    def predict_many(self, images: np.ndarray | Sequence[np.ndarray]) -> list[Prediction]:
        return [self.predict(image) for image in images]


@pytest.fixture(scope="module")
def searched(d_prime: rows_on_disk.AugmentedSet, static: features.StaticFeatures) -> SearchedRows:
    read = lambda numbers: d_prime.rows(numbers).images  # noqa: E731
    return SearchedRows(static.features, static.outputs, d_prime.labels, 64, read)


def _threat(
    name: str, attack: AttackConfig, classifier: Classifier, searched: Any = None, **settings: Any
) -> Any:
    config = ThreatConfig(threat=name, attack="one", **settings)
    return threats.build(config, {"one": attack}, classifier, searched)


def _answers_from(defence: Defence, state: State, images: np.ndarray) -> list[Prediction]:
    """Returns the answer to each image as if it came next after one state."""
    with undisturbed(defence):
        standing = Standing(defence, state)
        return [standing.predict(image) for image in images]


def _same_state(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[n], other[n]) for n in one)


def _same(one: Prediction, other: Prediction) -> bool:
    return np.array_equal(one.probabilities, other.probabilities)


def _loss(classifier: Classifier, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    logits = classifier.forward(images)[1].astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    return np.asarray(np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(labels)), labels])


@pytest.mark.parametrize("name", threats.THREATS)
def test_a_threat_stays_in_its_ball_and_leaves_the_defence_as_it_found_it(
    name: str,
    rmc: RMC,
    deployed: Classifier,
    pgd: AttackConfig,
    searched: SearchedRows,
    test_rows: Examples,
    surest: tuple[np.ndarray, int],
) -> None:
    image, label = surest
    rmc.predict(test_rows[0][0])  # so that a calibration is due, and has to be due again
    before, static = rmc.snapshot(), deployed.fingerprint()
    known = threats.THREATS[name].settings
    few = {field: n for field, n in (("rounds", 2), ("queries", 8)) if field in known}
    threat: Threat = _threat(name, pgd, deployed, searched, **few)
    crafted, again, other = (threat.craft(rmc, image, label, n) for n in (3, 3, 4))
    assert crafted.dtype == np.float32
    assert 0 < distance(crafted[None], image[None], "linf")[0] <= pgd.epsilon + 1e-6
    assert crafted.min() >= 0
    assert crafted.max() <= 1
    assert np.array_equal(crafted, again)
    assert np.array_equal(crafted, other) == (name == "rays"), "it draws, unless it is RayS"
    assert _same_state(rmc.snapshot(), before)
    assert deployed.fingerprint() == static


def test_transfer_is_the_attack_on_the_static_network_whatever_became_of_the_defence(
    rmc: RMC, deployed: Classifier, pgd: AttackConfig, test_rows: Examples
) -> None:
    images, labels = test_rows
    rmc.predict(images[9])
    crafted = _threat("transfer", pgd, deployed).craft_batch(rmc, images[:4], labels[:4], 7)
    assert np.array_equal(crafted, attacks.build(pgd, deployed)(images[:4], labels[:4], 7))


def test_pgd_skip_is_the_attack_on_the_weights_that_the_next_answer_begins_with(
    rmc: RMC, deployed: Classifier, pgd: AttackConfig, test_rows: Examples
) -> None:
    images, labels = test_rows
    threat = _threat("pgd_skip", pgd, deployed)
    rmc.predict(images[9])
    crafted = threat.craft_batch(rmc, images[:4], labels[:4], 7)  # its calibration is still due
    rmc.calibrate()
    present = deployed.clone()
    present.model.set_weights(rmc.network.model.get_weights())
    assert np.array_equal(crafted, attacks.build(pgd, present)(images[:4], labels[:4], 7))
    assert not np.array_equal(crafted, attacks.build(pgd, deployed)(images[:4], labels[:4], 7))


def test_a_state_of_a_history_is_that_of_a_defence_that_answered_so_far(
    rmc: RMC, test_rows: Examples, tmp_path: pathlib.Path
) -> None:
    images, _ = test_rows
    first = rmc.snapshot()
    states = {count: state_after(rmc, images, count, folder=tmp_path) for count in (0, 2, 3)}
    assert _same_state(rmc.snapshot(), first)
    assert _same_state(states[0], first)
    for image in images[:2]:
        rmc.predict(image)
    expected = rmc.predict(images[5])
    assert all(_same(a, expected) for a in _answers_from(rmc, states[2], images[[5, 5]]))


def test_a_delayed_attack_is_crafted_at_p_and_answered_at_p_plus_q(
    rmc: RMC,
    deployed: Classifier,
    pgd: AttackConfig,
    test_rows: Examples,
    tmp_path: pathlib.Path,
) -> None:
    images, labels = test_rows[0][8:10], test_rows[1][8:10]
    # Under L2 other weights lead elsewhere, be it by one bit.
    pgd = dataclasses.replace(pgd, norm="l2", epsilon=1.2, step_size=0.3, random_start=False)
    threat, heard, first = _threat("pgd_skip", pgd, deployed), Heard(rmc), rmc.snapshot()
    states = {n: state_after(heard, test_rows[0][:5], n, folder=tmp_path) for n in (1, 3)}
    assert len(heard.asked) == 3  # the history once for both
    crafted = crafted_from(threat, heard, states[1], images, labels, seed=1)
    assert len(heard.asked) == 3  # PGD-Skip asks nothing
    assert _same_state(rmc.snapshot(), first)
    at_once, delayed = (_answers_from(rmc, states[count], crafted) for count in (1, 3))
    for number, image in enumerate(test_rows[0][:3]):
        rmc.predict(image)
        rmc.calibrate()
        if number == 0:
            assert np.array_equal(crafted, threat.craft_batch(rmc, images, labels, 0))
    assert not np.array_equal(crafted, threat.craft_batch(rmc, images, labels, 0))
    assert _same(rmc.predict(crafted[0]), delayed[0])
    assert not _same(delayed[0], at_once[0])


@pytest.mark.parametrize(("share", "known"), [(0.0, 0), (0.5, 2)])
def test_a_partial_attacker_adapts_its_own_defence_to_the_points_it_knows(
    rmc: RMC,
    deployed: Classifier,
    pgd: AttackConfig,
    test_rows: Examples,
    tmp_path: pathlib.Path,
    share: float,
    known: int,
) -> None:
    images, labels = test_rows
    simulator = Heard(rmc)  # of the same seed as the defender, and afresh
    threat = _threat("pgd_skip", dataclasses.replace(pgd, random_start=False), deployed)
    assert ThreatConfig(threat="pgd_skip", before=4, known_share=share).known == known
    points = in_another_order(images[:4], seed=1)
    state = state_after(simulator, points, known, folder=tmp_path)
    assert len(simulator.asked) == known
    history = {image.tobytes() for image in images[:4]}
    assert {image.tobytes() for image in points} == history
    assert {image.tobytes() for image in simulator.asked} <= history
    assert not known or not np.array_equal(simulator.asked, images[:known])  # out of order
    crafted = crafted_from(threat, simulator, state, images[8:9], labels[8:9], seed=1)
    for image in points[:known]:
        rmc.predict(image)
    believed = threat.craft_batch(rmc, images[8:9], labels[8:9], 0)
    assert np.array_equal(crafted, believed)


def test_the_order_of_the_known_points_is_drawn_by_the_seed() -> None:
    points = np.arange(40.0).reshape(40, 1)
    one, same, other = (in_another_order(points, seed).ravel().tolist() for seed in (1, 1, 2))
    assert one == same != other
    assert sorted(one) == sorted(other) == points.ravel().tolist()


def test_a_moment_after_the_end_of_a_history_is_refused(
    rmc: RMC, test_rows: Examples, tmp_path: pathlib.Path
) -> None:
    with pytest.raises(UserError, match=r"an attack after 5 points.*history of 4"):
        state_after(rmc, test_rows[0][:4], 5, folder=tmp_path)


def test_without_masking_the_answer_is_that_of_the_weights_that_the_history_left(
    rmc: RMC, test_rows: Examples
) -> None:
    images, _ = test_rows
    defence = NonMasking(rmc)
    rmc.predict(images[0])
    answer, again = defence.predict(images[1]), defence.predict(images[1])
    logits = rmc.network.forward(images[1:2])[1][0]
    np.testing.assert_allclose(
        answer.probabilities, np.exp(logits) / np.exp(logits).sum(), atol=1e-6
    )
    assert _same(answer, again)
    assert rmc.calibrate() is None  # the history's was done before the answer
    assert answer.steps == 0
    assert not _same(answer, rmc.predict(images[1]))
    state = defence.snapshot()
    masked = _answers_from(rmc, state, images[2:3])[0]
    assert not _same(_answers_from(defence, state, images[2:3])[0], masked)
    assert _same(rmc.predict(images[2]), masked)  # left as it was found


@pytest.fixture
def tuned(
    deployed: Classifier, pgd: AttackConfig, test_rows: Examples, tmp_path: pathlib.Path
) -> Any:
    def of(points: int, examples: int) -> Classifier:
        history = Stream("clean", *test_rows, np.arange(len(test_rows[1])), "of a test", {})
        return hindsight.network(
            deployed,
            history,
            points,
            attack=pgd,
            examples=examples,
            settings=TrainingConfig(batch_size=8, learning_rate=1e-2),
            seed=0,
            deterministic=True,
            folder=tmp_path / "train",
            say=lambda line: None,
            traces=lambda fingerprint: Traces(),
        )

    return of


def test_hindsight_training_withstands_the_attack_on_the_points_it_was_shown(
    tuned: Any, deployed: Classifier, pgd: AttackConfig, test_rows: Examples
) -> None:
    images, labels = test_rows
    before = deployed.fingerprint()
    network = tuned(16, 800)

    def accuracy(classifier: Classifier) -> float:
        crafted = attacks.build(pgd, classifier)(images[:16], labels[:16], 0)
        return float(np.mean(classifier.forward(crafted)[1].argmax(1) == labels[:16]))

    assert accuracy(network) > accuracy(deployed) + 0.3
    assert deployed.fingerprint() == before


@pytest.mark.parametrize(("examples", "steps"), [(0, 0), (20, 3), (64, 8)])
def test_hindsight_training_ends_with_the_last_example_it_is_allowed(
    tuned: Any,
    monkeypatch: pytest.MonkeyPatch,
    test_rows: Examples,
    examples: int,
    steps: int,
) -> None:
    batches: list[np.ndarray] = []
    real = loop._Trainer.steps

    def listen(self: Any, images: list[np.ndarray], *rest: Any) -> Any:
        batches.extend(images)
        return real(self, images, *rest)

    monkeypatch.setattr(loop._Trainer, "steps", listen)
    tuned(5, examples)
    assert len(batches) == steps
    shown = [image.tobytes() for batch in batches for image in batch]
    assert len(shown) == examples
    counts = [shown.count(image.tobytes()) for image in test_rows[0][:5]]
    assert sum(counts) == examples
    assert max(counts) - min(counts) <= 1


def test_hindsight_training_without_points_leaves_the_network_as_it_was(
    tuned: Any, deployed: Classifier
) -> None:
    assert tuned(0, 100).fingerprint() == deployed.fingerprint()


def test_a_threat_that_is_not_there_or_cannot_is_refused(
    deployed: Classifier, pgd: AttackConfig
) -> None:
    for settings, said in (
        ({"name": "magic"}, "threat=magic: no such threat; known: transfer"),
        ({"name": "transfer", "rounds": 3}, "rounds=3: transfer has no such setting"),
    ):
        with pytest.raises(UserError, match=said):
            _threat(attack=pgd, classifier=deployed, **settings)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"attack=two: no such attack model; known: one"):
        threats.build(ThreatConfig(attack="two"), {"one": pgd}, deployed)
    with pytest.raises(UserError, match="mim: pgd_nn takes steps of PGD, BIM or APGD"):
        _threat("pgd_nn", dataclasses.replace(pgd, attack="mim"), deployed)
    with pytest.raises(UserError, match="targeted=True"):
        _threat("pgd_nn", dataclasses.replace(pgd, targeted=True), deployed)
    with pytest.raises(UserError, match="asked_along=2: fgsm has no iterations"):
        _threat("fpa", AttackConfig(attack="fgsm"), deployed, asked_along=2)


def test_another_seed_gives_a_random_defence_other_answers(rmc: RMC, test_rows: Examples) -> None:
    image, state = test_rows[0][0], rmc.snapshot()
    answers = []
    for seed in (5, 6, 5):
        rmc.restore(reseeded(state, seed))
        answers.append(rmc.predict(image))
    assert _same(answers[0], answers[2])
    assert not _same(answers[0], answers[1])
    assert reseeded(state, 5)["random"].tolist() == [5, *state["random"][1:]]
    assert state["random"][0] == 0
    assert reseeded({}, 5) == {}


def test_undefended_and_all_others_show_the_network_that_answers(
    deployed: Classifier, rmc: RMC, test_rows: Examples
) -> None:
    images, _ = test_rows
    assert Undefended(deployed).network is deployed
    answer = rmc.predict(images[0])
    logits = rmc.network.model.predict(images[:1], verbose=0)[0]
    np.testing.assert_allclose(
        answer.probabilities, np.exp(logits) / np.exp(logits).sum(), atol=1e-5
    )


@pytest.mark.parametrize(("combine", "xla"), [("sum", "none"), ("min", "none"), ("min", "whole")])
def test_an_ensemble_is_climbed_as_when_it_is_written_out(
    deployed: Classifier, rmc: RMC, test_rows: Examples, combine: Any, xla: Any
) -> None:
    import tensorflow as tf

    images, labels = test_rows[0][:6], test_rows[1][:6]
    config = AttackConfig(epsilon=0.1, step_size=0.03, iterations=2, random_start=False)
    rmc.predict(images[0])
    pgd = EnsemblePGD(Classifier(deployed.model, xla=xla), config, combine)
    found = pgd([weights(deployed), weights(rmc.network)], images, labels, 0)
    networks = [deployed, rmc.network]

    x, iterates, values = images, [], []
    for _ in range((4 if combine == "min" else 2) + 1):
        losses, slopes = [], []
        for network in networks:
            with tf.GradientTape() as tape:
                batch = tf.constant(x)
                tape.watch(batch)
                loss = tf.keras.losses.sparse_categorical_crossentropy(
                    labels, network.model(batch, training=False), from_logits=True
                )
            losses.append(loss.numpy())
            slopes.append(tape.gradient(loss, batch).numpy())
        lowest = np.argmin(losses, axis=0)
        slope = sum(slopes) if combine == "sum" else np.array(slopes)[lowest, np.arange(6)]
        iterates.append(x)
        values.append(np.sum(losses, axis=0) if combine == "sum" else np.min(losses, axis=0))
        moved = np.clip(x + 0.03 * np.sign(slope), images - 0.1, images + 0.1)
        x = np.clip(moved, 0, 1).astype(np.float32)
    expected = np.array(iterates)[np.argmax(values, axis=0), np.arange(6)]
    assert np.mean(np.isclose(found, expected, atol=1e-6)) > 0.99  # a gradient near 0 has no sign
    assert pgd._compiled.experimental_get_tracing_count() == 1
    pgd([weights(deployed)], images[:1], labels[:1], 0)
    assert pgd._compiled.experimental_get_tracing_count() == 1


def test_the_best_iterate_is_kept_and_not_the_last(
    deployed: Classifier, test_rows: Examples
) -> None:
    images, labels = test_rows
    # Steps as long as the ball is wide leap to and fro.
    config = AttackConfig(epsilon=0.3, step_size=0.3, iterations=6, random_start=False)
    best = EnsemblePGD(deployed, config, "sum")([weights(deployed)], images, labels, 0)
    last = attacks.build(config, deployed)(images, labels, 0)
    gain = _loss(deployed, best, labels) - _loss(deployed, last, labels)
    assert gain.min() > -1e-4
    assert gain.max() > 0.1


def test_gmsa_submits_the_candidate_with_the_worst_simulated_answer_and_gets_it(
    rmc: RMC, deployed: Classifier, test_rows: Examples
) -> None:
    images, labels = test_rows
    weak = AttackConfig(epsilon=0.02, step_size=0.01, iterations=2)  # no round will fool it
    rmc.predict(images[9])
    threat = _threat("gmsa_avg", weak, deployed, rounds=3)
    for number in range(4):
        heard, label = Heard(rmc), labels[number]
        crafted = threat.craft(heard, images[number], int(label), number)
        chances = [answer.probabilities[label] for answer in heard.answers]
        fooled = heard.answers[-1].label != label
        worst = len(chances) - 1 if fooled else int(np.argmin(chances))
        assert fooled or len(chances) == 3
        assert np.array_equal(crafted, heard.asked[worst])
        assert not np.array_equal(crafted, images[number])
        state = rmc.snapshot()
        assert rmc.predict(crafted).probabilities[label] == chances[worst]
        rmc.restore(state)


class Scripted(Heard):
    """A defence whose probability of class 0 is what it is told to say, answer by answer."""

    def __init__(self, defence: Defence, chances: tuple[float, ...]) -> None:
        super().__init__(defence)
        self._chances = iter(chances)

    def predict(self, image: np.ndarray) -> Prediction:
        self.asked.append(image)
        chance = next(self._chances)
        probabilities = np.array([chance, *[(1 - chance) / 9] * 9], np.float32)
        return Prediction(int(probabilities.argmax()), probabilities)


def test_gmsa_submits_the_worst_round_whichever_it_was_and_ends_with_one_that_fools(
    network: Classifier, pgd: AttackConfig, test_rows: Examples
) -> None:
    threat = _threat("gmsa_avg", pgd, network, rounds=3)
    for chances, submitted in (
        ((0.3, 0.5, 0.4), 0),
        ((0.5, 0.3, 0.4), 1),
        ((0.5, 0.4, 0.3), 2),
        ((0.3, 0.05), 1),  # another class is likelier
    ):
        scripted = Scripted(Undefended(network), chances)
        crafted = threat.craft(scripted, test_rows[0][0], 0, 5)
        asked = [image.tobytes() for image in scripted.asked]
        assert len(set(asked)) == len(asked) == len(chances)
        assert asked.index(crafted.tobytes()) == submitted


def test_gmsa_stops_at_the_first_answer_that_is_wrong(
    templates: Classifier, pgd: AttackConfig, test_rows: Examples
) -> None:
    images, labels = test_rows
    heard = Heard(Undefended(templates))
    strong = dataclasses.replace(pgd, epsilon=0.5, step_size=0.1)
    crafted = _threat("gmsa_min", strong, templates).craft(heard, images[0], labels[0], 5)
    assert len(heard.asked) == 1
    assert np.array_equal(crafted, heard.asked[0])
    assert heard.answers[0].label != labels[0]


@pytest.mark.parametrize("name", ["fpa", "gmsa_avg", "gmsa_min"])
def test_whatever_pgd_skip_breaks_gmsa_breaks_too_with_as_many_steps_a_round(
    rmc: RMC, deployed: Classifier, test_rows: Examples, name: str
) -> None:
    images, labels = test_rows
    # By the wide ball nearly all fall, and by the narrow one hardly any of what it knows.
    pairs = [
        (_threat("pgd_skip", attack, deployed), _threat(name, attack, deployed, rounds=2))
        for attack in (
            AttackConfig(epsilon=0.4, step_size=0.1, iterations=5),
            AttackConfig(epsilon=0.02, step_size=0.005, iterations=5),
        )
    ]
    rmc.predict(images[9])  # a calibration is due
    state, broken = rmc.snapshot(), []
    for number in range(8):
        (skip, gmsa), image, label = pairs[number % 2], images[number], int(labels[number])
        first, heard = skip.craft(rmc, image, label, number), Heard(rmc)
        chosen = gmsa.craft(heard, image, label, number)
        assert np.array_equal(heard.asked[0], first)  # the first round is PGD-Skip
        by_skip, by_gmsa = (_answers_from(rmc, state, x[None])[0] for x in (first, chosen))
        broken.append((by_skip.label != label, by_gmsa.label != label))
        assert broken[-1][1] or not broken[-1][0]
        assert broken[-1][1] or by_gmsa.probabilities[label] <= by_skip.probabilities[label]
    assert (True, True) in broken, "it breaks some"
    assert any(not skipped for skipped, _ in broken), "and others it doesn't"


@pytest.mark.parametrize(
    ("name", "samples", "sizes"),
    [("fpa", 1, [1, 1]), ("gmsa_avg", 1, [2, 3]), ("gmsa_min", 2, [3, 5])],
)
def test_members_are_the_present_weights_and_those_of_the_simulated_answers(
    rmc: RMC,
    deployed: Classifier,
    surest: tuple[np.ndarray, int],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    samples: int,
    sizes: list[int],
) -> None:
    weak = AttackConfig(epsilon=0.02, step_size=0.01, iterations=2)
    ensembles: list[Any] = []
    real = EnsemblePGD.__call__

    def listen(self: EnsemblePGD, members: Any, *rest: Any) -> np.ndarray:
        ensembles.append(list(members))
        return real(self, members, *rest)

    monkeypatch.setattr(EnsemblePGD, "__call__", listen)
    heard = Heard(rmc)
    threat = _threat(name, weak, deployed, rounds=3, samples=samples)
    threat.craft(heard, *surest, 5)
    assert [len(members) for members in ensembles] == sizes
    assert threat.pgd._compiled.experimental_get_tracing_count() == 1

    def same(one: Any, other: Any) -> bool:
        return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))

    assert name == "fpa" or same(ensembles[0][0], weights(rmc.network))
    assert same(ensembles[0][-1], heard.adapted[samples - 1])
    assert same(ensembles[1][-1], heard.adapted[2 * samples - 1])
    assert len(heard.asked) == 3 * samples
    if samples > 1:
        assert not _same(heard.answers[0], heard.answers[1])


def test_a_black_box_is_asked_in_one_state_and_within_its_budget(
    rmc: RMC, deployed: Classifier, pgd: AttackConfig, test_rows: Examples
) -> None:
    images, labels = test_rows
    heard = Heard(rmc)
    np.random.seed(1)  # noqa: NPY002
    following = np.random.random()  # noqa: NPY002
    np.random.seed(1)  # noqa: NPY002
    crafted = _threat("square", pgd, deployed, queries=9).craft(heard, images[0], labels[0], 5)
    assert len(heard.asked) <= 9
    assert len({x.tobytes() for x in heard.asked}) == len(heard.asked)
    (submitted,) = (i for i, x in enumerate(heard.asked) if np.array_equal(x, crafted))
    assert _same(rmc.predict(crafted), heard.answers[submitted])  # as if nobody had asked
    assert np.random.random() == following  # noqa: NPY002


def test_a_black_box_breaks_a_network_without_defence(
    templates: Classifier, test_rows: Examples
) -> None:
    known = templates.forward(test_rows[0])[1].argmax(1) == test_rows[1]
    images, labels = (rows[known][:8] for rows in test_rows)
    defence = Undefended(templates)
    threat = _threat("square", AttackConfig(epsilon=0.3), templates, queries=60)
    crafted = [threat.craft(defence, images[i], int(labels[i]), i) for i in range(8)]
    right = [defence.predict(x).label == y for x, y in zip(crafted, labels, strict=False)]
    assert np.mean(right) <= 0.5


def test_a_black_box_that_cannot_is_refused(
    deployed: Classifier, pgd: AttackConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="norm=l2: square has linf only"):
        _threat("square", dataclasses.replace(pgd, norm="l2"), deployed)
    with pytest.raises(UserError, match="queries=2"):
        _threat("square", pgd, deployed, queries=2)
    monkeypatch.setitem(sys.modules, "art.attacks.evasion", None)
    with pytest.raises(UserError, match="pip install adversarial-robustness-toolbox"):
        _threat("square", pgd, deployed)


def test_a_state_of_any_kind_that_says_nothing_of_draws_is_the_same_under_other_seeds() -> None:
    weights = [np.zeros((2, 3)), np.ones(3)]  # what `get_weights` of a network returns
    assert reseeded(weights, 3) is weights  # type: ignore[arg-type, comparison-overlap]
