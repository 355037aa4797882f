"""What section 5 says of Tables 4 and 5, and of PGD-Skip."""

import itertools
from collections.abc import Iterator, Sequence

from rmc_tf.report.claims.base import Claim, Difference, Differences, claims_of, untestable
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


_HELD = "Under PGD-Skip RMC is still better than no defence"

CLAIMS = (
    Claim(
        "DeepNN and WebNN fail under PGD-NN (they are not more than 5 points above None)",
        "section 5.1",
        ("table4",),
        in_columns(["PGD-NN"], ["None"], ["DeepNN", *WEB_NN], margin=0.05),
    ),
    Claim(
        "PGD-NN hurts WebNN most",
        "Table 4",
        ("table4",),
        _less_hurt(WEB_NN, ("None", "DeepNN", "RMC")),
    ),
    *claims_of(
        "table4",
        "section 5.1",
        {
            "RMC, too, is degraded by PGD-NN": in_row("RMC", [("PGD", "PGD-NN")]),
            "RMC loses much less by PGD-NN than the other defences": _less_hurt(
                ("DeepNN", *WEB_NN), ("RMC",)
            ),
        },
    ),
    untestable(
        "Under PGD-NN N'(x̂) holds fewer examples of the right label, but still adversarial ones",
        "section 5.1",
        "table4",
        "what is kept of an answer doesn't say what its neighbours were",
    ),
    Claim(
        "RMC withstands PGD-NN (it is more robust than None)",
        "section 5.1",
        ("table4",),
        in_columns(["PGD-NN"], ["RMC"], ["None"]),
    ),
    untestable(
        "How RMC stands against a variant of PGD-NN",
        "footnote 4",
        "table4",
        "the paper leaves the variant and the numbers to its supplementary file",
    ),
    Claim(
        "PGD-Skip defeats RMC",
        "section 5.2",
        ("table7",),
        # Before any point, when an attacker can know none, against after some.
        in_row("RMC", lambda columns: [(columns[0], later) for later in columns[1:]]),
    ),
    Claim(_HELD, "section 5.2", ("table7", "table1"), _above_none),
    untestable(
        "A larger learning rate of the local adaptation, too, defends against PGD-Skip",
        "section 5.2",
        "table5a",
        "the paper prints no number for it, and chooses the other way, RMC+",
    ),
    Claim(
        "RMC+ recovers once the attack comes q ≥ 50 points later",
        "section 5.2",
        ("table5a",),
        _recovers,
    ),
    Claim(
        "RMC+ withstands an attacker who knows less than 70 % of the points (against one who knows "
        "all)",
        "section 5.2",
        ("table5b", "table5a"),
        _partly_known,
    ),
    Claim(
        "In most of the success cases (q ≥ 50, less than 70 % known) RMC+ is as good as "
        "adversarial training or better (not more than 5 points below)",
        "section 5.2",
        ("table5a", "table5b", "table1"),
        _as_adversarial_training,
        mostly=True,
    ),
    # Of our own table of threats, where the same is seen at every query.
    *claims_of(
        "threats",
        "section 5.2",
        {
            "PGD-Skip defeats RMC": in_row("RMC", [("transfer", "PGD-Skip")]),
            _HELD: in_columns(["PGD-Skip"], ["RMC"], ["None"]),
        },
    ),
)
