"""From a table's rows and columns to the evaluations that it needs, each named once.

A `Cell` is one stream against one defence. Cells that rows or tables share are
equal, so their work is done once; a place in a table holds several where the
paper averages (clean accuracy over the D' of each attack, section 4.1).
"""

import dataclasses
from collections.abc import Sequence

from rmc_tf import defences
from rmc_tf.config import ColumnConfig, ExperimentConfig, RowConfig


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

    def __str__(self) -> str:
        """One line for the user."""
        by = f" with D' by {', '.join(self.d_prime)}" if self.d_prime else ""
        against = f" against {self.source}" if self.source else ""
        again = ", replayed" if self.replay else ""
        return f"{self.defence} of {self.network}{by} on {self.stream}{against}{again}"

    @property
    def work(self) -> tuple[str, tuple[str, ...], str]:
        """What it shares with others: network, D', and the defence made of both."""
        return self.network, self.d_prime, self.defence


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
        first = {cell.work: i for i, cell in reversed(list(enumerate(every)))}
        parts = {cell.work[:2]: i for i, cell in reversed(list(enumerate(every)))}
        return sorted(every, key=lambda cell: (parts[cell.work[:2]], first[cell.work]))


def lay_out(config: ExperimentConfig) -> Table:
    """Returns the table of a config: its own, or its defences by its streams."""
    table = config.table
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
        tuple(column.title for column in columns),
        tuple(
            Row(row.block, row.title, tuple(_cells(row, c, attacks, config) for c in columns))
            for row in rows
        ),
    )


def _cells(
    row: RowConfig, column: ColumnConfig, attacks: tuple[str, ...], config: ExperimentConfig
) -> tuple[Cell, ...]:
    """Returns what one place of a table needs."""
    stream, clean = column.stream, column.stream == "clean"
    source = "" if clean or stream in config.threats else column.source or row.network
    every: dict[tuple[str, ...], None] = {}
    several = attacks or config.augmented_set.attacks
    for attack in several if clean else (_attack(stream, config),):
        every[_d_prime(row, attack, attacks, config)] = None
    return tuple(
        Cell(row.network, row.defence, each, stream, source, column.replay) for each in every
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
