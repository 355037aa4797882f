"""The figures of what RMC answered. Figure 1 is of no record, so `figure1` draws it by itself."""

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from rmc_tf.report.figures import courses, figure4b, style
from rmc_tf.report.figures.courses import Measured


class Figure(NamedTuple):
    """A figure of a table's cells."""

    rows: Callable[[Sequence[Measured]], Sequence[Any]]
    """Returns the data behind it, named tuples."""
    picture: Callable[[Sequence[Any]], style.Picture]
    """Draws that data."""
    caption: str
    """With {dataset}, {streams} and {points}, the most of a place."""

    def draw(self, folder: pathlib.Path, measured: Sequence[Measured], dataset: str) -> str:
        """Writes it into a folder, from what was measured, and returns its caption."""
        caption = self.caption.format(
            dataset=dataset,
            streams=" and ".join(dict.fromkeys(place.column for place in measured)),
            points=max(len(place.records) for place in measured),
        )
        data = self.rows(measured)
        style.write(folder, lambda: self.picture(data), {"figure": data}, caption)
        return caption


FIGURES: Mapping[str, Figure] = {
    "figure2": Figure(
        courses.by_row,
        courses.figure2,
        "Figure 2: inference delay against the number of test instances that RMC has seen under "
        "{streams}, for several K; {dataset}, n = {points} a line. Each point is the median of "
        f"the last {courses.RECENT} delays, in seconds on the machine that ran it, without the "
        "calibration after the answer. The paper's figure shows about 1 s on CIFAR-10 and 20 to "
        "40 s on ImageNet, on an NVIDIA V100.",
    ),
    "figure3": Figure(
        courses.by_column,
        courses.figure3,
        "Figure 3: (a) robustness under each attack and (b) gradient descent steps of local "
        "adaptation, both the mean over the test instances seen so far; {dataset}, n = {points} "
        "a line. Right of the lines: the 95 % intervals of their last points. The paper's figure "
        "shows a warm-up of some tens of instances on CIFAR-10, then a slightly increasing "
        "robustness at a stable cost.",
    ),
    "figure4a": Figure(
        courses.by_row,
        courses.figure4a,
        "Figure 4(a): robustness under {streams} for several K, the mean over the test instances "
        "seen so far; {dataset}, n = {points} a line. Right of the lines: the 95 % intervals of "
        "their last points. The paper's figure shows on CIFAR-10 that a larger K takes less time "
        "to warm up and converges to a higher robustness, up to where that saturates.",
    ),
    "figure4b": Figure(
        figure4b.rows,
        figure4b.picture,
        "Figure 4(b): robustness under each attack by the size of D', with 95 % intervals; "
        "{dataset}, n = {points} a point, D' of the attacker's attack. The marks of a size stand "
        "side by side. The paper's figure shows on CIFAR-10 that robustness grows with |D'|, "
        "under every attack.",
    ),
}
"""By the name of the table whose cells they show: `table.name` of its config."""
