"""How long a cell is expected to take, for the display of all: proportions are what counts."""

import json
import pathlib
from collections import defaultdict
from statistics import median
from typing import Any

from rmc_tf import defences
from rmc_tf.config import ExperimentConfig
from rmc_tf.experiment.cells import Cell

_SECONDS_A_POINT = {"nothing": 0.01, "training_set": 0.02, "augmented_set": 0.02}
"""Of defences that don't adapt, by what they search; 2 cores, digits, as all that follows."""
_ADAPTING = {"rmc": 0.4, "rmc_plus": 0.8, "non_masking": 0.1}
_THREAT = 0.3
"""Of a threat, a point."""
_TRAINING, _PREPARING, _CRAFTING = 40.0, 15.0, 5.0
"""Of a network; of a D', for each attack that it holds examples of; of a stream."""
_PARTS = ("median_seconds", "median_calibration_seconds", "median_attack_seconds")
"""Of a result, which make up a point's time."""


class Costs:
    """Expects what earlier results in the work directory took, and else what digits take."""

    def __init__(self, workdir: pathlib.Path) -> None:
        """Reads the times of the results that there are."""
        found: dict[tuple[str, ...], list[float]] = defaultdict(list)
        for path in workdir.glob("evaluate/*/result.json"):
            try:
                result = json.loads(path.read_text(encoding="utf-8"))
                defence, stream = result["defence"], result["stream"]
            except (OSError, ValueError, KeyError):
                continue  # a damaged result is told of where it is used
            seconds = float(sum(result.get(part, 0.0) for part in _PARTS))
            found[(defence, stream)].append(seconds)
            found[(defence,)].append(seconds)
        self._known = {key: median(values) for key, values in found.items()}
        self._made: set[Any] = set()

    def expected(self, cell: Cell, config: ExperimentConfig) -> float:
        """Returns seconds, with those of the network and the D' that it is the first to need."""
        key = cell, config.evaluation.points
        if key in self._made:
            return 0.0
        made: dict[Any, float] = dict.fromkeys(
            ((cell.network,), (cell.source or cell.network,)), _TRAINING
        )
        if cell.source:
            made[(cell.source, cell.stream, config.evaluation.points)] = _CRAFTING
        if cell.d_prime:
            made[(cell.network, cell.d_prime)] = _PREPARING * len(cell.d_prime)
        first = sum(cost for what, cost in made.items() if what not in self._made)
        self._made |= {key, *made}
        guess = _ADAPTING.get(cell.defence, _SECONDS_A_POINT[defences.find(cell.defence).searches])
        if cell.stream in config.threats:
            guess += _THREAT
        known = self._known.get(
            (cell.defence, cell.stream), self._known.get((cell.defence,), guess)
        )
        return first + config.evaluation.points * known
