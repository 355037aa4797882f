"""Measures history as an attack: what queries of an attacker do to others' clean ones after them.

python tools/history_attack.py --out=docs/results/history_attack/results.json

Digits, RMC of configs/digits.py. From the cold state (not primed) and the warm one, n queries of
each kind are answered and calibrated; then each of the victims' clean points is answered as if it
came first. The greedy attacker measures harm on points of its own, and takes the worst of all kinds
at each query. A measurement that was stopped goes on at the next history.
"""

import dataclasses
import os
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # runs from a checkout
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from absl import app, flags

from rmc_tf import attacks, threats
from rmc_tf.common import console, storage
from rmc_tf.common.seeding import derive_seed
from rmc_tf.config import ThreatConfig, profiled
from rmc_tf.defences.base import State
from rmc_tf.defences.rmc import RMC
from rmc_tf.evaluation.streams import choose_points
from rmc_tf.experiment.pipeline import Pipeline
from rmc_tf.service.making import served
from rmc_tf.threats import poisoning
from rmc_tf.threats.base import SearchedRows
from tools.performance import history_page
from tools.serving import digits


def define_flags(values: flags.FlagValues) -> None:
    """Adds the flags of the command line to `values`."""
    digits.define_flags(values)
    profiles = ["faithful", "fast"]
    flags.DEFINE_enum("profile", "fast", profiles, "Of RMC.", flag_values=values)
    text = "Lengths of the histories."
    flags.DEFINE_multi_integer("n", [5, 20, 50, 200], text, flag_values=values, lower_bound=1)
    digits.number(values, "victims", 50, "Clean points that are asked after each history.")
    digits.number(values, "greedy", 20, "Queries that the greedy attacker chooses.", 0)
    digits.number(values, "probes", 5, "Points on which it measures harm.")
    digits.number(values, "pool", 60, "Points of which histories are made.")


def main(argv: Sequence[str]) -> None:
    """Measures what isn't stored yet, and draws the figure."""
    del argv
    values = flags.FLAGS
    config = digits.begin()
    config = profiled(
        dataclasses.replace(config, rmc=dataclasses.replace(config.rmc, profile=values.profile))
    )
    pipeline = Pipeline(config, pathlib.Path(values.workdir), console.say)
    defence, warm = pipeline.sides.defence(served(config))
    assert isinstance(defence, RMC)
    unprimed = dataclasses.replace(defence.config, primed_rows=0)
    cold = RMC(defence.static, defence.augmented_set, defence.index, unprimed).snapshot()
    rows = choose_points(
        digits.test_split(config), values.victims + values.probes + values.pool, False, values.seed
    )
    images, labels = digits.test_rows(config)
    victims, probes, pool = np.split(rows, [values.victims, values.victims + values.probes])
    kinds = _kinds(pipeline, defence, images[pool], labels[pool], values.seed)
    result: dict[str, Any] = digits.about("history_attack")
    result |= {"profile": values.profile, "victims": values.victims, "histories": []}
    path = pathlib.Path(values.out)
    if path.exists():
        stored = storage.read_json(path)
        if stored["command"] == result["command"]:
            result["histories"] = stored["histories"]
    done = {(h["state"], h["kind"], h["n"]) for h in result["histories"]}

    def keep(state: str, kind: str, n: int, reached: State, **more: Any) -> None:
        found = poisoning.harm(defence, reached, images[victims], labels[victims])
        own = {"state": state, "kind": kind, "n": n, "right": found.right, "steps": found.steps}
        result["histories"].append({**own, "score": found.score, **more})
        digits.write(values.out, result)
        console.say(
            f"{state}, {kind}, n = {n}: {100 * np.mean(found.right):.1f} % right, "
            f"{np.mean(found.steps):.1f} steps"
        )

    for name, first in (("cold", cold), ("warm", warm)):
        if (name, "none", 0) not in done:
            keep(name, "none", 0, first)
        for kind, draw in kinds.items():
            state, before = first, 0
            queries = draw(max(values.n), derive_seed(values.seed, "history", kind))
            if all((name, kind, n) in done for n in values.n):
                continue
            for n in sorted(values.n):
                state, before = poisoning.follow(defence, state, queries[before:n]), n
                if (name, kind, n) not in done:
                    keep(name, kind, n, state)
        wanted = [n for n in sorted({*values.n, values.greedy}) if 0 < n <= values.greedy]
        if any((name, "greedy", n) not in done for n in wanted):
            own, chosen = (images[probes], labels[probes]), list[str]()

            def after(number: int, kind: str, state: State, name: str = name) -> None:
                chosen.append(kind)  # noqa: B023
                if number in wanted and (name, "greedy", number) not in done:  # noqa: B023
                    keep(name, "greedy", number, state, chosen=list(chosen))  # noqa: B023

            seed = derive_seed(values.seed, "greedy")
            poisoning.greedy(defence, first, kinds, own, values.greedy, seed, after)
    history_page.draw(result, path.with_name("history"))


def _kinds(
    pipeline: Pipeline, defence: RMC, images: np.ndarray, labels: np.ndarray, seed: int
) -> dict[str, poisoning.Draw]:
    """Returns what histories are made of; attacks are crafted on the network as it was trained."""
    config, static = pipeline.config, defence.static
    made = attacks.build(config.attacks["pgd"], static)(images, labels, derive_seed(seed, "pgd"))
    prepared = pipeline.artefacts.prepared(served(config).searched)
    searched = SearchedRows(
        np.asarray(prepared.static.features),
        np.asarray(prepared.static.outputs),
        prepared.augmented_set.labels,
        config.rmc.k,
    )
    about = ThreatConfig(threat="pgd_nn", vote="labels")
    threat = threats.build(about, config.attacks, static, searched)
    assert isinstance(threat, threats.base.BatchThreat)
    nearest = threat.craft_batch(defence, images, labels, derive_seed(seed, "pgd_nn"))
    common = int(np.bincount(labels).argmax())
    return {
        "clean": poisoning.of(images),
        "noise": poisoning.noise(static.image_shape),
        "one class": poisoning.of(images[labels == common]),
        "PGD": poisoning.of(made),
        "PGD-NN on labels": poisoning.of(nearest),
        "one image again": poisoning.repeated(images),
        "one attacked image again": poisoning.repeated(nearest),
    }


if __name__ == "__main__":
    define_flags(flags.FLAGS)
    app.run(main)
