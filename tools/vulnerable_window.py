"""Measures the vulnerable window of a service (section 7), beside adversarial training.

python tools/vulnerable_window.py --attack=cw_l2 --out=docs/results/window_cw_l2/results.json \
  -- --config.rmc.profile=fast

Digits, D' by FGSM alone. What follows `--` goes to `rmc_tf.main --mode=serve`, which runs in a
process of its own; the network is trained after it has ended, so that nothing else runs meanwhile.
"""

import os
import pathlib
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # runs from a checkout
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from absl import app, flags

from configs import table1
from rmc_tf import attacks
from rmc_tf.augmented_set.rows_on_disk import AugmentedSet
from rmc_tf.common import console
from rmc_tf.common.seeding import derive_seed
from rmc_tf.evaluation.streams import choose_points
from tools.serving import digits, window, window_page
from tools.serving.process import serve


def define_flags(values: flags.FlagValues) -> None:
    """Adds the flags of the command line to `values`."""
    digits.define_flags(values)
    digits.number(values, "points", 100, "How many points of the test set are attacked.")
    digits.number(values, "rows", 1000, "How many examples of the attack are added.")
    digits.number(values, "epochs", 30, "Of the training that it is compared with.")
    flags.DEFINE_enum("attack", "cw_l2", ["cw_l2", "jsma", "pgd"], "The new one.", values)


def main(argv: Sequence[str]) -> int:
    """Measures, and writes the result and its figure; returns the exit status."""
    values = flags.FLAGS
    config = digits.begin()
    rows = choose_points(digits.test_split(config), values.points, False, values.seed)
    images, labels = digits.test_rows(config)
    attack = table1.attack_models(config)[values.attack]
    result: dict[str, Any] = digits.about("vulnerable_window")
    result |= {"attack": attack.to_dict(), "rows": values.rows, "points": values.points}
    with tempfile.TemporaryDirectory() as states:
        run = ["--config.augmented_set.attacks=('fgsm',)", "--config.service.canary_rows=0"]
        folder = pathlib.Path(states)
        with serve([*run, f"--workdir={values.workdir}", *argv[1:]], folder) as service:
            opened = digits.opened(service.bundle, config)
            static = opened.defence.static
            made = attacks.build(attack, static)(
                images[rows], labels[rows], derive_seed(values.seed, "window")
            )
            points = window.Points(images[rows], made, labels[rows])
            _, logits = static.forward(made)
            result["bare"] = float((logits.argmax(axis=1) == labels[rows]).mean())
            console.say(f"the bare network: {result['bare']:.3f} of {values.attack}'s")
            result |= window.meet(service.client, points, values.attack, attack, values.rows)
            console.say(f"searched after {result['seconds']['searched']:.1f} s")
            service.terminate()
        (d_prime,) = folder.glob("d_prime-*/augmented_set.json")
        searched = AugmentedSet.open(d_prime.parent)
        result["rows_of_d_prime"] = len(searched)
        rate, seed = config.training.learning_rate, derive_seed(values.seed, "training")
        result["trained"] = window.trained(static, searched, points, values.epochs, rate, seed)
    digits.write(values.out, result)
    window_page.draw(result, pathlib.Path(values.out).with_name("window"))
    for line in window_page.lines(result):
        console.say(line)
    return 0


if __name__ == "__main__":
    define_flags(flags.FLAGS)
    np.set_printoptions(precision=3)
    app.run(main)
