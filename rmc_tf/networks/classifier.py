"""The deployed network f(·; θ): images in [0, 1] to logits, and to deep features.

Preprocessing is inside the network, so attacks and defences never see it. The
features are the activations of one named layer, averaged over space where they
have any (the paper's "deep convolution layer", section 3).
"""

import contextlib
import hashlib
import inspect
import pathlib
from typing import Literal, NoReturn, SupportsIndex

import keras
import numpy as np
import tensorflow as tf

from rmc_tf.common.errors import UserError, did_you_mean
from rmc_tf.common.forks import check_process
from rmc_tf.common.storage import fingerprint
from rmc_tf.config.hardware import Compile
from rmc_tf.config.network import FEATURES, Channels, Pixels
from rmc_tf.data.images import check_images, to_float
from rmc_tf.data.rows import LabelledRows
from rmc_tf.networks import graph, head, inputs, loading
from rmc_tf.networks.form import Tell, flat, standard, warn


class Classifier:
    """A Keras network with a feature layer.

    Attributes:
      model: the network; its weights are θ.
      feature_layer: name of the layer that is searched.
      image_shape: [H, W, C].
      num_classes: width of the logits.
      feature_size: d, width of a feature vector.
      xla: what XLA compiles, as in `HardwareConfig`.
    """

    def __init__(
        self,
        model: keras.Model,
        feature_layer: str = FEATURES,
        source: str = "the model",
        *,
        pixels: Pixels = "0..1",
        channels: Channels = "same",
        image_shape: tuple[int, int, int] | None = None,
        xla: Compile = "auto",
        tell: Tell = warn,
    ) -> None:
        """Wraps a functional or Sequential network, which messages call by its `source`.

        It has one input and one output [B, classes]. A last softmax is left out. `model` itself
        stays as it is; its layers and weights are shared.

        Args:
          model: the network.
          feature_layer: name of the layer that is searched; by default the one called so, or, where
            there is none, the deepest below the logits.
          source: what messages call it.
          pixels: the range that it was trained on, as in `ModelConfig`; images are in [0, 1] in any
            case, and a copy of the network converts them first.
          channels: as in `ModelConfig`, likewise.
          image_shape: [H, W, C] of the data set, for a network that leaves them open.
          xla: see above.
          tell: is told, in a line, how the network is changed to fit; a warning by default.

        Raises:
          UserError: an input or output of another shape, outputs that can't be brought back to
            logits, no such layer or channels, or a forked process.
        """
        check_process()
        self.model = graph.opened(standard(model, source, image_shape, tell), feature_layer)
        self.model = inputs.converting(self.model, pixels, channels, source)
        self.feature_layer = feature_layer
        self.source = source
        self.xla: Compile = xla
        self._tell = tell
        images, logits = self.model.inputs[0], self.model.outputs[0]
        self.image_shape: tuple[int, int, int] = tuple(images.shape[1:])
        self.num_classes: int = logits.shape[1]
        features = flat(self._layer_output(), source)
        self.feature_size: int = features.shape[-1]
        self._features_and_logits = keras.Model(images, [features, logits])
        self._forward = tf.function(
            self.features_and_logits,
            input_signature=[tf.TensorSpec([None, *self.image_shape], tf.float32)],
        )

    def _layer_output(self) -> keras.KerasTensor:
        operations = {each.name: each for each in self.model.operations}
        if self.feature_layer == FEATURES and FEATURES not in operations:
            self.feature_layer = graph.deepest(self.model)
            self._tell(
                f"{self.source}: none of its layers is called {FEATURES}; features are those of "
                f"{self.feature_layer}, the deepest below its logits; another by feature_layer"
            )
        if self.feature_layer not in operations:
            within = graph.holder(self.model, self.feature_layer)
            raise UserError(
                f"{self.source}: has no layer {self.feature_layer!r} to be the feature_layer; "
                + (f"that lies within {within}, which has one output; " if within else "")
                + f"its last ones are {', '.join(list(operations)[-6:])}; name one by "
                "--config.model.feature_layer"
            )
        return graph.output_of(self.model, operations[self.feature_layer])

    @classmethod
    def load(
        cls,
        path: str | pathlib.Path,
        feature_layer: str = FEATURES,
        *,
        source: str = "",
        pixels: Pixels = "0..1",
        channels: Channels = "same",
        image_shape: tuple[int, int, int] | None = None,
        xla: Compile = "auto",
        unsafe_deserialization: bool = False,
        tell: Tell = warn,
    ) -> "Classifier":
        """Returns the classifier of a `.keras` or `.h5` file, which messages call by its path.

        With `unsafe_deserialization` code in the file may run, as that of Lambda layers does. The
        other arguments are as for `Classifier`.

        Raises:
          UserError: no such file, not a Keras model, or what `Classifier` raises.
        """
        source = source or f"model {path}"
        model = loading.load(path, source, unsafe=unsafe_deserialization)
        return cls(
            model,
            feature_layer,
            source,
            pixels=pixels,
            channels=channels,
            image_shape=image_shape,
            xla=xla,
            tell=tell,
        )

    @property
    def compiled(self) -> Literal["whole", "steps", "none"]:
        """What XLA compiles on this machine."""
        if self.xla != "auto":
            return self.xla
        return "whole" if tf.config.list_physical_devices("GPU") else "none"

    @property
    def jit_compile(self) -> bool | None:
        """What `tf.function` is told of an attack on it."""
        return self.compiled != "none" or None

    def save(self, path: pathlib.Path) -> None:
        """Writes the network to a `.keras` file.

        Raises:
          UserError: a layer of the user's own can't be saved.
        """
        loading.save(self.model, path, self.source)

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        """Refuses to be pickled or copied, which what is compiled can't be, by a `UserError`."""
        raise UserError(
            f"{self.source}: a classifier can't be pickled, nor copied by `copy`; clone() copies "
            "it, save() and Classifier.load() bring it to another process"
        )

    def clone(self) -> "Classifier":
        """Returns a classifier of the same architecture with a copy of all its state.

        Raises:
          UserError: a layer of the user's own can't be saved or loaded.
        """
        return Classifier(
            loading.copy(self.model, self.source),
            self.feature_layer,
            self.source,
            xla=self.xla,
            tell=self._tell,
        )

    def split(self, layer: str) -> tuple[keras.Model | None, keras.Model]:
        """Returns the network up to a layer and from there on; they share its weights.

        Without the name of a layer it is (None, the network).

        Raises:
          UserError: no such layer, or there is another way from the images to the logits.
        """
        if not layer:
            return None, self.model
        setting = f"--config.rmc.frozen_until={layer}"
        names = [each.name for each in self.model.layers]
        if layer not in names:
            within = graph.holder(self.model, layer)
            remedy = f"it lies within {within}: name that" if within else did_you_mean(layer, names)
            raise UserError(f"{setting}: {self.source} has no such layer; {remedy}")
        cut = graph.output_of(self.model, self.model.get_layer(layer))
        if cut is self.model.outputs[0]:
            raise UserError(f"{setting}: nothing above it adapts; name a lower layer")
        try:
            return keras.Model(self.model.inputs[0], cut), keras.Model(cut, self.model.outputs[0])
        except ValueError:
            raise UserError(
                f"{setting}: not all of {self.source} goes through it; name the last of a block"
            ) from None

    def fingerprint(self) -> str:
        """Returns what changes with the architecture, any weight, or how it is compiled.

        And with the code of layers and functions that aren't Keras' own.
        """
        code = {}
        for name, part in graph.users_own(self.model).items():
            with contextlib.suppress(OSError, TypeError):  # typed in, say
                code[name] = inspect.getsource(part)
        described = loading.architecture(self.model, self.source)
        # "auto" isn't in it, for it is a matter of the machine, as the number of cores is.
        chosen = self.xla if self.xla in ("whole", "steps") else False
        parts = [described, self.weights_checksum(), chosen]
        return fingerprint(*parts, *([code] if code else []))

    def weights_checksum(self) -> str:
        """Returns the SHA-256 of the weights, which has nothing of the layers' names."""
        weights = hashlib.sha256()
        for weight in self.model.get_weights():
            weights.update(weight.tobytes())
        return weights.hexdigest()

    def logits(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns f(x; θ), [B, classes] float32, of images [B, H, W, C] in [0, 1]; differentiable.

        With `training` batch normalisation and dropout act as in training.
        """
        return tf.cast(self.model(images, training=training), tf.float32)

    def features_and_logits(self, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the features [B, d] and logits [B, classes], float32; differentiable."""
        features, logits = self._features_and_logits(images, training=False)
        return tf.cast(features, tf.float32), tf.cast(logits, tf.float32)

    def forward(self, images: np.ndarray, batch_size: int = 512) -> tuple[np.ndarray, np.ndarray]:
        """Returns features [N, d] and logits [N, classes] of many images, compiled.

        Raises:
          UserError: in a process that was forked after TensorFlow was used.
        """
        check_process()
        parts = [
            self._forward(images[begin : begin + batch_size])
            for begin in range(0, len(images), batch_size)
        ]
        features, logits = zip(*parts, strict=True)
        return np.concatenate(features), np.concatenate(logits)

    def check_shapes(self, rows: LabelledRows) -> None:
        """Refuses, by a `UserError`, rows of other images or of another number of classes."""
        if self.image_shape != tuple(rows.image_shape):
            remedy = inputs.remedy(self.image_shape, tuple(rows.image_shape))
            raise UserError(
                f"{self.source}: takes images {list(self.image_shape)}, the data set's are "
                f"{list(rows.image_shape)}; {remedy}"
            )
        if self.num_classes != rows.num_classes:
            raise UserError(
                f"{self.source}: returns {self.num_classes} outputs, "
                f"the data set has {rows.num_classes} classes; choose a model trained for it"
            )

    def check_for(self, rows: LabelledRows) -> None:
        """Refuses a network that doesn't fit a data set, of which some rows are read.

        Raises:
          UserError: shapes differ, the outputs are not finite logits, or have no gradient.
        """
        self.check_shapes(rows)
        images = to_float(next(rows.batches(64)).images)
        check_images(images, self.image_shape, "rows of the data set")
        try:
            _, outputs = self.forward(images)
            head.check_logits(outputs, self.source)
            self._check_gradients(images[:: max(1, len(images) // 8)])
        except (tf.errors.ResourceExhaustedError, UserError):
            raise
        except Exception as error:  # whatever the network's own layers raise
            raise UserError(
                f"{self.source}: it can't be computed, or no gradient of it "
                f"({loading.reason(error)}); put a layer of Keras in the place of the one to blame"
            ) from error

    def _check_gradients(self, images: np.ndarray) -> None:
        """Refuses a network that lets no gradient through at all; `signs` tells of some images."""
        x = tf.constant(images)
        with tf.GradientTape() as tape:
            tape.watch(x)
            best = tf.math.top_k(self.logits(x), 2).values
            margin = best[:, 0] - best[:, 1]
        gradient = tape.gradient(margin, x)
        if gradient is None or not np.any(gradient.numpy()):
            raise UserError(
                f"{self.source}: no gradient of its outputs reaches the image, so no attack can "
                "be made; something in it rounds or casts the pixels to whole numbers, or stops "
                "the gradient: rebuild it without"
            )


def softmax(logits: np.ndarray) -> np.ndarray:
    """Returns probabilities over the last axis."""
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True))
