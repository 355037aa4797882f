"""What of a user's network adapts, answers or shows a gradient otherwise than its owner expects."""

import inspect
import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from rmc_tf.networks import loading
from rmc_tf.networks.classifier import Classifier
from rmc_tf.networks.graph import leaves
from rmc_tf.networks.slopes import slopes

ROWS = 64
"""On so many rows of D gradients and randomness are looked for."""
_FEW = 0.05
"""Of the rows: so many gradients may vanish. Ours."""


def of(classifier: Classifier, images: np.ndarray, labels: np.ndarray) -> list[str]:
    """Returns a sentence on each sign that a network shows.

    Images are [n, H, W, C] float32 in [0, 1], labels [n].
    """
    found = [
        _frozen(classifier),
        _training(classifier),
        _random(classifier, images),
        _flat(classifier, images, labels),
    ]
    return [f"{classifier.source}: {each}" for each in found if each]


def _frozen(classifier: Classifier) -> str:
    layers = [each for each in leaves(classifier.model) if each.weights and not each.trainable]
    if not layers:
        return ""
    adapt = sum(int(np.prod(each.shape)) for each in classifier.model.trainable_variables)
    every = adapt + sum(each.count_params() for each in layers)
    return (
        f"{adapt:,} of {every:,} weights adapt, since trainable=False in {_named(layers)}; set "
        "model.trainable = True before it is saved, and all do"
    )


def _training(classifier: Classifier) -> str:
    described = json.loads(loading.architecture(classifier.model, classifier.source))
    by_itself = {each.name for each in leaves(classifier.model) if _trains_by_itself(each)}
    called = dict.fromkeys(_called_with_training(described))
    names = [name for name in called if name not in by_itself]
    if not names:
        return ""
    layers = [f"layer {name}" for name in names[:3]] + (["others"] if len(names) > 3 else [])
    return f"training=True of {', '.join(layers)} is switched off: it answers as in inference"


def _trains_by_itself(layer: Any) -> bool:
    """Whether training=True is what a layer's call has where none is given: as of RandomFlip."""
    default = inspect.signature(type(layer).call).parameters.get("training")
    return default is not None and default.default is True


def _called_with_training(config: Any) -> Iterator[str]:
    """Yields the name of each layer that is called with training=True, at any depth."""
    if isinstance(config, dict):
        for node in config.get("inbound_nodes", ()):
            if isinstance(node, dict) and node.get("kwargs", {}).get("training") is True:
                yield config["name"]
    for inner in config.values() if isinstance(config, dict) else config:
        if isinstance(inner, dict | list):
            yield from _called_with_training(inner)


def _random(classifier: Classifier, images: np.ndarray) -> str:
    (_, once), (_, again) = classifier.forward(images), classifier.forward(images)
    differ = ~np.isclose(once, again, rtol=1e-2, atol=1e-3).all(axis=1)
    if not differ.any():
        return ""
    return (
        f"its outputs are drawn: those of {differ.sum()} of {len(images)} images differ when they "
        "are asked again; attacks need EOT then, and no number is repeated to the digit"
    )


def _flat(classifier: Classifier, images: np.ndarray, labels: np.ndarray) -> str:
    gradients = slopes(classifier, images, labels).reshape(len(images), -1)
    lost = int((~np.isfinite(gradients).all(axis=1) | (gradients == 0).all(axis=1)).sum())
    if lost <= _FEW * len(images):
        return ""
    half = [each for each in leaves(classifier.model) if each.compute_dtype == "float16"]
    remedy = "its loss saturates, or a layer passes no gradient on"
    if half:
        remedy = f"float16 in {_named(half)} loses them: set its dtype_policy to float32"
    return (
        f"at {lost} of {len(images)} images the gradient vanishes, so attacks by gradients leave "
        f"them as they are; {remedy}"
    )


def _named(layers: list[Any]) -> str:
    rest = f" and {len(layers) - 2} more" if len(layers) > 2 else ""
    return f"{', '.join(layer.name for layer in layers[:2])}{rest}"
