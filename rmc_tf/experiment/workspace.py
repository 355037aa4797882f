"""What every part of one experiment has to know: its settings, its folder, who is told."""

import dataclasses
import pathlib
from collections.abc import Callable

from rmc_tf.common.traces import TensorBoardTraces, Traces
from rmc_tf.config import ExperimentConfig


@dataclasses.dataclass(frozen=True)
class Workspace:
    """One experiment in one work directory."""

    config: ExperimentConfig
    """Every setting, with its profile applied."""
    folder: pathlib.Path
    """Where all artefacts are."""
    say: Callable[[str], object]
    """Tells the user a line."""

    def traces(self, name: str, fingerprint: str) -> Traces:
        """Returns where something is traced, if anything is."""
        traces = self.config.traces
        if not traces.enabled:
            return Traces()
        return TensorBoardTraces(
            self.folder / "traces" / f"{name}-{fingerprint}", traces.image_every
        )
