"""When the places of a table are struck: p, q, the known share and δ, by row and by column.

The test set bounds them: x(1) … x(p+q) are rows of it that are not attacked. A p
beyond that becomes the largest that there is; a q is what a table is about, and
isn't changed.
"""

import dataclasses

from rmc_tf.common.errors import UserError
from rmc_tf.config import MomentConfig, SkipConfig, TableConfig
from rmc_tf.config.section import require


def merged(row: MomentConfig, column: MomentConfig) -> MomentConfig:
    """Returns what a row and a column say together.

    Raises:
      UserError: both say the same thing, or there is a q or a known share without a p.
    """
    said = [{n: v for n, v in vars(at).items() if v is not None} for at in (row, column)]
    for name in said[0].keys() & said[1].keys():
        raise UserError(
            f"--config.table.*.at.{name}={said[1][name]}: the row says {said[0][name]} and the "
            "column this; leave it to one of them"
        )
    both = MomentConfig(**said[0], **said[1])
    for name in ("delay", "known_share"):
        value = getattr(both, name)
        rule = "without a p; give `before` in the row or in the column"
        require(value is None or both.before is not None, f"table.*.at.{name}", value, rule)
    return both


def skip_of(at: MomentConfig) -> SkipConfig | None:
    """Returns p, q and the known share of a place that is struck, else None."""
    if at.before is None:
        return None
    known = 1.0 if at.known_share is None else at.known_share
    return SkipConfig(before=at.before, delay=at.delay or 0, known_share=known)


def title_of(at: MomentConfig) -> str:
    """Returns what a moment says, as the paper's Tables 5 and 7 head their rows and columns."""
    parts = []
    if at.before is not None:
        parts.append(f"p = {at.before}")
    if at.refresh_share is not None:
        parts.append(f"δ = {at.refresh_share:g}")
    if at.delay is not None:
        parts.append(f"q = {at.delay}")
    if at.known_share is not None:
        parts.append(f"{100 * at.known_share:g} % known")
    return ", ".join(parts)


def capped(table: TableConfig, left: int) -> TableConfig:
    """Returns a table whose p + q are at most a number of points, and whose title says so.

    Rows, or columns, that have become the same are listed once.

    Args:
      table: as it is configured.
      left: how many rows of the test set are not attacked.

    Raises:
      UserError: they are fewer than q, so that nothing is left for p.
    """
    every = [*(row.at for row in table.rows), *(column.at for column in table.columns)]
    delay = max((at.delay or 0 for at in every), default=0)
    before = max((at.before or 0 for at in every), default=0)
    if before + delay <= left:
        return table
    most = left - delay
    require(
        most >= 1,
        "table.*.at",
        f"p = {before}, q = {delay}",
        f"only {left} rows of the test set are not attacked; lower --config.evaluation.points",
    )

    def cap(at: MomentConfig) -> MomentConfig:
        fits = at.before is None or at.before <= most
        return at if fits else dataclasses.replace(at, before=most)

    return dataclasses.replace(
        table,
        title=f"{table.title} (p up to {most}, all that the test set leaves)",
        rows=tuple(dict.fromkeys(dataclasses.replace(r, at=cap(r.at)) for r in table.rows)),
        columns=tuple(dict.fromkeys(dataclasses.replace(c, at=cap(c.at)) for c in table.columns)),
    )
