"""What section 5 says of Tables 4 and 5, and of PGD-Skip."""

import itertools
from collections.abc import Iterator, Mapping, Sequence

from rmc_tf.report.claims.base import Difference, Differences
from rmc_tf.report.claims.comparisons import WEB_NN, Places, compared, in_columns, in_row
from rmc_tf.report.tables import ResultTable

_TRAINED = "Adversarially trained w. PGD"
_REGULAR = "Regularly trained"


def _less_hurt(harmed: Sequence[str], others: Sequence[str]) -> Differences:
    """Some rows lose more than others from PGD to PGD-NN."""

    def differences(table: ResultTable) -> Iterator[Difference]:
        places = Places(table)
        for rows in itertools.product(harmed, others):
            values, losses = [], []
            for row in rows:
                before, after = places.share(row, "PGD"), places.share(row, "PGD-NN")
                if before and after:
                    values.append(f"{100 * before.value:.1f} → {100 * after.value:.1f}")
                    losses.append(before - after)
            if len(losses) == 2:
                what = f"loss of {rows[0]} − loss of {rows[1]}"
                yield Difference(what, " against ".join(values), losses[0] - losses[1])

    return differences


def _by_share(table: ResultTable) -> Iterator[tuple[str, list[str]]]:
    """Yields each δ, and the columns of Table 5 under it."""
    for share in dict.fromkeys(column.partition(", ")[0] for column in table.columns):
        yield share, [c.partition(", ")[2] for c in table.columns if c.startswith(f"{share}, ")]


def _recovers(table: ResultTable) -> Iterator[Difference]:
    """Each q above 0 against q = 0."""
    places = Places(table)
    for row in places.rows:
        for share, (first, *others) in _by_share(table):
            at_once = places.share(row, f"{share}, {first}")
            for later in others:
                what = f"{row}, {share}: {later} − {first}"
                yield from compared(what, places.share(row, f"{share}, {later}"), at_once)


def _little_known(column: str) -> bool:
    """Says of a column of Table 5(b) if less than 70 % are known, as in "30 % known"."""
    return float(column.rpartition(", ")[2].removesuffix(" % known")) < 70


def _partly_known(partial: ResultTable, delayed: ResultTable) -> Iterator[Difference]:
    """Each share below 70 % against all known, at the same p and δ, without a delay."""
    some, every = Places(partial), Places(delayed)
    for row in some.rows:
        for share, known in _by_share(partial):
            for column in filter(_little_known, known):
                yield from compared(
                    f"{row}, {share}: {column} − all known",
                    some.share(row, f"{share}, {column}"),
                    every.share(row, f"{share}, q = 0"),
                )


def _as_adversarial_training(
    delayed: ResultTable, partial: ResultTable, table1: ResultTable
) -> Iterator[Difference]:
    """RMC+ in its success cases against a network trained by PGD that has no defence, under PGD.

    Section 5.2 names these cases: q ≥ 50, and less than 70 % known.
    """
    other = Places(table1, _TRAINED).share("None", "PGD")
    late = [column for column in delayed.columns if not column.endswith("q = 0")]
    for table, columns in ((delayed, late), (partial, filter(_little_known, partial.columns))):
        places = Places(table)
        for column, row in itertools.product(columns, places.rows):
            what = f"{row}, {column}: RMC+ − A.T. (PGD)"
            yield from compared(what, places.share(row, column), other, margin=0.05)


def _above_none(table7: ResultTable, table1: ResultTable) -> Iterator[Difference]:
    """RMC under PGD-Skip after each p > 0, against the regularly trained network under PGD."""
    regular = Places(table1, _REGULAR).share("None", "PGD")
    for column in table7.columns[1:]:
        what = f"{column}: RMC under PGD-Skip − None under PGD"
        yield from compared(what, Places(table7).share("RMC", column), regular)


DECIDERS: Mapping[str, Differences] = {
    "fail_under_pgd_nn": in_columns(["PGD-NN"], ["None"], ["DeepNN", *WEB_NN], margin=0.05),
    "web_nn_hurt_most": _less_hurt(WEB_NN, ("None", "DeepNN", "RMC")),
    "degraded_by_pgd_nn": in_row("RMC", [("PGD", "PGD-NN")]),
    "less_hurt": _less_hurt(("DeepNN", *WEB_NN), ("RMC",)),
    "withstands_pgd_nn": in_columns(["PGD-NN"], ["RMC"], ["None"]),
    # Before any point, when an attacker can know none, against after some.
    "defeated": in_row("RMC", lambda columns: [(columns[0], later) for later in columns[1:]]),
    "held_after_skip": _above_none,
    "recovers": _recovers,
    "partly_known": _partly_known,
    "as_adversarial_training": _as_adversarial_training,
    # Of our own table of threats, where the same is seen at every query.
    "defeated_at_each_query": in_row("RMC", [("transfer", "PGD-Skip")]),
    "held_at_each_query": in_columns(["PGD-Skip"], ["RMC"], ["None"]),
}
