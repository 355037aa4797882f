"""The candidates that withstand: each is one of ours, beside one that is in the table, too."""

import json
import pathlib
import re

import numpy as np
import pytest
import scipy.stats

from rmc_tf import defences
from rmc_tf.config import shipped
from tools.performance import candidates, withstanding_page

ROOT = pathlib.Path(__file__).resolve().parents[2]
STORED = ("digits", "fashion_mnist")


@pytest.mark.parametrize("dataset", STORED)
def test_each_candidate_can_be_made_and_is_held_against_others_of_the_table(dataset: str) -> None:
    known = candidates.of(dataset)
    config = shipped.made_of("withstanding", shipped.of_dataset(dataset))
    for name, one in known.items():
        assert one.defence in defences.DEFENCES, name
        assert one.network in ("target", *config.networks), name
        assert one.attack in config.attacks, name
        assert config.overridden(one.overrides), name
        assert one.static in known and known[one.static].defence == "none", name
        assert all(known[each].defence == "ensemble" for each in one.beside), name


@pytest.mark.parametrize("dataset", STORED)
def test_what_is_won_and_lost_is_counted_point_by_point(dataset: str) -> None:
    stored = ROOT / f"docs/results/withstanding_{dataset}/results.json"
    found = json.loads(stored.read_text(encoding="utf-8"))
    known = candidates.of(dataset)
    lines = dict(
        zip(
            [name for name in known if name in found["candidates"]],
            withstanding_page.lines(found, known),
            strict=True,
        )
    )
    for name, one in known.items():
        for other in {one.static, *one.beside} & found["candidates"].keys() - {name}:
            if name not in lines:
                continue
            own, its = (np.array(found["candidates"][n]["right"]) for n in (name, other))
            won, lost = int((own & ~its).sum()), int((its & ~own).sum())
            told = re.search(rf"{won} won, {lost} lost, p = ([\d.e-]+)", lines[name])
            assert told, (name, other, lines[name])
            chance = scipy.stats.binomtest(won, won + lost).pvalue
            assert float(told[1]) == pytest.approx(chance, rel=0.06)
