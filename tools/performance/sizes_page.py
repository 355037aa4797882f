"""Reckons from configs/imagenet.py what of ImageNet fits where, and writes it as tables."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from configs import imagenet
from rmc_tf.config import ExperimentConfig, IndexConfig
from rmc_tf.report.page import Block, Grid, Items, Paragraph
from rmc_tf.search import quantised, searchers
from tools.performance.step_page import TRAINING_IMAGES

_FLOAT = 4
_FEATURES = 2048
"""Channels of conv_5_1 in ResNet-152 (He et al. 2016, Table 1)."""
_CLASSES = 1000
_BOOKS, _ANSWERS = 4 + 1 + 8 + 4, 8
"""Bytes a row: label, source, origin, target (`augmented_set.rows_on_disk`); answer of f(x; θ*)."""


def tables(step: Mapping[str, Any]) -> list[Block]:
    """Returns what fits where.

    Args:
      step: what `tools/step_at_scale.py` stores of a step of ResNet-152.
    """
    config = imagenet.experiment()
    rows = _rows(config)
    return [
        Paragraph(f"N' = {rows:,}, 1 kB = 1,000 bytes"),
        Grid(["", "each", "all", "where"], {"": list(_parts(config, step["weights"]))}),
        Paragraph("So of a machine with"),
        _machines(rows),
        Paragraph("Besides:"),
        _disk(config, step),
    ]


def _rows(config: ExperimentConfig) -> int:
    return round(TRAINING_IMAGES * (1 + config.augmented_set.adversarial_per_row))


def _parts(config: ExperimentConfig, weights: int) -> Iterator[tuple[str, str, str, str]]:
    """Yields what, the bytes of one, those of all, and where they are."""
    rows, k, index = _rows(config), config.rmc.k, IndexConfig()
    pixels = 3 * config.dataset.image_size**2
    vector, outputs = _FLOAT * _FEATURES, _FLOAT * _CLASSES
    twice = "disk, in shards and joined"
    yield "pixels of D', uint8", _size(pixels), _size(rows * pixels), "disk, read by memory maps"
    yield "features, float32", f"2 × {_size(vector)}", _size(2 * rows * vector), twice
    yield "outputs, float32", f"2 × {_size(outputs)}", _size(2 * rows * outputs), twice
    for kind in ("exact", "tree", "quantised"):
        needed = searchers.needed_bytes(kind, rows, _FEATURES)
        yield f"the index, {kind}, at its most", _size(needed / rows), _size(needed), "memory"
    found = round(index.candidates * k)
    name = f"the {found:,} candidates of a query, quantised"
    yield name, _size(vector), _size(found * vector), "read from disk at random"
    books = _size(_BOOKS + _ANSWERS)
    yield (
        "labels, sources, origins, targets, static answers",
        books,
        _size(rows * (_BOOKS + _ANSWERS)),
        "memory",
    )
    image = _FLOAT * pixels
    yield f"N'(x), {k:,} images, float32", _size(image), _size(k * image), "memory, while it adapts"
    each = 4 * _FLOAT
    yield "weights, gradients, Adam's two moments", _size(each), _size(each * weights), "device"


def _machines(rows: int) -> Items:
    tree, exact = (searchers.needed_bytes(kind, rows, _FEATURES) for kind in ("tree", "exact"))
    least = searchers.needed_bytes("quantised", rows, _FEATURES)
    large, small = IndexConfig(memory_gib=48), IndexConfig(memory_gib=16)
    pieces = [quantised.rows_of_a_piece(rows, _FEATURES, config) for config in (large, small)]
    kinds = [searchers.choose(rows, _FEATURES, config)[0] for config in (large, small)]
    lowest = searchers.enough_gib(least)
    smallest = dataclasses.replace(small, memory_gib=float(lowest))
    last = quantised.rows_of_a_piece(rows, _FEATURES, smallest)
    return Items(
        [
            f"128 GB: leave `index.memory_gib` at 0; the index is a tree, which takes {_gib(tree)} "
            "while it is built.",
            f"64 GB: `--config.index.memory_gib={large.memory_gib:g}` is less than that, so the "
            f"index is {kinds[0]}, built in pieces of {pieces[0]:,} rows. An exact one fits "
            f"({_gib(exact)}, `index.kind=exact`), and reads all of that for each query.",
            f"32 or 24 GB: `--config.index.memory_gib={small.memory_gib:g}`, {kinds[1]}, in "
            f"pieces of {pieces[1]:,} rows. The least is {lowest} GiB (pieces of {last:,} rows); "
            "below, the command refuses and says so.",
        ]
    )


def _disk(config: ExperimentConfig, step: Mapping[str, Any]) -> Items:
    rows, pixels = _rows(config), 3 * config.dataset.image_size**2
    vectors = 2 * rows * _FLOAT * (_FEATURES + _CLASSES)
    shard = config.augmented_set.shard_rows
    places = (config.dataset.image_size // 4) ** 2
    block = f"{_size(_FLOAT * places**2)} an image for the {places}² pairs of places of conv2"
    return Items(
        [
            f"A shard of D' is written as a whole: {shard:,} rows are {_size(shard * pixels)} "
            "(`augmented_set.shard_rows`). A worker of Ray reads and writes as much for each.",
            "Each start verifies the checksum of every file, which reads from disk once all of D', "
            f"and its features and outputs: {_size(rows * pixels)} and {_size(vectors)}.",
            "Two devices exchange the gradients once a step: "
            f"{_size(_FLOAT * step['weights'])} in float32.",
            "Training, as of [the denoising block](#the-denoising-block), holds D as a whole: "
            f"{_size(TRAINING_IMAGES * pixels)} of pixels; from TFDS twice that, while it is read. "
            f"Such a block takes, of the memory of a device, {block}, several times over.",
        ]
    )


def _size(number: float) -> str:
    """Returns "151 kB": three digits."""
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if number >= unit:
            value = number / unit
            return f"{value:.3g} {name}" if value < 1000 else f"{value:,.0f} {name}"
    return f"{number:.0f} B"


def _gib(number: int) -> str:
    return f"{number / searchers.GIB:.1f} GiB"
