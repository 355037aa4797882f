"""What every part of one experiment has to know: its settings, its folder, who is told."""

import dataclasses
import pathlib
from collections.abc import Callable

from rmc_tf.common import storage
from rmc_tf.common.traces import TensorBoardTraces, Traces
from rmc_tf.config import ExperimentConfig
from rmc_tf.data.datasets import Dataset


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

    def tell_of_other_rows(self, data: Dataset) -> None:
        """Says so where the same data set had other rows before, so that nothing is found again."""
        of = self.config.dataset
        anywhere = of.to_dict() | {"data_dir": "", "folder": "", "download": True}
        name = storage.fingerprint(anywhere)
        path = self.folder / "data" / f"{name}.json"
        now = {
            "rows": [data.train.fingerprint, data.test.fingerprint],
            "where": of.folder or of.data_dir or "TFDS' own folder",
        }
        before = storage.read_json(path) if path.exists() else now
        if before["rows"] != now["rows"]:
            self.say(
                f"data set {data.name}: its rows differ from those that this work directory was "
                f"made of, from {before['where']}; what depends on them is made anew"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        storage.write_json(path, now)
