"""From a table's rows and columns to the evaluations that it needs, each named once.

A `Cell` is one stream against one defence. Cells that rows or tables share are
equal, so their work is done once; a place in a table holds several where the
paper averages (clean accuracy over the D' of each attack, section 4.1).
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

from rmc_tf import defences, threats
from rmc_tf.config import ColumnConfig, ExperimentConfig, K, RowConfig, ThreatConfig
from rmc_tf.config.section import require
from rmc_tf.experiment import overrides

Overrides = tuple[tuple[str, Any], ...]
"""Settings by their paths, with their values."""


class Searched(NamedTuple):
    """A D' with its features and its index: what PREPARE makes."""

    network: str
    """"target", or a name out of `networks`."""
    d_prime: tuple[str, ...]
    """The attacks that D' holds examples of; of none, it is D."""
    overrides: Overrides = ()
    """N' and what else D' and its index are made by."""


class Defended(NamedTuple):
    """A defence, and what it searches."""

    searched: Searched
    defence: str
    """A name of `rmc_tf.defences`."""
    overrides: Overrides
    """How it is set otherwise than in the experiment."""


@dataclasses.dataclass(frozen=True)
class Cell:
    """One evaluation."""

    network: str
    """"target", or a name out of `networks`."""
    defence: str
    d_prime: tuple[str, ...]
    """The attacks that D' holds examples of; empty where none is searched."""
    stream: str
    """"clean", or the attack's or the threat's name."""
    source: str
    """The network that the stream is perturbed against; empty for clean, and for a threat."""
    replay: bool = False
    """Whether a fresh defence answers what a threat has crafted against another."""
    overrides: Overrides = ()
    """The settings that are others than the experiment's."""

    def __str__(self) -> str:
        """One line for the user."""
        by = f" with D' by {', '.join(self.d_prime)}" if self.d_prime else ""
        against = f" against {self.source}" if self.source else ""
        again = ", replayed" if self.replay else ""
        at = f" at {overrides.title_of(dict(self.overrides))}" if self.overrides else ""
        return f"{self.defence} of {self.network}{by} on {self.stream}{against}{again}{at}"

    @property
    def searched(self) -> Searched:
        """What its defence searches."""
        of_it = "augmented_set.", "index."
        own = ((p, v) for p, v in self.overrides if p == K or p.startswith(of_it))
        return Searched(self.network, self.d_prime, tuple(own))

    @property
    def defended(self) -> Defended:
        """Its defence: cells that have it in common can be answered by one."""
        own = tuple((p, v) for p, v in self.overrides if not p.startswith("threats."))
        return Defended(self.searched, self.defence, own)

    def settings(self, config: ExperimentConfig) -> ExperimentConfig:
        """Returns the settings of the experiment that it belongs to, as they are for it."""
        return config.overridden(dict(self.overrides))

    def threat(self, config: ExperimentConfig) -> ThreatConfig | None:
        """Returns the threat to its defence; None: its stream is no threat's."""
        return self.settings(config).threats.get(self.stream)


@dataclasses.dataclass(frozen=True)
class Row:
    """A row, as the cells of each column."""

    block: str
    title: str
    cells: tuple[tuple[Cell, ...], ...]


@dataclasses.dataclass(frozen=True)
class Layout:
    """A table that is to be filled."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    cells: tuple[Cell, ...]
    """Every cell once: those that share work beside each other, and those of one history in the
    order in which it reaches them."""
    longest_history: int
    """The largest p + q."""


def lay_out(config: ExperimentConfig) -> Layout:
    """Returns the table of a config: its own, or its defences by its streams.

    Raises:
      UserError: a defence is unknown, or a place is asked for what can't be.
    """
    rows: Sequence[RowConfig] = config.table.rows
    columns: Sequence[ColumnConfig] = config.table.columns
    if not rows:
        chosen = config.evaluation
        rows = [
            RowConfig(title=defences.find(name).title, defence=name, d_prime="given")
            for name in chosen.defences
        ]
        columns = [ColumnConfig(title=name, stream=name) for name in chosen.streams]
    streams = [column.stream for column in columns if column.stream != "clean"]
    attacks = tuple(dict.fromkeys(_attack(stream, config) for stream in streams))
    filled = tuple(
        Row(
            row.block,
            row.title or overrides.title_of(row.overrides),
            tuple(_cells(row, column, attacks, config) for column in columns),
        )
        for row in rows
    )
    every = dict.fromkeys(cell for row in filled for place in row.cells for cell in place)
    times = {cell: _attack_time(cell, config) for cell in every}
    return Layout(
        config.table.name or "report",
        config.table.title or f"Runtime masking and cleansing on {config.dataset.called}",
        tuple(column.title or overrides.title_of(column.overrides) for column in columns),
        filled,
        tuple(_in_order(times)),
        max((arrival for arrival, *_ in times.values()), default=0),
    )


def _attack_time(cell: Cell, config: ExperimentConfig) -> tuple[int, int, float]:
    """Returns p + q, p, and the share of the p points that the attacker knows.

    In their order a history reaches what each needs without going back.
    """
    threat = cell.threat(config) or ThreatConfig()
    before = threat.before or 0
    return before + threat.delay, before, threat.known_share


def _in_order(times: dict[Cell, tuple[int, int, float]]) -> list[Cell]:
    """Returns the cells, those that share a D', then an index, then a defence beside each other."""
    first: dict[Any, int] = {}
    for number, cell in enumerate(times):
        for shared in (cell.searched[:2], cell.searched, cell.defended):
            first.setdefault(shared, number)

    def place(cell: Cell) -> tuple[object, ...]:
        d_prime, searched = first[cell.searched[:2]], first[cell.searched]
        return d_prime, searched, first[cell.defended], times[cell]

    return sorted(times, key=place)


def _cells(
    row: RowConfig, column: ColumnConfig, attacks: tuple[str, ...], config: ExperimentConfig
) -> tuple[Cell, ...]:
    """Returns what one place of a table needs."""
    both = overrides.merged(row, column)
    own = config.overridden(both)
    _check(row, column, own)
    stream, clean = column.stream, column.stream == "clean"
    source = "" if clean or stream in config.threats else column.source or row.network
    several = attacks or config.augmented_set.attacks
    against = several if clean else (_attack(stream, own),)
    every = dict.fromkeys(_d_prime(row, attack, attacks, config) for attack in against)
    felt = tuple(overrides.felt(both, row.defence, stream, config).items())
    return tuple(
        Cell(row.network, row.defence, d_prime, stream, source, column.replay, felt)
        for d_prime in every
    )


def _check(row: RowConfig, column: ColumnConfig, config: ExperimentConfig) -> None:
    """Refuses a place whose threat can't attack when it says, or must say and doesn't."""
    learns_from = defences.find(row.defence).history
    threat = config.threats.get(column.stream)
    if threat is not None and defences.find(row.defence).other_network:
        rule = f"{row.defence} answers by other networks, or by votes, and not by the weights "
        rule += "that this takes; leave one of them out, or audit it (--mode=audit)"
        fits = threats.find(threat).black_box or threat.threat in ("transfer", "pgd_nn")
        require(fits, "table.columns", column.stream, rule)
    if threat is None or threat.before is None:
        rule = "what it is comes of a history; let a threat of each column have a `before`, and "
        rule += "give --config.table.history"
        require(learns_from == "answers", "table.rows", row.defence, rule)
        return
    threats.find(threat)  # what can't attack many points from one state is refused
    alone = not defences.find(row.defence).adapts or config.rmc.queries_at_once == 1
    rule = "after a `before` each point is asked alone; set it to 1"
    require(alone, "rmc.queries_at_once", config.rmc.queries_at_once, rule)
    rule = "can't be replayed after a `before`; leave one of them out"
    require(not column.replay, "table.columns", f"{column.stream}, replayed", rule)
    rule = "must be clean or a name out of `attacks`, since a threat has a `before`"
    require(bool(config.table.history), "table.history", repr(config.table.history), rule)
    where = f"threats.{column.stream}.known_share"
    rule = f"{row.defence} is trained on all points or none; leave it out"
    shares = threat.known_share == 1 or learns_from != "labels"
    require(shares, where, threat.known_share, rule)


def _attack(stream: str, config: ExperimentConfig) -> str:
    """Returns the attack model of a stream that isn't clean: its own, or its threat's."""
    return config.threats[stream].attack if stream in config.threats else stream


def _d_prime(
    row: RowConfig, attack: str, attacks: tuple[str, ...], config: ExperimentConfig
) -> tuple[str, ...]:
    """Returns the attacks whose examples D' holds, against a stream by `attack`."""
    if defences.find(row.defence).searches != "augmented_set":
        return ()
    return {
        "given": config.augmented_set.attacks,
        "single": (attack,),
        "all": attacks,
        "others": tuple(other for other in attacks if other != attack),
    }[row.d_prime]
