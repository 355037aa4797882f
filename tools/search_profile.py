"""Searches the fast profile: settings of RMC that cost less, and what they cost in robustness.

python tools/search_profile.py --dataset=digits --out=docs/results/fast_digits/results.json

Three parts. "choosing": every candidate answers the first points, one candidate after another.
"timed": all candidates answer some of these points in turn; that is where their delays are from.
"reported": the faithful profile and `FastConfig` as it is shipped answer the points after those
that chose, also under GMSA-AVG and GMSA-MIN.

A search that was stopped goes on at the next stream, as long as nothing that it depends on has
changed.
"""

import dataclasses
import os
import pathlib
import sys
from collections.abc import Iterator, Mapping, Sequence

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # runs from a checkout
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf
from absl import app, flags

from rmc_tf.common import console, storage
from rmc_tf.config import FastConfig, RMCConfig, with_profile
from rmc_tf.networks.devices import share_cores
from tools.performance import search_page, stored_search
from tools.performance.profiles import GMSA, STREAMS, SideBySide, experiment

CANDIDATES: Mapping[str, FastConfig] = {
    # Every setting in full: what is shipped changes, what a name says doesn't.
    **{
        f"{epochs} epochs, until settled at {settled:g}{', twice the rate' * (rate == 2)}": (
            FastConfig(
                max_epochs=epochs, up_to_steps=0, settled=settled, rate_factor=rate, step="fused"
            )
        )
        for epochs, settled, rate in (
            (4, 0.1, 1.0),
            (4, 0.05, 1.0),
            (4, 0.02, 1.0),
            (8, 0.05, 1.0),
            (8, 0.02, 1.0),
            (4, 0.05, 2.0),
            (8, 0.05, 2.0),
            (4, 0.02, 2.0),
            (16, 0.02, 2.0),
        )
    },
    "1 epoch": FastConfig(max_epochs=1, up_to_steps=0, settled=0, rate_factor=1.0, step="fused"),
    "1 epoch, as Keras computes a step": FastConfig(
        max_epochs=1, up_to_steps=0, settled=0, rate_factor=1.0, step="plain"
    ),
}
_PARTS = ("choosing", "timed", "reported")


def define_flags(values: flags.FlagValues) -> None:
    """Adds the flags of the command line to `values`."""
    stored_search.define_flags(values, "search", _PARTS)
    number = stored_search.number
    number(values, "points", 100, "The first so many choose.", 1)
    number(values, "reported_points", 0, "Those after; 0: as many.")
    text = "How many are drawn and attacked, at least. Draw more than are asked now, and more can "
    text += "be reported later without a change to what is stored."
    number(values, "drawn_points", 0, text)
    text = "How many of the first, in each stream, all candidates answer in turn, for their delay."
    number(values, "timed_points", 10, text, 1)
    number(values, "gmsa_points", 20, "Of the reported, under each GMSA; 0: none.")
    flags.DEFINE_multi_enum(
        "candidate", None, list(CANDIDATES), "One of them; none: all.", flag_values=values
    )


def main(argv: Sequence[str]) -> None:
    """Measures what isn't stored yet, part by part, and draws the plot."""
    del argv
    values = flags.FLAGS
    console.quieten()
    every = values.points + (values.reported_points or values.points)
    points = {
        "choosing": slice(0, values.points),
        "timed": slice(0, values.timed_points),
        "reported": slice(values.points, every),
    }
    drawn = max(every, values.drawn_points)
    config = experiment(values.dataset, drawn, values.rows, values.k, values.epochs)
    share_cores(config.hardware)
    tf.config.experimental.enable_op_determinism()
    out = pathlib.Path(values.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    fingerprint = stored_search.fingerprint_of(config)
    found = stored_search.stored(out, fingerprint, _PARTS)
    about = stored_search.about(found, "search_profile", values.dataset, fingerprint)
    workdir = pathlib.Path(values.workdir or f"runs/search-{values.dataset}")
    side_by_side = SideBySide(config, workdir, values.gmsa_points)
    for part, settings in _asked(config.rmc, values.candidate or list(CANDIDATES)):
        if part not in values.parts:
            continue
        wanted = dict.fromkeys(STREAMS, points[part].stop - points[part].start)
        if part == "reported" and values.gmsa_points:
            wanted |= dict.fromkeys(GMSA, values.gmsa_points)
        left = stored_search.left(found[part], settings, wanted)
        if not left:
            continue
        if part == "timed":  # those of another time can't be put beside these
            found[part] = {name: found[part][name] for name in settings}
        console.say(f"{part}: {', '.join(settings)}")
        measured = side_by_side.measure(list(settings.values()), points[part], left)
        stored_search.keep(out, found, about, part, settings, measured)
    if out.exists() and "faithful" in storage.read_json(out)["timed"]:
        search_page.plot(storage.read_json(out), out.with_name("pareto"))


def _asked(
    faithful: RMCConfig, candidates: Sequence[str]
) -> Iterator[tuple[str, dict[str, RMCConfig]]]:
    """Yields parts, each with the settings, by name, that answer in turn."""
    fast = dataclasses.replace(faithful, profile="fast")
    faithful = with_profile(faithful)
    chosen = {
        name: with_profile(dataclasses.replace(fast, fast=candidate))
        for name, candidate in CANDIDATES.items()
        if name in candidates
    }
    yield "choosing", {"faithful": faithful}
    for name, rmc in chosen.items():
        yield "choosing", {name: rmc}
    yield "timed", {"faithful": faithful, **chosen}
    yield "reported", {"faithful": faithful, "fast": with_profile(fast)}


if __name__ == "__main__":
    define_flags(flags.FLAGS)
    app.run(main)
