"""Measures accuracy, steps and delay of several settings of RMC on the same points."""

import dataclasses
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
from rmc_tf.defences.base import Defence
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

    def _threat(self, threat: ThreatConfig) -> Any:
        static, k = self._prepared.static, self.config.rmc.k
        labels = self._prepared.augmented_set.labels
        searched = SearchedRows(static.features, static.outputs, labels, k)
        return threats.build(threat, self.config.attacks, self._artefacts.classifier(), searched)

    def measure(
        self, settings: Sequence[RMCConfig], points: slice, wanted: Sequence[str]
    ) -> Iterator[tuple[str, list[dict[str, Any]]]]:
        """Yields, stream by stream, accuracy and cost of each setting, as JSON.

        Each point is answered by all settings in turn, before the next point.

        Args:
          settings: of RMC.
          points: which of the streams' points.
          wanted: the streams; those of `GMSA` have only the first of these points.
        """
        made = [self._defence(rmc) for rmc in settings]
        first_states = [defence.snapshot() for defence in made]
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
    asked = list(zip(stream.images[points], stream.labels[points], strict=True))
    with progress(what, len(asked), 0, "point") as advance:
        for number, (image, label) in enumerate(asked):
            for defence, own in zip(made, answers, strict=True):
                x = image
                if threat is not None:
                    x = threat.craft(defence, image, int(label), derive_seed(0, what, number))
                prediction = defence.predict(x)
                right = bool(prediction.label == label)
                calibrating = defence.calibrate() or 0.0
                own.append(_Answer(right, prediction.steps, prediction.delay, calibrating))
            advance(1)
    return [_summary(own) for own in answers]


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
