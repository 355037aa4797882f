"""Measures what it costs in robustness that several queries share one local adaptation.

python tools/queries_at_once.py --dataset=digits --out=docs/results/at_once_digits/results.json

For each q of `--at_once`, the same points are answered q at a time (`rmc.queries_at_once`), by all
in turn. "choosing": the first points choose the q of the shortest delay that loses no more than
the fast profile may. "reported": all answer the points after those. Each point of GMSA is attacked
in the state in which its group will be asked, as if it came alone. With `--faithful` the faithful
profile answers, too, one at a time, and the q that reaches the fast profile's bars is told.

A measurement that was stopped goes on at the next stream, as long as nothing that it depends on
has changed.
"""

import dataclasses
import os
import pathlib
import sys
from collections.abc import Sequence

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # runs from a checkout
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf
from absl import app, flags

from rmc_tf.common import console
from rmc_tf.config import RMCConfig, with_profile
from rmc_tf.networks.devices import share_cores
from tools.performance import groups_page, stored_search
from tools.performance.profiles import GMSA, STREAMS, SideBySide, experiment

_PARTS = ("choosing", "reported")


def define_flags(values: flags.FlagValues) -> None:
    """Adds the flags of the command line to `values`."""
    stored_search.define_flags(values, "at-once", _PARTS)
    flags.DEFINE_multi_integer(
        "at_once", [1, 2, 4, 8], "The q; 1 is always among them.", flag_values=values, lower_bound=1
    )
    profiles = ["faithful", "fast"]
    flags.DEFINE_enum("profile", "faithful", profiles, "Of RMC.", flag_values=values)
    text = "The faithful profile answers the same points, too."
    flags.DEFINE_bool("faithful", False, text, flag_values=values)
    number, primed = stored_search.number, RMCConfig().primed_rows
    number(values, "points", 100, "The first so many choose; as many after them are reported.", 1)
    number(values, "gmsa_points", 20, "Of either half, under each GMSA; 0: none.")
    number(values, "primed_rows", primed, "Before the first query; see RMCConfig.")


def main(argv: Sequence[str]) -> None:
    """Measures what isn't stored yet, part by part, and draws the plot."""
    del argv
    values = flags.FLAGS
    console.quieten()
    config = experiment(values.dataset, 2 * values.points, values.rows, values.k, values.epochs)
    rmc = dataclasses.replace(config.rmc, profile=values.profile, primed_rows=values.primed_rows)
    faithful = with_profile(dataclasses.replace(rmc, profile="faithful"))
    config = dataclasses.replace(config, rmc=with_profile(rmc))
    share_cores(config.hardware)
    tf.config.experimental.enable_op_determinism()
    out = pathlib.Path(values.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    fingerprint = stored_search.fingerprint_of(config)
    found = stored_search.stored(out, fingerprint, _PARTS)
    settings = {
        str(q): dataclasses.replace(config.rmc, queries_at_once=q)
        for q in sorted({1, *values.at_once})
    }
    if values.faithful:
        settings = {groups_page.FAITHFUL: faithful, **settings}
    about = {
        **stored_search.about(found, "queries_at_once", values.dataset, fingerprint),
        "profile": values.profile,
        "queries_at_once": [int(q) for q in settings if q != groups_page.FAITHFUL],
    }
    workdir = pathlib.Path(values.workdir or f"runs/at-once-{values.dataset}")
    gmsa_points = min(values.gmsa_points, values.points)
    side_by_side = SideBySide(config, workdir, gmsa_points)
    points = {
        "choosing": slice(0, values.points),
        "reported": slice(values.points, 2 * values.points),
    }
    wanted = dict.fromkeys(STREAMS, values.points)
    if gmsa_points:
        wanted |= dict.fromkeys(GMSA, gmsa_points)
    for part in _PARTS:
        left = stored_search.left(found[part], settings, wanted) if part in values.parts else []
        if not left:
            continue
        found[part] = {q: found[part][q] for q in settings}  # delays are of those in turn
        console.say(f"{part}: {', '.join(q for q in settings if q.isdigit())} at once")
        measured = side_by_side.measure(list(settings.values()), points[part], left)
        stored_search.keep(out, found, about, part, settings, measured)
    if all("1" in found[part] for part in _PARTS):
        console.say(f"chosen: {groups_page.chosen(found['choosing'])} at once")
        groups_page.plot({**found, **about}, out.with_name("pareto"))


if __name__ == "__main__":
    define_flags(flags.FLAGS)
    app.run(main)
