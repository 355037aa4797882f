"""Where traces go: to TensorBoard, or nowhere. Whoever writes traces is handed a writer."""

import pathlib
from typing import Protocol

import numpy as np


class Traces(Protocol):
    """A writer of numbers and pictures over time."""

    @property
    def enabled(self) -> bool:
        """Whether anything is kept; what would only be traced needn't be computed otherwise."""

    def scalar(self, name: str, value: float, step: int) -> None:
        """Writes one number."""

    def image(self, name: str, image: np.ndarray, step: int) -> None:
        """Writes one picture, [H, W, 1 or 3] float32 in [0, 1]."""

    def wants_image(self, step: int) -> bool:
        """Says whether a picture at this step would be kept."""


class NoTraces:
    """Keeps nothing."""

    enabled = False

    def scalar(self, name: str, value: float, step: int) -> None:
        """Does nothing."""

    def image(self, name: str, image: np.ndarray, step: int) -> None:
        """Does nothing."""

    def wants_image(self, step: int) -> bool:
        """False."""
        return False


class RedirectedTraces:
    """Passes everything on to `to`, which may change: one defence, traced stream by stream."""

    def __init__(self) -> None:
        self.to: Traces = NoTraces()

    @property
    def enabled(self) -> bool:
        """That of `to`."""
        return self.to.enabled

    def scalar(self, name: str, value: float, step: int) -> None:
        """Writes one number."""
        self.to.scalar(name, value, step)

    def image(self, name: str, image: np.ndarray, step: int) -> None:
        """Writes one picture."""
        self.to.image(name, image, step)

    def wants_image(self, step: int) -> bool:
        """Asks `to`."""
        return self.to.wants_image(step)


class TensorBoardTraces:
    """Writes TensorBoard event files."""

    enabled = True

    def __init__(self, folder: pathlib.Path, image_every: int = 0) -> None:
        """Opens a new event file, with the first trace.

        Args:
          folder: of one TensorBoard run.
          image_every: every how many steps a picture is kept; 0: never.
        """
        import tensorflow as tf

        self._summary = tf.summary
        self._writer = tf.summary.create_file_writer(str(folder))
        self._image_every = image_every

    def scalar(self, name: str, value: float, step: int) -> None:
        """Writes one number."""
        with self._writer.as_default(step=step):
            self._summary.scalar(name, value)

    def image(self, name: str, image: np.ndarray, step: int) -> None:
        """Writes one picture, [H, W, 1 or 3] float32 in [0, 1]."""
        with self._writer.as_default(step=step):
            self._summary.image(name, image[None])

    def wants_image(self, step: int) -> bool:
        """Says whether a picture at this step would be kept."""
        return self._image_every > 0 and step % self._image_every == 0
