"""Measures accuracy, steps and delay of several settings of RMC on the same points."""

import dataclasses
import math
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from configs import digits, fashion_mnist, table1
from rmc_tf import defences, threats
from rmc_tf.common import console
from rmc_tf.common.intervals import wilson
from rmc_tf.common.progress import progress
from rmc_tf.common.seeding import derive_seed
from rmc_tf.config import ExperimentConfig, RMCConfig, ThreatConfig, TracesConfig
from rmc_tf.defences.base import Defence, State
from rmc_tf.evaluation.streams import Stream
from rmc_tf.experiment.artefacts import Artefacts
from rmc_tf.experiment.cells import Searched as SearchedSet
from rmc_tf.experiment.workspace import Workspace
from rmc_tf.threats.base import SearchedRows

STREAMS = ("clean", "pgd", "cw_l2", "pgd_nn")
GMSA = ("gmsa_avg", "gmsa_min")
"""Attacks that simulate each of the settings; on fewer points."""


def experiment(dataset: str, points: int, rows: int, k: int, epochs: int) -> ExperimentConfig:
    """Returns the experiment on which settings are compared; the attacks are those of Table 1.

    Args:
      dataset: "digits" or "fashion_mnist".
      points: how many test points are drawn.
      rows: the first so many of D; 0: all.
      k: 0: that of the config.
      epochs: of training; 0: those of the config.
    """
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
        rmc=dataclasses.replace(config.rmc, k=k or config.rmc.k, primed_rows=0),
        evaluation=dataclasses.replace(config.evaluation, points=points),
        traces=TracesConfig(enabled=False),
    )


class SideBySide:
    """One data set with its network, D' and streams, on which settings of RMC are compared."""

    def __init__(self, config: ExperimentConfig, workdir: pathlib.Path, gmsa_points: int) -> None:
        """Makes what all settings share.

        Args:
          config: the experiment.
          workdir: for its artefacts.
          gmsa_points: how many points GMSA attacks.
        """
        self.config = config
        self._artefacts = Artefacts(Workspace(config, workdir, console.say))
        self._prepared = self._artefacts.prepared(
            SearchedSet("target", config.augmented_set.attacks)
        )
        clean = self._artefacts.stream("clean", "")
        transferred = {name: self._artefacts.stream(name, "target") for name in ("pgd", "cw_l2")}
        nearest = self._threat(ThreatConfig(threat="pgd_nn"))
        seed = derive_seed(config.seed, "threat", "pgd_nn")
        crafted = nearest.craft_batch(None, clean.images, clean.labels, seed)
        attacked = dataclasses.replace(clean, name="pgd_nn", images=crafted)
        self._streams = {"clean": clean, **transferred, "pgd_nn": attacked}
        self._gmsa_points = gmsa_points
        self._primed: dict[RMCConfig, State] = {}

    def _threat(self, threat: ThreatConfig) -> Any:
        static, k = self._prepared.static, self.config.rmc.k
        labels = self._prepared.augmented_set.labels
        searched = SearchedRows(static.features, static.outputs, labels, k)
        return threats.build(threat, self.config.attacks, self._artefacts.classifier(), searched)

    def measure(
        self, settings: Sequence[RMCConfig], points: slice, wanted: Sequence[str]
    ) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        """Yields, stream by stream, accuracy and cost of each setting, as JSON.

        Each point is answered by all settings in turn, before the next point; where some answer
        several at once, as many points as make whole groups of each. All begin primed, if they are.

        Args:
          settings: of RMC.
          points: which of the streams' points.
          wanted: the streams; those of `GMSA` have only the first of these points.
        """
        made = [self._defence(rmc) for rmc in settings]
        first_states = [self._first_state(*each) for each in zip(made, settings, strict=True)]
        few = slice(points.start, points.start + self._gmsa_points)
        for name in wanted:
            for defence, state in zip(made, first_states, strict=True):
                defence.restore(state)
            if name in GMSA:
                threat = self._threat(ThreatConfig(threat=name, rounds=6))
                yield name, _answers(made, self._streams["clean"], few, name, threat)
            else:
                yield name, _answers(made, self._streams[name], points, name, None)

    def _defence(self, rmc: RMCConfig) -> Defence:
        setting = defences.Parts(
            dataclasses.replace(self.config, rmc=rmc),
            self._artefacts.classifier(),
            lambda: self._prepared,
        )
        return defences.find("rmc").make(setting)

    def _first_state(self, defence: Defence, rmc: RMCConfig) -> State:
        """Returns the primed state, which is the same however many are answered at once."""
        key = dataclasses.replace(rmc, queries_at_once=1)
        if key not in self._primed:
            defence.prime()
            self._primed[key] = defence.snapshot()
        return self._primed[key]


class _Answer(NamedTuple):
    right: bool
    steps: int
    seconds: float
    calibration_seconds: float


def _answers(
    made: Sequence[Defence], stream: Stream, points: slice, what: str, threat: Any
) -> list[dict[str, Any]]:
    """Returns how defences do on some points of a stream, each attacked first by a threat."""
    answers: list[list[_Answer]] = [[] for _ in made]
    images, labels = stream.images[points], stream.labels[points]

    def asked(defence: Defence, number: int) -> np.ndarray:
        """Returns what is asked for a point: what a threat makes of it, as if it came alone."""
        if threat is None:
            return np.asarray(images[number])
        seed = derive_seed(0, what, number)
        return np.asarray(threat.craft(defence, images[number], int(labels[number]), seed))

    whole = math.lcm(*(defence.queries_at_once for defence in made))
    with progress(what, len(labels), 0, "point") as advance:
        for begin in range(0, len(labels), whole):
            numbers = range(len(labels))[begin : begin + whole]
            for defence, own in zip(made, answers, strict=True):
                for first in range(0, len(numbers), defence.queries_at_once):
                    group = numbers[first : first + defence.queries_at_once]
                    each = np.stack([asked(defence, number) for number in group])
                    own += _answered_at_once(defence, each, labels[group])
            advance(len(numbers))
    return [_summary(own) for own in answers]


def _answered_at_once(defence: Defence, asked: np.ndarray, labels: np.ndarray) -> list[_Answer]:
    """Returns how a defence does on images of a group; each has its share of the seconds."""
    predictions = defence.predict_many(asked)
    calibrating = (defence.calibrate() or 0.0) / len(labels)
    return [
        _Answer(bool(prediction.label == label), prediction.steps, prediction.delay, calibrating)
        for prediction, label in zip(predictions, labels, strict=True)
    ]


def _summary(answers: Sequence[_Answer]) -> dict[str, Any]:
    share = float(np.mean([answer.right for answer in answers]))
    return {
        "accuracy": share,
        "interval": list(wilson(share, len(answers))),
        "points": len(answers),
        "right": [answer.right for answer in answers],
        "steps": float(np.mean([answer.steps for answer in answers])),
        "seconds": float(np.mean([answer.seconds for answer in answers])),
        "calibration_seconds": float(np.mean([answer.calibration_seconds for answer in answers])),
    }
