"""Audits what a defence at run time adds to a deployed network, one candidate after another.

python tools/withstanding.py --dataset=digits --out=docs/results/withstanding_digits/results.json
python tools/withstanding.py --only=cleansing,refusing_trained …

Each candidate is audited by `--mode=audit`'s engine on the same points as its static network. What
is in the work directory isn't done twice; what is in the results stays, unless it is named by
`--only`. docs/withstanding.md quotes the table. What follows `--` overrides settings, as
--config.training.epochs=40 does for `rmc_tf.main`.
"""

import ast
import dataclasses
import os
import pathlib
import re
import sys
from collections.abc import Sequence
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # runs from a checkout
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from absl import app, flags

from rmc_tf import defences
from rmc_tf.audit import page
from rmc_tf.audit.run import Audit
from rmc_tf.common import console, storage
from rmc_tf.common.errors import UserError, did_you_mean
from rmc_tf.common.provenance import revision
from rmc_tf.config import ExperimentConfig, profiled, shipped
from rmc_tf.experiment.cells import Cell
from rmc_tf.experiment.pipeline import Pipeline
from tools.performance import candidates, withstanding_page
from tools.serving import digits

_FIRST, _TIMED = 5, 60
"""So many answers are timed, after so many that aren't. Ours: some seconds."""


def define_flags(values: flags.FlagValues) -> None:
    """Adds the flags of the command line to `values`."""
    digits.define_flags(values)
    flags.DEFINE_string("dataset", "digits", "Whose shipped config is taken.", values)
    flags.DEFINE_list("only", None, "Of the candidates; else all.", flag_values=values)
    flags.DEFINE_string("budget", "standard", "quick, standard or exhaustive.", values)
    flags.DEFINE_string("note", "", "What a reader should know of the machine.", values)


def overridden(config: ExperimentConfig, arguments: Sequence[str]) -> ExperimentConfig:
    """Returns a config with what --config.FIELD=VALUE say."""
    for each in arguments:
        path, _, value = each.removeprefix("--config.").partition("=")
        if not each.startswith("--config.") or not value:
            raise UserError(f"{each}: what follows -- is --config.FIELD=VALUE")
        try:
            config = config.overridden({path: ast.literal_eval(value)})
        except (ValueError, SyntaxError):  # a word
            config = config.overridden({path: value})
    return config


def audited(
    config: ExperimentConfig, one: candidates.Candidate, workdir: pathlib.Path
) -> dict[str, Any]:
    """Returns what the audit finds of one candidate, and what its answers cost."""
    own = dataclasses.replace(
        config.audit, networks=(one.network,), defences=(one.defence,), attack=one.attack
    )
    config = dataclasses.replace(config.overridden(one.overrides), audit=own)
    found = Audit(config, workdir, console.say).run().found
    subject = next(each for each in found["subjects"] if each["defence"] == one.defence)
    kept = ("clean", "clean_interval", "worst_case", "interval", "expected", "random", "right")
    strongest = max(subject["stages"][1:], key=lambda each: int(each["broke"]))
    return {
        **{name: subject[name] for name in kept},
        "norm": found["norm"],
        "epsilon": found["epsilon"],
        "points": found["points"],
        "most_by": strongest["title"],
        "suspicious": [c["name"] for c in subject["checks"] if c["status"] == "suspicious"],
        "still_falling": subject["curve"]["still_falling"],
        "tried_on_part": page.tried_on_part(subject),
        "budget": found["budget"]["name"],
        "audit_seconds": subject["seconds"],
        "revision": found["revision"],
        **costs(config, one, workdir),
    }


def costs(
    config: ExperimentConfig, one: candidates.Candidate, workdir: pathlib.Path
) -> dict[str, Any]:
    """Returns what an answer to a clean point takes, what is held, and what is certified."""
    points = dataclasses.replace(config.evaluation, points=config.audit.points)
    config = dataclasses.replace(config, evaluation=points)
    experiment, spec = Pipeline(config, workdir, console.say), defences.find(one.defence)
    clean = experiment.artefacts.stream("clean", "")
    d_prime = config.augmented_set.attacks if spec.searches == "augmented_set" else ()
    cell = Cell(one.network, one.defence, d_prime, "clean", "")
    defence, first = experiment.sides.defence(cell)
    defence.restore(first)
    asked = [defence.predict(image) for image in clean.images]
    timed = [each.seconds for each in asked[_FIRST : _FIRST + _TIMED]]
    state = sum(np.asarray(each).nbytes for each in defence.snapshot().values())
    weights = sum(w.numpy().nbytes for w in defence.network.model.weights)
    held = max(state, weights)  # a state that has weights has all that moves
    if spec.searches != "nothing" and not spec.cleansed:
        prepared = experiment.sides.prepared(cell.searched)
        held += sum(each.nbytes for each in (prepared.static.features, prepared.static.outputs))
        held += len(prepared.augmented_set) * int(np.prod(clean.images.shape[1:]))
    right = np.array([each.label for each in asked]) == clean.labels
    found: dict[str, Any] = {
        "median_seconds": float(np.median(timed)),
        "bytes": int(held),
        "refused": float(np.mean([each.refused for each in asked])),
    }
    if asked[0].radius is not None and config.attacks[config.audit.attack].norm == "l2":
        radii = np.array([each.radius or 0.0 for each in asked])
        found["radii"] = np.where(right, radii, 0.0).tolist()
    return found


def main(argv: Sequence[str]) -> int:
    """Audits what is missing or named, and writes after each; returns the exit status."""
    values = flags.FLAGS
    digits.begin(values.dataset)
    known = candidates.of(values.dataset)
    wanted = values.only or list(known)
    for name in wanted:
        if name not in known:
            raise UserError(f"--only={name}: no such candidate; {did_you_mean(name, known)}")
    base = shipped.made_of("withstanding", shipped.of_dataset(values.dataset))
    config = profiled(overridden(base, argv[1:]))
    config = dataclasses.replace(
        config, audit=dataclasses.replace(config.audit, budget=values.budget)
    )
    out = pathlib.Path(values.out)
    result: dict[str, Any] = {"candidates": {}}
    if out.exists():
        result = storage.read_json(out)
    result |= digits.about("withstanding")
    result |= {"dataset": values.dataset, "note": values.note}
    result["command"] = re.sub(r" --only[= ]\S+", "", result["command"])
    made_at = revision()  # before results are written, which are files of this checkout
    for name in wanted:
        if name in result["candidates"] and not values.only:
            continue
        one = known[name]
        console.say(f"candidate {name}: {one.title}")
        own = {"title": one.title, "network": one.network, "made_at": made_at}
        result["candidates"][name] = own | audited(config, one, pathlib.Path(values.workdir))
        digits.write(values.out, result)
        for line in withstanding_page.lines(result, known):
            console.say(line)
    withstanding_page.draw(result, out.with_name("withstanding"))
    return 0


if __name__ == "__main__":
    define_flags(flags.FLAGS)
    app.run(main)
