"""Who is told what happens in the worker: metrics, or nobody."""

from collections.abc import Mapping

from rmc_tf.service.answers import Answer


class Watch:
    """Told of everything; this one lets it pass. Calls come from several threads."""

    def answered(self, answer: Answer) -> None:
        """An image was answered."""

    def waiting(self, requests: int) -> None:
        """So many requests wait."""

    def calibrated(self, seconds: float) -> None:
        """The defence was calibrated after an answer."""

    def wrote(self, version: int, seconds: float) -> None:
        """A state was written."""

    def write_failed(self) -> None:
        """A state couldn't be written."""

    def went_back(self, version: int, reason: str) -> None:
        """An earlier state came back, and has this number now."""

    def canary(self, accuracy: float) -> None:
        """All rows of the canary were asked."""

    def searched(self, rows: Mapping[str, int]) -> None:
        """D' has so many rows of each source from now on."""

    def cleansed(self, steps: int, seconds: float, clean: float, robust: float) -> None:
        """So many background steps are done; accuracies are in [0, 1], or NaN before a check."""

    def state(self, version: int, frozen: bool) -> None:
        """The present state is of this version."""
