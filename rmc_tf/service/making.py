"""A bundle out of a config: `--mode=bundle`, and what `--mode=serve` serves."""

import gc
import pathlib
from collections.abc import Callable

from rmc_tf import defences
from rmc_tf.augmented_set import distributed
from rmc_tf.common import storage
from rmc_tf.config import ExperimentConfig
from rmc_tf.experiment.cells import Cell
from rmc_tf.experiment.pipeline import Pipeline
from rmc_tf.service import bundle


def served(config: ExperimentConfig) -> Cell:
    """Returns the cell whose defence is served: of the experiment's own network and its own D'.

    One that is cleansed is so while it is served, not before. Networks of its own, and one that is
    to become fit for noise, are trained for the bundle.
    """
    spec = defences.find(config.service.defence)
    attacks = config.augmented_set.attacks if spec.searches == "augmented_set" else ()
    own = (("cleansing.primed_steps", 0),) if spec.cleansed else ()
    name = config.service.defence
    return Cell("target", name, attacks, stream="clean", source="", overrides=own)


def told_of_the_secret(config: ExperimentConfig) -> str:
    """Returns what to say of a served secret that anyone can guess; empty: nothing."""
    if not defences.find(config.service.defence).secret or config.private.secret:
        return ""
    return (
        "warning: --config.private.secret=0: the networks follow from the config, so that whoever "
        "has it and D can train them, too; give a number that nobody else has"
    )


def write(experiment: Pipeline, say: Callable[[str], object]) -> pathlib.Path:
    """Returns the folder of the bundle of a config, which is made unless it is there.

    It is in `WORKDIR/bundle`, primed, under the fingerprint of all that made it.

    Raises:
      UserError: the config can't be run.
    """
    config, artefacts = experiment.config, experiment.artefacts
    if warning := told_of_the_secret(config):
        say(warning)
    cell, data = served(config), artefacts.dataset
    rows = artefacts.rows_to_hold_back(config.service.canary_rows)
    made_from = storage.fingerprint(
        [bundle.KIND, bundle.FORMAT, cell.defence, list(data.class_names)],
        [data.test.fingerprint, rows.tolist()],
        experiment.sides.made_from(cell),
    )
    place = experiment.workdir / "bundle" / f"{cell.defence}-{made_from}"
    if storage.is_committed(place):
        say(f"bundle: reused from {place}")
        return place
    defence, first_state = experiment.sides.defence(cell)
    defence.restore(first_state)
    held_back = artefacts.images_of(rows) if len(rows) else None
    return bundle.save_bundle(place, defence, class_names=data.class_names, held_back=held_back)


def serve(folder: pathlib.Path, config: ExperimentConfig, say: Callable[[str], object]) -> bool:
    """Opens a bundle and serves it until it is told to stop; see `rmc_tf.service.server`.

    Several replicas open it themselves; see `rmc_tf.service.on_ray`.
    """
    gc.collect()  # of what made the bundle: a compiled function and what it is of hold each other
    if config.service.replicas > 1:
        from rmc_tf.service import on_ray  # it needs the extras [serve] and [distributed]

        on_ray.serve(folder, config, say)
        return True
    from rmc_tf.service import server  # it needs the extra [serve]

    hardware = config.hardware
    opened = bundle.load_bundle(
        folder,
        devices=hardware.devices,
        d_prime=hardware.d_prime,
        unsafe_deserialization=config.model.unsafe_deserialization,
        tell=say,
    )
    engine = distributed.engine(hardware, config.deterministic, config.model.imports)
    return server.serve(opened, config.service, say, engine)
