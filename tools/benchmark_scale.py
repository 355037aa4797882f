"""Measures the search for N'(x) at scale: build, memory, recall, and time beside a full sort.

python tools/benchmark_scale.py --out=docs/results/scale/results.json
python tools/render_docs.py

Each search is built and measured in a process of its own. There the search, the fetch of its rows
from a D' on disk, and the authors' full sort run in turn for each query. Sizes are N' × d. The last
size is searched once more within `--memory_gib`, which makes that search a quantised one.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import sys
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # runs from a checkout
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from rmc_tf.common import console, storage
from rmc_tf.config import IndexConfig
from tools.performance import alone, deployments, many_rows, scale_page
from tools.performance.enlarged_features import EnlargedFeatures
from tools.performance.measuring import machine
from tools.performance.pixels import growth_with_pixels
from tools.performance.searching import Searching

_SIZES = ("10000x64", "100000x64", "1000000x64", "10000x2048", "100000x2048")
_TARGETS = {(1_000_000, 64): 30.0, (100_000, 2048): 20.0}
"""How many times as fast as the full sort a search in float32 shall be."""
_WIDE = 2048
_PIXELS_TARGET = 0.1


def main(argv: Sequence[str] | None = None) -> int:
    """Measures, prints each line as it is known, and writes the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", default="", help="JSON file for the figures; empty: none")
    parser.add_argument("--sizes", default=",".join(_SIZES), help="N'xd, separated by commas")
    parser.add_argument("--k", type=int, default=1024, help="K, up to 2,047 dimensions")
    parser.add_argument("--k_wide", type=int, default=2048, help="K, from 2,048 dimensions on")
    parser.add_argument("--queries", type=int, default=24)
    text = "GiB, for a quantised search of the last size; 0: none"
    parser.add_argument("--memory_gib", type=float, default=0.5, help=text)
    parser.add_argument("--least_recall", type=float, default=IndexConfig().least_recall)
    parser.add_argument("--pixel_rows", type=int, default=50_000, help="N' in the test of pixels")
    given = parser.parse_args(argv)
    console.quieten()
    flags = [flag for flag in (sys.argv[1:] if argv is None else argv) if "--out" not in flag]
    with tempfile.TemporaryDirectory() as temporary:
        for found in measure(given, pathlib.Path(temporary)):
            command = " ".join(["python tools/benchmark_scale.py", *flags])
            values = {"command": command, "machine": machine(), **found}
            if given.out:  # at once: a kill leaves what was measured before
                text = json.dumps(values, indent=2, ensure_ascii=False)
                storage.write_bytes(pathlib.Path(given.out), f"{text}\n".encode())
    return 0


def measure(given: argparse.Namespace, folder: pathlib.Path) -> Iterator[dict[str, Any]]:
    """Yields all figures so far, each time that there are more.

    Args:
      given: the flags.
      folder: for files, some 3 GB at the default sizes.
    """
    deployed = deployments.deploy(deployments.settings()["digits"], folder / "digits", console.say)
    small = many_rows.digits(deployed)
    unseen, _ = deployed.network.forward(deployed.queries[: given.queries])
    sizes = [size.split("x") for size in given.sizes.split(",")]
    free = IndexConfig(least_recall=given.least_recall)
    plans = [(int(rows), int(dimensions), free) for rows, dimensions in sizes]
    if given.memory_gib:
        bounded = dataclasses.replace(free, memory_gib=given.memory_gib)
        plans.append((*plans[-1][:2], bounded))
    searches: list[dict[str, Any]] = []
    for rows, dimensions, config in plans:
        enlarged = EnlargedFeatures(deployed.static.features, dimensions)
        vectors, queries = folder / f"{rows}x{dimensions}.npy", folder / f"{dimensions}.npy"
        if not vectors.exists():
            enlarged.write(vectors, rows)
            np.save(queries, enlarged.queries(unseen))
        d_prime = folder / f"d_prime_{rows}"
        if not d_prime.exists():
            many_rows.make(small, rows, d_prime)
        task = Searching(
            features=str(vectors),
            queries=str(queries),
            d_prime=str(d_prime),
            index=config.to_dict(),
            k=min(given.k_wide if dimensions >= _WIDE else given.k, rows),
        )
        target = None if config.memory_gib else _TARGETS.get((rows, dimensions))
        about: dict[str, Any] = {"float32_mb": rows * dimensions * 4 / 1e6, "target": target}
        about |= {"index": task.index, "least_recall": given.least_recall}
        searches.append(alone.run(task) | about)
        console.say(scale_page.line(searches[-1]))
        yield {"searches": searches}
    train = next(deployed.train.batches(deployed.train.num_rows))
    pixels = growth_with_pixels(
        train.images, train.labels, folder / "pixels", rows=given.pixel_rows, k=64, times=8
    )
    yield {"searches": searches, "pixels": pixels | {"target": _PIXELS_TARGET}}


if __name__ == "__main__":
    sys.exit(main())
