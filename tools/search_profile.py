"""Searches the fast profile: settings of RMC that cost less, and what they cost in robustness.

python tools/search_profile.py --dataset=digits --out=docs/results/fast_digits/results.json

Every candidate answers the same points under the same streams, one after another in
this process, and then some of them in turn, for their delay. It is judged on the first
points; the faithful profile and `FastConfig` as it is shipped are then reported on those
after, also under GMSA-AVG and GMSA-MIN.
Goes on at the stream where it stopped, as long as nothing that it depends on has changed.
"""

import dataclasses
import json
import os
import pathlib
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # runs from a checkout
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
from absl import app, flags

from configs import digits, fashion_mnist, table1
from rmc_tf import defences, threats
from rmc_tf.common import console, storage
from rmc_tf.common.intervals import wilson
from rmc_tf.common.progress import progress
from rmc_tf.common.seeding import derive_seed
from rmc_tf.common.traces import NoTraces
from rmc_tf.config import (
    ExperimentConfig,
    FastConfig,
    RMCConfig,
    ThreatConfig,
)
from rmc_tf.defences.base import Defence
from rmc_tf.evaluation.streams import Stream
from rmc_tf.experiment.artefacts import Materials
from rmc_tf.networks.devices import share_cores
from rmc_tf.threats.base import Searched
from tools.performance import search_page
from tools.performance.measuring import machine

CANDIDATES: Mapping[str, FastConfig] = {
    # Every setting in full: what is shipped changes, what a name says doesn't.
    **{
        f"{epochs} epochs, until settled at {settled:g}{', twice the rate' * (rate == 2)}": (
            FastConfig(
                max_epochs=epochs, up_to_steps=0, settled=settled, rate_factor=rate, step="fused"
            )
        )
        for epochs, settled, rate in (
            (4, 0.1, 1.0),
            (4, 0.05, 1.0),
            (4, 0.02, 1.0),
            (8, 0.05, 1.0),
            (8, 0.02, 1.0),
            (4, 0.05, 2.0),
            (8, 0.05, 2.0),
            (4, 0.02, 2.0),
            (16, 0.02, 2.0),
        )
    },
    "1 epoch": FastConfig(max_epochs=1, up_to_steps=0, settled=0, rate_factor=1.0, step="fused"),
    "1 epoch, as Keras computes a step": FastConfig(
        max_epochs=1, up_to_steps=0, settled=0, rate_factor=1.0, step="plain"
    ),
}
_PARTS = ("choosing", "timed", "reported")
_STREAMS = ("clean", "pgd", "cw_l2", "pgd_nn")
_GMSA = ("gmsa_avg", "gmsa_min")


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
        self,
        profiles: Sequence[RMCConfig],
        points: slice,
        wanted: Sequence[str],
    ) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        """Yields accuracy and cost of each of some settings, as JSON; they answer in turn.

        Args:
          profiles: the settings.
          points: which of the streams'.
          wanted: the streams; those named after a GMSA attack are of the first points.
        """
        made = [self._defence(rmc) for rmc in profiles]
        first_states = [defence.snapshot() for defence in made]
        few = slice(points.start, points.start + self._gmsa_points)
        for name in wanted:
            for defence, state in zip(made, first_states, strict=True):
                defence.restore(state)
            if name in _GMSA:
                threat = self._threat(ThreatConfig(threat=name, rounds=6))
                yield name, _answers(made, self._streams["clean"], few, name, threat)
            else:
                yield name, _answers(made, self._streams[name], points, name, None)

    def _defence(self, rmc: RMCConfig) -> Defence:
        parts = defences.Parts(
            dataclasses.replace(self.config, rmc=rmc),
            self._materials.classifier(),
            lambda: self._prepared,
            NoTraces(),
        )
        return defences.find("rmc").make(parts)


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
                calibrating = defence.calibrate() or 0.0  # None: nothing was due
                told.append((right, prediction.steps, prediction.seconds, calibrating))
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
    flags.DEFINE_integer(
        "points", 100, "The first so many choose.", flag_values=values, lower_bound=1
    )
    flags.DEFINE_integer(
        "reported_points", 0, "Those after; 0: as many.", flag_values=values, lower_bound=0
    )
    flags.DEFINE_integer(
        "drawn_points",
        0,
        "How many are drawn and attacked, at least; with more than those that are asked, more can "
        "be reported later, and what is stored stays.",
        flag_values=values,
        lower_bound=0,
    )
    flags.DEFINE_integer(
        "timed_points",
        10,
        "The first so many of each stream, which all candidates answer in turn, tell their delay.",
        flag_values=values,
        lower_bound=1,
    )
    flags.DEFINE_list("parts", list(_PARTS), "Which of them.", flag_values=values)
    flags.DEFINE_integer(
        "gmsa_points", 20, "Of them, under each GMSA; 0: none.", flag_values=values, lower_bound=0
    )
    flags.DEFINE_integer(
        "rows", 0, "The first so many rows of D; 0: all.", flag_values=values, lower_bound=0
    )
    flags.DEFINE_integer("k", 0, "K; 0: that of the config.", flag_values=values, lower_bound=0)
    flags.DEFINE_multi_enum(
        "candidate", None, list(CANDIDATES), "One of them; none: all.", flag_values=values
    )
    flags.DEFINE_integer(
        "epochs", 0, "Of training; 0: those of the config.", flag_values=values, lower_bound=0
    )


def experiment(dataset: str, points: int, rows: int, k: int, epochs: int) -> ExperimentConfig:
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
        training=dataclasses.replace(config.training, epochs=epochs or config.training.epochs),
        rmc=dataclasses.replace(config.rmc, k=k or config.rmc.k),
        evaluation=dataclasses.replace(config.evaluation, points=points),
    )


def main(argv: Sequence[str]) -> None:
    """Measures every candidate, then the two profiles on the other half."""
    del argv
    values, command = flags.FLAGS, shlex.join(["python", "tools/search_profile.py", *sys.argv[1:]])
    console.quieten()
    every = values.points + (values.reported_points or values.points)
    drawn = max(every, values.drawn_points)
    config = experiment(values.dataset, drawn, values.rows, values.k, values.epochs)
    share_cores(config.hardware)
    tf.config.experimental.enable_op_determinism()
    out = pathlib.Path(values.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    of = config.to_dict() | {"rmc": config.rmc.settings_in_effect}
    for name in ("engine", "ray_address", "ray_workers"):  # whoever makes D', it is the same
        del of["hardware"][name]
    made_by = storage.fingerprint(of)
    found: dict[str, Any] = {part: {} for part in _PARTS}
    if out.exists():
        stored = storage.read_json(out)
        if stored["fingerprint"] == made_by:
            found |= stored
    workdir = pathlib.Path(values.workdir or f"runs/search-{values.dataset}")
    search = Search(config, workdir, values.gmsa_points)
    points = {
        "choosing": slice(0, values.points),
        "timed": slice(0, values.timed_points),
        "reported": slice(values.points, every),
    }
    fast = dataclasses.replace(config.rmc, profile="fast")
    candidates = {
        n: dataclasses.replace(fast, fast=one)
        for n, one in CANDIDATES.items()
        if n in (values.candidate or CANDIDATES)
    }
    asked: list[tuple[str, dict[str, RMCConfig]]] = [("choosing", {"faithful": config.rmc})]
    asked += [("choosing", {name: rmc}) for name, rmc in candidates.items()]
    asked.append(("timed", {"faithful": config.rmc, **candidates}))
    asked.append(("reported", {"faithful": config.rmc, "fast": fast}))
    for part, profiles in asked:
        if part not in values.parts:
            continue
        for name, rmc in profiles.items():
            if found[part].get(name, {}).get("settings") != rmc.settings_in_effect:
                found[part][name] = {"settings": rmc.settings_in_effect, "streams": {}}
        simulated = part == "reported" and values.gmsa_points > 0
        wanted = (*_STREAMS, *(_GMSA if simulated else ()))
        rows = [found[part][name]["streams"] for name in profiles]
        asked_of = points[part].stop - points[part].start
        left = [
            name
            for name in wanted
            for number in [values.gmsa_points if name in _GMSA else asked_of]
            if not all(row.get(name, {}).get("points") == number for row in rows)
        ]
        if not left:
            continue
        if part == "timed":  # in turn: those of another time can't be put beside these
            found[part] = {name: found[part][name] for name in profiles}
        console.say(f"{part}: {', '.join(profiles)}")
        for stream, made in search.measured(list(profiles.values()), points[part], left):
            for name, row, one in zip(profiles, rows, made, strict=True):
                row[stream] = one
                milliseconds = f"{1e3 * one['seconds']:.0f} ms"
                console.say(f"  {stream}, {name}: {100 * one['accuracy']:.0f} %, {milliseconds}")
            commands = list(dict.fromkeys([*found.get("commands", []), command]))
            about = {"machine": machine(), "fingerprint": made_by, "commands": commands}
            text = json.dumps({**found, **about, "dataset": values.dataset}, indent=1)
            storage.write_bytes(out, f"{text}\n".encode())
    if out.exists() and "faithful" in storage.read_json(out)["timed"]:
        search_page.plot(storage.read_json(out), out.with_name("pareto"))


if __name__ == "__main__":
    define_flags(flags.FLAGS)
    app.run(main)
