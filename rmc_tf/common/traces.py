"""Where traces go: to TensorBoard, or nowhere. Whoever writes traces is handed a writer."""

import pathlib
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np

Value = bool | int | float | str
"""What a hyperparameter may be."""


class Traces:
    """A writer of numbers and pictures over time. This one keeps nothing."""

    enabled = False
    """Whether anything is kept; if not, nothing need be computed only to be traced."""

    def scalar(self, name: str, value: float, step: int) -> None:
        """Writes one number."""

    def image(self, name: str, image: np.ndarray, step: int) -> None:
        """Writes one picture, [H, W, 1 or 3] float32 in [0, 1]."""

    def wants_image(self, step: int) -> bool:
        """Says whether a picture at this step would be kept."""
        del step
        return False

    def outcome(self, hparams: Mapping[str, Value], metrics: Mapping[str, float]) -> None:
        """Writes what a run was made with, and what came of it: a line of the tab HPARAMS."""


class TensorBoardTraces(Traces):
    """Writes TensorBoard event files."""

    enabled = True

    def __init__(self, folder: pathlib.Path, image_every: int = 0) -> None:
        """Prepares to write one run; a picture is kept every so many steps, or never with 0."""
        import tensorflow as tf

        self._summary = tf.summary
        self._folder = folder
        self._image_every = image_every

    @cached_property
    def _writer(self) -> Any:
        return self._summary.create_file_writer(str(self._folder))

    def scalar(self, name: str, value: float, step: int) -> None:
        """See `Traces`."""
        with self._writer.as_default(step=step):
            self._summary.scalar(name, value)

    def image(self, name: str, image: np.ndarray, step: int) -> None:
        """See `Traces`."""
        with self._writer.as_default(step=step):
            self._summary.image(name, image[None])

    def wants_image(self, step: int) -> bool:
        """See `Traces`."""
        return self._image_every > 0 and step % self._image_every == 0

    def outcome(self, hparams: Mapping[str, Value], metrics: Mapping[str, float]) -> None:
        """Writes one run, as a run of its own below the traces'.

        TensorBoard makes a column of the tab HPARAMS of every scalar that stands beside the
        hyperparameters. No list of them is written in advance (`hparams_config`): it would hide
        those that only other runs have, and TensorBoard finds their types and ranges by itself.
        """
        from tensorboard.plugins.hparams import api

        writer = self._summary.create_file_writer(str(self._folder / "outcome"))
        with writer.as_default(step=0):
            api.hparams(dict(hparams), trial_id=self._folder.name)
            for name, value in metrics.items():
                self._summary.scalar(name, value)
        writer.close()
        if "_writer" in vars(self):  # there are traces: whoever looks at the outcome finds them
            self._writer.flush()
