"""None, DeepNN and WebNN against their definitions, written out in NumPy."""

import numpy as np
import pytest

from rmc_tf.augmented_set import features, rows_on_disk
from rmc_tf.common.errors import UserError
from rmc_tf.config import IndexConfig
from rmc_tf.data.datasets import Dataset
from rmc_tf.data.images import to_float
from rmc_tf.defences.nearest import NearestNeighbours, Vote
from rmc_tf.defences.undefended import Undefended
from rmc_tf.networks.classifier import Classifier
from rmc_tf.search.index import FeatureIndex


@pytest.fixture(scope="module")
def queries(digits: Dataset) -> np.ndarray:
    return to_float(digits.test.arrays().images[:20])


def test_none_answers_as_the_network_does(classifier: Classifier, queries: np.ndarray) -> None:
    logits = classifier.model.predict(queries, verbose=0)
    answers = [Undefended(classifier).predict(query) for query in queries]
    assert [answer.label for answer in answers] == logits.argmax(axis=1).tolist()
    assert sum(answers[0].probabilities) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("benign_only", [True, False], ids=["DeepNN", "WebNN"])
@pytest.mark.parametrize("vote", ["outputs", "labels"])
def test_neighbours_answer_by_their_outputs_or_their_labels(
    classifier: Classifier,
    d_prime: rows_on_disk.AugmentedSet,
    static: features.StaticFeatures,
    queries: np.ndarray,
    benign_only: bool,
    vote: Vote,
) -> None:
    rows = d_prime.benign_rows if benign_only else np.arange(len(d_prime))
    index = FeatureIndex(static.features[rows], IndexConfig(), 25, rows=rows)
    labels = d_prime.labels
    defence = NearestNeighbours(classifier, index, static.outputs, labels, 25, vote)
    for query in queries:
        own = classifier.forward(query[None])[0]
        distances = np.linalg.norm(static.features[rows].astype(np.float64) - own, axis=1)
        nearest = rows[np.argsort(distances, kind="stable")[:25]]
        if vote == "outputs":
            expected = static.outputs[nearest].mean(axis=0)
        else:
            expected = np.array([(labels[nearest] == c).mean() for c in range(10)])
        answer = defence.predict(query)
        np.testing.assert_allclose(answer.probabilities, expected, atol=1e-5)
        assert answer.label == np.argmax(answer.probabilities)
        assert set(answer.neighbours) == set(nearest)
        assert not benign_only or (d_prime.sources[answer.neighbours] == 0).all()


def test_static_defences_have_no_state_and_refuse_bad_queries(classifier: Classifier) -> None:
    defence = Undefended(classifier)
    assert defence.snapshot() == {}
    assert defence.calibrate() is None
    with pytest.raises(UserError, match="query"):
        defence.predict(np.full((8, 8, 1), 2, np.float32))
