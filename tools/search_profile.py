"""Searches the fast profile: settings of RMC that cost less, and what they cost in robustness.

python tools/search_profile.py --dataset=digits --out=docs/results/fast_digits/results.json

Every candidate answers the same points under the same streams, one after another in
this process. It is judged on the first half of the points; the faithful profile
and `FastConfig` as it is shipped are then reported on the other half, also under GMSA-AVG.
Goes on where it stopped, as long as nothing that it depends on has changed.
"""

import dataclasses
import json
import os
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # runs from a checkout
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
from absl import app, flags

from configs import digits, fashion_mnist, table1
from rmc_tf import console, defences, storage, threats
from rmc_tf.config import (
    ExperimentConfig,
    FastConfig,
    RMCConfig,
    ThreatConfig,
)
from rmc_tf.defences.base import Defence
from rmc_tf.hardware import share_cores
from rmc_tf.intervals import wilson
from rmc_tf.materials import Materials
from rmc_tf.progress import progress
from rmc_tf.seeding import derive_seed
from rmc_tf.streams import Stream
from rmc_tf.threats.base import Searched
from rmc_tf.traces import NoTraces
from tools.performance import search_page
from tools.performance.measuring import machine

CANDIDATES: Mapping[str, FastConfig] = {
    "1 epoch, λ, batches of 32": FastConfig(rate_factor=1, batch_size=32),
    "1 epoch, 2λ, batches of 32": FastConfig(rate_factor=2, batch_size=32),
    "1 epoch, 2λ, batches of 64": FastConfig(rate_factor=2, batch_size=64),
    "1 epoch, 4λ, batches of 128": FastConfig(rate_factor=4, batch_size=128),
    "2 epochs, 2λ, batches of 128": FastConfig(
        rate_factor=2, batch_size=128, max_epochs=2, calibration_epochs=2
    ),
    "three quarters of K, 1 epoch, 2λ, batches of 32": FastConfig(
        neighbours=0.75, rate_factor=2, batch_size=32
    ),
    "half of K, 1 epoch, 2λ, batches of 32": FastConfig(
        neighbours=0.5, rate_factor=2, batch_size=32
    ),
    "half of K, 1 epoch, 2λ, batches of 16": FastConfig(
        neighbours=0.5, rate_factor=2, batch_size=16
    ),
    "half of K, 1 epoch, λ, batches of 16": FastConfig(
        neighbours=0.5, rate_factor=1, batch_size=16
    ),
    "half of K, 2 epochs, 2λ, batches of 64": FastConfig(
        neighbours=0.5, rate_factor=2, batch_size=64, max_epochs=2, calibration_epochs=2
    ),
    "1 epoch, 2λ, batches of 32, calibrated every 2": FastConfig(
        rate_factor=2, batch_size=32, calibrate_every=2
    ),
    "1 epoch, 2λ, batches of 32, first stage frozen": FastConfig(
        rate_factor=2, batch_size=32, frozen_until="conv_2_1"
    ),
    "1 epoch, 2λ, batches of 32, ‖θ − θ₀‖ ≤ 0.1 ‖θ₀‖": FastConfig(
        rate_factor=2, batch_size=32, trust_radius=0.1
    ),
}
_STREAMS = ("clean", "pgd", "cw_l2", "pgd_nn")
_GMSA = "gmsa_avg"


class Search:
    """One data set with its network, D' and streams; measures settings of RMC."""

    def __init__(self, config: ExperimentConfig, workdir: pathlib.Path, gmsa_points: int) -> None:
        """Makes what all candidates share."""
        self.config = config
        self._materials = Materials(config, workdir, console.say, lambda *_: NoTraces())
        self._prepared = self._materials.prepared("target", config.augmented_set.attacks)
        clean = self._materials.stream("clean", "")
        self._streams = {name: self._materials.stream(name, "target") for name in _STREAMS[1:3]}
        nearest = self._threat(ThreatConfig(threat="pgd_nn"))
        crafted = nearest.craft_batch(
            None,
            clean.images,
            clean.labels,
            derive_seed(config.seed, "threat", "pgd_nn"),
        )
        attacked = dataclasses.replace(clean, name="pgd_nn", images=crafted)
        self._streams = {"clean": clean, **self._streams, "pgd_nn": attacked}
        self._gmsa_points = gmsa_points

    def _threat(self, threat: ThreatConfig) -> Any:
        static, k = self._prepared.static, self.config.rmc.k
        labels = self._prepared.augmented_set.labels
        searched = Searched(static.features, static.outputs, labels, k)
        return threats.build(threat, self.config.attacks, self._materials.classifier(), searched)

    def measured(
        self, profiles: Sequence[RMCConfig], points: slice, simulated: bool
    ) -> list[dict[str, Any]]:
        """Returns accuracy and cost of each of some settings, as JSON; they answer in turn.

        Args:
          profiles: the settings.
          points: which of the streams'.
          simulated: whether GMSA-AVG attacks, too.
        """
        found: list[dict[str, Any]] = [{} for _ in profiles]
        made = [self._defence(rmc) for rmc in profiles]
        first_states = [defence.snapshot() for defence in made]
        few = slice(points.start, points.start + self._gmsa_points)
        threat = self._threat(ThreatConfig(threat=_GMSA, rounds=6)) if simulated else None
        asked = [(name, stream, points, None) for name, stream in self._streams.items()]
        if threat is not None:
            asked.append((_GMSA, self._streams["clean"], few, threat))
        for name, stream, some, attacker in asked:
            for defence, state in zip(made, first_states, strict=True):
                defence.restore(state)
            answers = _answers(made, stream, some, name, attacker)
            for one, answer in zip(found, answers, strict=True):
                one[name] = answer
        return found

    def _defence(self, rmc: RMCConfig) -> Defence:
        setting = defences.Setting(
            dataclasses.replace(self.config, rmc=rmc),
            self._materials.classifier(),
            lambda: self._prepared,
            NoTraces(),
        )
        return defences.kind("rmc").make(setting)


def _answers(
    made: Sequence[Defence], stream: Stream, points: slice, what: str, threat: Any
) -> list[dict[str, Any]]:
    """Returns how defences do on some points of a stream, each attacked first by a threat."""
    kept: list[list[tuple[bool, int, float, float]]] = [[] for _ in made]
    asked = list(zip(stream.images[points], stream.labels[points], strict=True))
    with progress(what, len(asked), 0, "point") as advance:
        for number, (image, label) in enumerate(asked):
            for defence, told in zip(made, kept, strict=True):
                x = image
                if threat is not None:
                    x = threat.craft(defence, image, int(label), derive_seed(0, what, number))
                prediction = defence.predict(x)
                right = bool(prediction.label == label)
                told.append((right, prediction.steps, prediction.seconds, defence.calibrate()))
            advance(1)
    return [_summary(told) for told in kept]


def _summary(told: Sequence[tuple[bool, int, float, float]]) -> dict[str, Any]:
    right, steps, seconds, calibrating = zip(*told, strict=True)
    share = float(np.mean(right))
    return {
        "accuracy": share,
        "interval": list(wilson(share, len(right))),
        "points": len(right),
        "right": list(right),
        "steps": float(np.mean(steps)),
        "seconds": float(np.mean(seconds)),
        "calibration_seconds": float(np.mean(calibrating)),
    }


def define_flags(values: flags.FlagValues) -> None:
    """Adds the flags of the command line to `values`."""
    names = ["digits", "fashion_mnist"]
    flags.DEFINE_enum("dataset", "digits", names, "Which config of configs/.", flag_values=values)
    flags.DEFINE_string(
        "workdir", "", "For its artefacts; empty: runs/search-DATASET.", flag_values=values
    )
    flags.DEFINE_string(
        "out", None, "JSON file for the figures.", flag_values=values, required=True
    )
    flags.DEFINE_integer("points", 100, "Points of each half.", flag_values=values, lower_bound=1)
    flags.DEFINE_integer(
        "gmsa_points", 20, "Of them, under GMSA-AVG.", flag_values=values, lower_bound=1
    )
    flags.DEFINE_integer(
        "rows", 0, "The first so many rows of D; 0: all.", flag_values=values, lower_bound=0
    )
    flags.DEFINE_integer("k", 0, "K; 0: that of the config.", flag_values=values, lower_bound=0)


def experiment(dataset: str, points: int, rows: int, k: int) -> ExperimentConfig:
    """Returns the experiment that is searched on; the attacks are those of Table 1."""
    shipped = digits if dataset == "digits" else fashion_mnist
    config: ExperimentConfig = shipped.experiment()
    cw_l2 = table1.experiment(config).attacks["cw_l2"]
    return dataclasses.replace(
        config,
        dataset=dataclasses.replace(
            config.dataset, train_split=f"train[:{rows}]" if rows else config.dataset.train_split
        ),
        attacks={**config.attacks, "cw_l2": cw_l2},
        rmc=dataclasses.replace(config.rmc, k=k or config.rmc.k),
        evaluation=dataclasses.replace(config.evaluation, points=2 * points),
    )


def main(argv: Sequence[str]) -> None:
    """Measures every candidate, then the two profiles on the other half."""
    del argv
    values, command = flags.FLAGS, " ".join(["python tools/search_profile.py", *sys.argv[1:]])
    console.quieten()
    config = experiment(values.dataset, values.points, values.rows, values.k)
    share_cores(config.hardware)
    tf.config.experimental.enable_op_determinism()
    out = pathlib.Path(values.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    settings_of_all = config.to_dict()
    for name in ("engine", "ray_address", "ray_workers"):  # whoever makes D', it is the same
        del settings_of_all["hardware"][name]
    of = {"experiment": settings_of_all, "gmsa_points": values.gmsa_points}
    made_by = storage.fingerprint({**of, "rmc_fast": ""})
    found: dict[str, Any] = {"choosing": {}, "reported": {}}
    if out.exists():
        stored = storage.read_json(out)
        if stored["fingerprint"] == made_by:
            found = stored
    workdir = pathlib.Path(values.workdir or f"runs/search-{values.dataset}")
    search = Search(config, workdir, values.gmsa_points)
    halves = slice(0, values.points), slice(values.points, 2 * values.points)
    fast = dataclasses.replace(config.rmc, profile="fast")
    candidates = {n: dataclasses.replace(fast, fast=one) for n, one in CANDIDATES.items()}
    wanted: list[tuple[str, dict[str, RMCConfig]]] = [("choosing", {"faithful": config.rmc})]
    wanted += [("choosing", {name: rmc}) for name, rmc in candidates.items()]
    wanted.append(("reported", {"faithful": config.rmc, "fast": fast}))
    for part, profiles in wanted:
        settings = {name: rmc.to_dict() for name, rmc in profiles.items()}
        if all(found[part].get(n, {}).get("settings") == own for n, own in settings.items()):
            continue
        console.say(f"{part}: {', '.join(profiles)}")
        points = halves[part == "reported"]
        made = search.measured(list(profiles.values()), points, simulated=part == "reported")
        for name, streams in zip(profiles, made, strict=True):
            found[part][name] = {"settings": settings[name], "streams": streams}
            shares = ", ".join(f"{n} {100 * s['accuracy']:.0f} %" for n, s in streams.items())
            console.say(f"  {shares}; {1e3 * streams['pgd']['seconds']:.0f} ms under PGD")
        about = {"machine": machine(), "fingerprint": made_by, "command": command}
        text = json.dumps({**found, **about, "dataset": values.dataset}, indent=1)
        storage.write_bytes(out, f"{text}\n".encode())
    search_page.plot(storage.read_json(out), out.with_name("pareto"))


if __name__ == "__main__":
    define_flags(flags.FLAGS)
    app.run(main)
