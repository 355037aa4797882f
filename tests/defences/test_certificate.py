"""What votes certify is true but for a chance of α, whenever the vote ends."""

import dataclasses

import numpy as np
import pytest
import scipy.stats

from rmc_tf.config import SmoothingConfig
from rmc_tf.defences.certificate import Draw, certified_radius, lower_bound, upper_bound, vote

CONFIG = SmoothingConfig(sigma=0.5, selection=20, estimation=320, batch=20, alpha=0.1, radius=0.35)


def drawn_from(chances: list[float], seed: int, batch: int) -> Draw:
    """Returns votes that are what a network of such chances would give, each batch its own."""

    def draw(first: int, batches: int) -> np.ndarray:
        numbers = range(first, first + batches)
        drawn = [np.random.default_rng([seed, n]).multinomial(batch, chances) for n in numbers]
        return np.asarray(np.sum(drawn, axis=0))

    return draw


@pytest.mark.parametrize(("votes", "of"), [(0, 100), (1, 100), (73, 100), (100, 100), (990, 1000)])
def test_the_bounds_are_those_of_clopper_and_pearson(votes: int, of: int) -> None:
    test = scipy.stats.binomtest(votes, of, alternative="greater")
    low = test.proportion_ci(0.999, method="exact").low
    high = scipy.stats.binomtest(votes, of, alternative="less").proportion_ci(0.999, "exact").high
    assert lower_bound(votes, of, 0.001) == pytest.approx(low, abs=1e-9)
    assert upper_bound(votes, of, 0.001) == pytest.approx(high, abs=1e-9)
    if votes:  # at the bound, so many votes are as unlikely as α says
        assert scipy.stats.binom.sf(votes - 1, of, low) == pytest.approx(0.001, rel=1e-3)


def test_a_radius_is_that_of_the_lower_bound_and_there_is_none_at_one_half() -> None:
    assert certified_radius(scipy.stats.norm.cdf(1.5), 0.5) == pytest.approx(0.75)
    assert certified_radius(0.5, 0.5) == certified_radius(0.2, 0.5) == certified_radius(0, 1) == 0


@pytest.mark.parametrize("early_stop", [True, False])
def test_more_is_certified_than_is_true_no_more_often_than_alpha(early_stop: bool) -> None:
    """At the chance that is just not enough for the radius wanted, an early end tempts most."""
    config = dataclasses.replace(CONFIG, early_stop=early_stop)
    true = config.radius - 1e-6
    chance = float(scipy.stats.norm.cdf(true / config.sigma))
    chances, trials = [chance, 1 - chance], 1200
    radii = [vote(drawn_from(chances, seed, config.batch), config).radius for seed in range(trials)]
    wrong = int((np.array(radii) > true).sum())
    assert scipy.stats.binomtest(wrong, trials, config.alpha, "greater").pvalue > 1e-3, wrong


def test_a_vote_ends_as_soon_as_it_is_settled_either_way() -> None:
    def votes(chances: list[float], **other: object) -> tuple[int, float]:
        config = dataclasses.replace(CONFIG, alpha=0.001, **other)  # type: ignore[arg-type]
        found = vote(drawn_from(chances, 3, config.batch), config)
        return int(found.counts.sum()), found.radius

    sure, radius = votes([1.0, 0.0])
    assert sure == 20 + 40 and radius > CONFIG.radius
    hopeless, none = votes([0.25] * 4)
    assert hopeless < 20 + 320 and none == 0
    everything, more = votes([1.0, 0.0], early_stop=False)
    assert everything == 20 + 320 and more > radius
    assert votes([0.25] * 4, early_stop=False)[0] == everything
    enough = float(scipy.stats.norm.cdf(CONFIG.radius / CONFIG.sigma))
    assert votes([enough, 1 - enough])[0] == everything  # on the edge it is never settled
    assert votes([0.53, 0.47])[0] == everything  # nor where two classes are nearly even


def test_the_class_is_chosen_by_other_votes_than_those_that_certify_it() -> None:
    """Else the luckiest class of many would be certified (Cohen et al. 2019, section 3.2)."""

    def draw(first: int, batches: int) -> np.ndarray:
        return np.array([11, 9]) if first == 0 else np.array([0, 20]) * batches

    found = vote(draw, CONFIG)
    assert found.radius == 0 and found.label == 1
