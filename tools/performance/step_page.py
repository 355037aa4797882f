"""Writes the tables of a step at real size, and what all of ImageNet takes; no TensorFlow."""

from collections.abc import Iterator, Mapping
from typing import Any

from configs import imagenet
from rmc_tf.config import EarlyStopConfig, ExperimentConfig, RMCConfig
from rmc_tf.report.page import Block, Grid, table

TRAINING_IMAGES = 1_281_167
"""In the training split of ILSVRC 2012 (Russakovsky et al. 2015, Table 2)."""
# In forward passes of an image. Going back to the pixels takes the convolutions of the forward pass
# once more, each transposed; going on to the gradients of the weights, once more again.
_ATTACKED, _ADAPTED = 2, 3
_DEVICE = 50e12
"""FLOP/s: for the arithmetic, not measured; in its place goes what a user's device keeps up."""


def tables(step: Mapping[str, Any]) -> list[Block]:
    """Returns the tables: what was measured, and the work of configs/imagenet.py.

    Args:
      step: what `tools/step_at_scale.py` stores.
    """
    return [_measured(step), _work(step, imagenet.experiment())]


def rate(step: Mapping[str, Any]) -> float:
    """Returns the FLOP/s of one core while it computes the step."""
    flop = (_ADAPTED * step["batch"] + 1) * step["forward_flop"]  # and a row to validate on
    return float(flop / step["processor_seconds"])


def _measured(step: Mapping[str, Any]) -> Grid:
    batch, seconds, busy = step["batch"], step["step_seconds"], step["processor_seconds"]
    forward, machine = step["forward_flop"] / 1e9, step["machine"]
    image = 4 * 3 * step["side"] ** 2 / 2**30
    about = (
        f"{step['architecture']}, {step['weights']:,} weights, {step['side']} px; Adam; "
        f"{machine['cores']} cores of {machine['processor']}, TensorFlow {machine['tensorflow']}"
    )
    lines = {
        about: "",
        "rows of the step; of a micro-batch": f"{batch:,}; {step['micro_batch']}",
        "peak memory of the process; before the first step": (
            f"**{step['peak_gib']:.1f} GiB**; {step['peak_gib_before_the_step']:.1f} GiB"
        ),
        "of it, the images in float32, as given and in the order of the epoch": (
            f"{2 * batch * image:.1f} GiB"
        ),
        "seconds of the step (the machine had other work); images a second": (
            f"{seconds:,.0f} s; {batch / seconds:.2f}"
        ),
        "seconds of a core; images a second of a core": f"{busy:,.0f} s; {batch / busy:.2f}",
        "GFLOP of an image: forward; forward and back": (
            f"{forward:.1f}; {_ADAPTED} × {forward:.1f} = {_ADAPTED * forward:.1f}"
        ),
        "GFLOP/s of a core": f"**{rate(step) / 1e9:.0f}**",
    }
    return Grid(["measured", ""], {"": list(lines.items())})


def _work(step: Mapping[str, Any], config: ExperimentConfig) -> Grid:
    cores = step["machine"]["cores"]
    here = cores * rate(step)
    rows = []
    for name, sum_, passes in _items(config):
        flop = passes * step["forward_flop"]
        mantissa, _, exponent = f"{flop:.1e}".partition("e")
        rows.append(
            {
                "work": name,
                "forward passes": sum_,
                "FLOP": f"{mantissa} · 10^{int(exponent)}",
                f"{cores} such cores": _time(flop / here),
                f"at {_DEVICE / 1e12:.0f} TFLOP/s": _time(flop / _DEVICE),
            }
        )
    return table(rows)


def _items(config: ExperimentConfig) -> Iterator[tuple[str, str, int]]:
    """Yields work, the sum, and what it comes to in forward passes."""
    made = config.augmented_set
    each = int(made.adversarial_per_row) // len(made.attacks)
    iterations = [config.attacks[name].iterations for name in made.attacks for _ in range(each)]
    examples = f"({' + '.join(map(str, iterations))})"
    name = f"examples of D', by {', '.join(made.attacks)}"
    passes = TRAINING_IMAGES * sum(iterations) * _ATTACKED
    yield name, f"{TRAINING_IMAGES:,} × {examples} × {_ATTACKED}", passes
    rows = 1 + len(iterations)
    yield "features of D'", f"{TRAINING_IMAGES:,} × {rows}", TRAINING_IMAGES * rows
    rmc = config.rmc
    yield from _fit("an answer", rmc, rmc.validation_rows, rmc.early_stop)
    calibration = rmc.calibration
    held_out = round(rmc.k * calibration.validation_share)
    yield from _fit("its calibration", rmc, held_out, calibration.early_stop)


def _fit(
    name: str, rmc: RMCConfig, held_out: int, stop: EarlyStopConfig
) -> Iterator[tuple[str, str, int]]:
    """A fit takes `patience` epochs after the one that validates best, so one more at least."""
    epoch = (rmc.k - held_out) * _ADAPTED + held_out
    sum_ = f"({rmc.k - held_out:,} × {_ADAPTED} + {held_out})"
    for epochs, which in ((stop.patience + 1, "fewest"), (stop.max_epochs, "most")):
        yield f"{name}, {which} epochs", f"{epochs} × {sum_}", epochs * epoch


def _time(seconds: float) -> str:
    for size, unit in ((365.25 * 86400, "years"), (86400, "days"), (3600, "hours"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:,.0f} {unit}"
    return f"{seconds:.0f} s"
