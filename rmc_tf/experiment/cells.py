"""From a table's rows and columns to the evaluations that it needs, each named once.

A `Cell` is one stream against one defence. Cells that rows or tables share are
equal, so their work is done once; a place in a table holds several where the
paper averages (clean accuracy over the D' of each attack, section 4.1).
"""

import dataclasses
from collections.abc import Sequence

from rmc_tf import defences, threats
from rmc_tf.common.errors import UserError
from rmc_tf.config import (
    ColumnConfig,
    ExperimentConfig,
    MomentConfig,
    RowConfig,
    SkipConfig,
    VariationConfig,
)
from rmc_tf.config.section import require
from rmc_tf.experiment import attack_times, variations


@dataclasses.dataclass(frozen=True)
class Cell:
    """One evaluation."""

    network: str
    """"target", or a name out of `networks`."""
    defence: str
    d_prime: tuple[str, ...]
    """The attacks that D' holds examples of; empty where none is searched."""
    stream: str
    """"clean", or the attack's name."""
    source: str
    """The network that the stream is perturbed against; empty for clean, and for a threat."""
    replay: bool = False
    """Whether a fresh defence answers what a threat has crafted against another."""
    skip: SkipConfig | None = None
    """When the threat strikes, after a history of other points; None: at each point in turn."""
    refresh_share: float | None = None
    """δ, where it is another than that of `refresh`."""
    vary: VariationConfig = dataclasses.field(default_factory=VariationConfig)
    """What is another than in the experiment of its defence, and of its threat."""

    def __str__(self) -> str:
        """One line for the user."""
        by = f" with D' by {', '.join(self.d_prime)}" if self.d_prime else ""
        against = f" against {self.source}" if self.source else ""
        again = ", replayed" if self.replay else ""
        at = MomentConfig(refresh_share=self.refresh_share, **vars(self.skip) if self.skip else {})
        when = f" at {attack_times.title_of(at)}" if at != MomentConfig() else ""
        also = f" with {variations.title_of(self.vary)}" if self.vary != VariationConfig() else ""
        return f"{self.defence} of {self.network}{by} on {self.stream}{against}{again}{when}{also}"

    @property
    def work(self) -> tuple[str, tuple[str, ...], VariationConfig, str, float | None]:
        """What it shares with others: network, D', K and N', the defence of them, with its δ."""
        return self.network, self.d_prime, self.vary, self.defence, self.refresh_share

    @property
    def moment(self) -> tuple[int, int, float]:
        """In which order histories reach what they need without going back."""
        skip = self.skip or SkipConfig(before=0)
        return skip.before + skip.delay, skip.before, skip.known_share


@dataclasses.dataclass(frozen=True)
class Row:
    """A row, as the cells of each column."""

    block: str
    title: str
    cells: tuple[tuple[Cell, ...], ...]


@dataclasses.dataclass(frozen=True)
class Table:
    """A table that is to be filled."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]

    @property
    def cells(self) -> list[Cell]:
        """Every cell once, those that share work beside each other."""
        every = dict.fromkeys(c for row in self.rows for place in row.cells for c in place)
        first = {c.work[:n]: i for i, c in reversed(list(enumerate(every))) for n in (2, 3, 5)}
        return sorted(every, key=lambda c: ([first[c.work[:n]] for n in (2, 3, 5)], c.moment))

    @property
    def longest_history(self) -> int:
        """The largest p + q."""
        return max((cell.moment[0] for cell in self.cells), default=0)


def lay_out(config: ExperimentConfig, history_rows: int | None = None) -> Table:
    """Returns the table of a config: its own, or its defences by its streams.

    Args:
      config: the experiment.
      history_rows: how many rows of the test set are left for a history; None: not known yet.

    Raises:
      UserError: a defence is unknown, or a place is asked for what can't be.
    """
    table = (
        config.table if history_rows is None else attack_times.capped(config.table, history_rows)
    )
    rows: Sequence[RowConfig] = table.rows
    columns: Sequence[ColumnConfig] = table.columns
    if not rows:
        chosen = config.evaluation
        rows = [
            RowConfig(title=defences.kind(name).title, defence=name, d_prime="given")
            for name in chosen.defences
        ]
        columns = [ColumnConfig(title=name, stream=name) for name in chosen.streams]
    streams = [column.stream for column in columns if column.stream != "clean"]
    attacks = tuple(dict.fromkeys(_attack(stream, config) for stream in streams))
    return Table(
        table.name or "report",
        table.title or f"Runtime masking and cleansing on {config.dataset.name}",
        tuple(column.title or attack_times.title_of(column.at) for column in columns),
        tuple(
            Row(
                row.block,
                row.title or _title(row),
                tuple(_cells(row, c, attacks, config) for c in columns),
            )
            for row in rows
        ),
    )


def _cells(
    row: RowConfig, column: ColumnConfig, attacks: tuple[str, ...], config: ExperimentConfig
) -> tuple[Cell, ...]:
    """Returns what one place of a table needs."""
    at = attack_times.merged(row.at, column.at)
    skip = attack_times.skip_of(at)
    _check(row, column, skip, config)
    stream, clean = column.stream, column.stream == "clean"
    source = "" if clean or stream in config.threats else column.source or row.network
    every: dict[tuple[str, ...], None] = {}
    several = attacks or config.augmented_set.attacks
    for attack in several if clean else (_attack(stream, config),):
        every[_d_prime(row, attack, attacks, config)] = None
    share = at.refresh_share
    if share is not None and not _has_share(row.defence, config):
        share = None  # so that it is the same cell under each δ
    vary = variations.felt(row.vary, row.defence, stream, config)
    return tuple(
        Cell(row.network, row.defence, each, stream, source, column.replay, skip, share, vary)
        for each in every
    )


def _title(row: RowConfig) -> str:
    """Returns what a row without a title is about."""
    said = variations.title_of(row.vary), attack_times.title_of(row.at)
    return ", ".join(part for part in said if part)


def with_share(config: ExperimentConfig, share: float | None) -> ExperimentConfig:
    """Returns the settings with a δ of a table's place; None: as they are."""
    if share is None:
        return config
    return dataclasses.replace(config, refresh=dataclasses.replace(config.refresh, share=share))


def _has_share(defence: str, config: ExperimentConfig) -> bool:
    """Whether a defence depends on δ."""
    depends_on = defences.kind(defence).depends_on
    return bool(depends_on(with_share(config, 0.0)) != depends_on(with_share(config, 1.0)))


def _check(
    row: RowConfig, column: ColumnConfig, skip: SkipConfig | None, config: ExperimentConfig
) -> None:
    """Refuses a place that can't be struck as it says, or must be and isn't."""
    learns_from = defences.kind(row.defence).history
    if skip is None:
        if learns_from != "answers":
            raise UserError(
                f"--config.table.rows={row.defence}: what it is comes of a history; give "
                "`at.before` in its row or in each column, and --config.table.history"
            )
        return
    threat = config.threats.get(column.stream)
    rule = "strikes at a moment are by one of `threats`; name one, or leave `at` out"
    require(threat is not None, "table.columns", column.stream, rule)
    if threat is not None and not threats.find(threat).in_batches:
        raise UserError(
            f"--config.threats.{column.stream}.threat={threat.threat}: it simulates the answer to "
            f"each point, and can't strike at a moment; known: {', '.join(threats.IN_BATCHES)}"
        )
    rule = "has no moment; leave `at` or `replay` out"
    require(not column.replay, "table.columns", f"{column.stream}, replayed", rule)
    rule = "must be clean or a name out of `attacks`, since places of the table have a p"
    require(bool(config.table.history), "table.history", repr(config.table.history), rule)
    if skip.known_share < 1 and learns_from == "labels":
        raise UserError(
            f"--config.table.*.at.known_share={skip.known_share}: {row.defence} is trained on all "
            "points or none; leave it out"
        )


def _attack(stream: str, config: ExperimentConfig) -> str:
    """Returns the attack model of a stream that isn't clean: its own, or its threat's."""
    return config.threats[stream].attack if stream in config.threats else stream


def _d_prime(
    row: RowConfig, attack: str, attacks: tuple[str, ...], config: ExperimentConfig
) -> tuple[str, ...]:
    """Returns the attacks whose examples D' holds, against a stream by `attack`."""
    if defences.kind(row.defence).searches != "augmented_set":
        return ()
    return {
        "given": config.augmented_set.attacks,
        "single": (attack,),
        "all": attacks,
        "others": tuple(other for other in attacks if other != attack),
    }[row.d_prime]
