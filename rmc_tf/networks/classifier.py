"""The deployed network f(·; θ): images in [0, 1] to logits, and to deep features.

Preprocessing is inside the network, so attacks and defences never see it. The
features are the activations of one named layer, averaged over space where they
have any (the paper's "deep convolution layer", section 3).
"""

import hashlib
import pathlib
import tempfile
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

from rmc_tf.common.errors import UserError, did_you_mean, first_line
from rmc_tf.common.storage import fingerprint
from rmc_tf.config.network import check_model_file
from rmc_tf.data.images import check_images, to_float
from rmc_tf.data.rows import LabelledRows


class Classifier:
    """A Keras network with a feature layer.

    Attributes:
      model: the network; its weights are θ.
      feature_layer: name of the layer that is searched.
      image_shape: [H, W, C].
      num_classes: width of the logits.
      feature_size: d, width of a feature vector.
      jit_compile: whether attacks on it and steps of its adaptation are compiled by XLA.
    """

    def __init__(
        self,
        model: keras.Model,
        feature_layer: str = "features",
        source: str = "the model",
        *,
        jit_compile: bool = False,
    ) -> None:
        """Wraps a functional or Sequential network, which messages call by its `source`.

        It has one input [B, H, W, C] and one output [B, classes].

        Raises:
          UserError: an input or output of another shape, or no such layer.
        """
        self.model = model
        self.feature_layer = feature_layer
        self.source = source
        self.jit_compile = jit_compile
        try:
            inputs, outputs = model.inputs, model.outputs
        except (AttributeError, ValueError):
            inputs, outputs = None, None
        if not inputs or not outputs:
            raise UserError(f"{source}: not a functional or Sequential model; rebuild it as one")
        if len(inputs) != 1 or len(outputs) != 1:
            raise UserError(
                f"{source}: {len(inputs)} inputs and {len(outputs)} outputs, not 1 and 1"
            )
        if len(inputs[0].shape) != 4 or None in inputs[0].shape[1:]:
            raise UserError(
                f"{source}: takes {_shape(inputs[0])}, expected [B, H, W, C] with fixed H, W, C"
            )
        if len(outputs[0].shape) != 2 or outputs[0].shape[1] is None:
            raise UserError(f"{source}: returns {_shape(outputs[0])}, expected logits [B, classes]")
        self.image_shape: tuple[int, int, int] = tuple(inputs[0].shape[1:])
        self.num_classes: int = outputs[0].shape[1]
        features = _flat(self._layer_output(), source)
        self.feature_size: int = features.shape[-1]
        self._features_and_logits = keras.Model(inputs[0], [features, outputs[0]])
        self._forward = tf.function(
            self.features_and_logits,
            input_signature=[tf.TensorSpec([None, *self.image_shape], tf.float32)],
        )

    def _layer_output(self) -> keras.KerasTensor:
        names = [layer.name for layer in self.model.layers]
        if self.feature_layer not in names:
            deep = ", ".join(names[-6:])
            raise UserError(
                f"--config.model.feature_layer={self.feature_layer}: {self.source} has no such "
                f"layer; its last ones are {deep}"
            )
        layer = self.model.get_layer(self.feature_layer)
        if isinstance(layer, keras.Model):
            # A backbone: its `output` is of its own graph; what it gives in this one is kept by
            # the node that called it.
            output: keras.KerasTensor = layer._inbound_nodes[-1].output_tensors[0]
            return output
        return layer.output

    @classmethod
    def load(
        cls, path: str | pathlib.Path, feature_layer: str = "features", *, jit_compile: bool = False
    ) -> "Classifier":
        """Returns the classifier of a `.keras` file.

        Raises:
          UserError: no such file, or not a Keras model.
        """
        source = f"model {path}"
        check_model_file(path)
        try:
            model = keras.models.load_model(path, compile=False)
        except Exception as error:  # Keras raises whatever the file's contents provoke
            raise UserError(
                f"--config.model.path={path}: not a Keras model that loads "
                f"({first_line(error)}); save it by model.save('NAME.keras')"
            ) from error
        return cls(model, feature_layer, source, jit_compile=jit_compile)

    def save(self, path: pathlib.Path) -> None:
        """Writes the network to a `.keras` file."""
        self.model.save(path)

    def clone(self) -> "Classifier":
        """Returns a classifier of the same architecture with a copy of all its state.

        By way of a file: what else a layer keeps besides its weights (the constants of an
        adapted Normalization, say) is lost by `keras.models.clone_model`.

        Raises:
          UserError: a layer of the user's own can't be loaded.
        """
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "copy.keras"
            self.save(path)
            try:
                model = keras.models.load_model(path, compile=False)
            except Exception as error:  # whatever the user's own classes raise
                raise UserError(
                    f"{self.source}: a copy of it doesn't load ({first_line(error)}); register "
                    "its own classes by keras.saving.register_keras_serializable()"
                ) from error
        return Classifier(model, self.feature_layer, self.source, jit_compile=self.jit_compile)

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
            remedy = did_you_mean(layer, names)
            raise UserError(f"{setting}: {self.source} has no such layer; {remedy}")
        cut = self.model.get_layer(layer).output
        if cut is self.model.outputs[0]:
            raise UserError(f"{setting}: nothing above it adapts; name a lower layer")
        try:
            return keras.Model(self.model.inputs[0], cut), keras.Model(cut, self.model.outputs[0])
        except ValueError:
            raise UserError(
                f"{setting}: not all of {self.source} goes through it; name the last of a block"
            ) from None

    def fingerprint(self) -> str:
        """Returns what changes with the architecture, any weight, or how it is compiled."""
        weights = hashlib.sha256()
        for weight in self.model.get_weights():
            weights.update(weight.tobytes())
        return fingerprint(self.model.to_json(), weights.hexdigest(), self.jit_compile)

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
        """Returns features [N, d] and logits [N, classes] of many images, compiled."""
        parts = [
            self._forward(images[begin : begin + batch_size])
            for begin in range(0, len(images), batch_size)
        ]
        features, logits = zip(*parts, strict=True)
        return np.concatenate(features), np.concatenate(logits)

    def check_for(self, rows: LabelledRows) -> None:
        """Refuses a network that doesn't fit a data set, of which some rows are read.

        Raises:
          UserError: shapes differ, or the outputs are not finite logits.
        """
        if self.image_shape != tuple(rows.image_shape):
            raise UserError(
                f"{self.source}: takes images {list(self.image_shape)}, the data set's are "
                f"{list(rows.image_shape)}; choose another model or --config.dataset.image_size"
            )
        if self.num_classes != rows.num_classes:
            raise UserError(
                f"{self.source}: returns {self.num_classes} outputs, "
                f"the data set has {rows.num_classes} classes; choose a model trained for it"
            )
        images = to_float(next(rows.batches(64)).images)
        check_images(images, self.image_shape, "rows of the data set")
        _, outputs = self.forward(images)
        if not np.isfinite(outputs).all():
            raise UserError(f"{self.source}: its outputs are not finite; it didn't train well")
        if (outputs >= 0).all() and np.allclose(outputs.sum(axis=1), 1, atol=1e-3):
            raise UserError(
                f"{self.source}: its outputs are probabilities, expected logits; "
                "save it without the last softmax (activation=None)"
            )


def leaves(layer: keras.Layer) -> Iterator[keras.Layer]:
    """Yields the layers of a network and of those within it; of any other layer, the layer."""
    if not isinstance(layer, keras.Model):
        yield layer
        return
    for inner in layer.layers:
        yield from leaves(inner)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Returns probabilities over the last axis."""
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True))


def _shape(tensor: keras.KerasTensor) -> str:
    return "[" + ", ".join("B" if size is None else str(size) for size in tensor.shape) + "]"


def _flat(output: keras.KerasTensor, source: str) -> keras.KerasTensor:
    rank = len(output.shape)
    own: dict[str, str] = {"data_format": "channels_last", "dtype": "float32"}  # not Keras' globals
    if rank == 2:
        return output
    if rank == 3:
        return keras.layers.GlobalAveragePooling1D(**own)(output)
    if rank == 4:
        return keras.layers.GlobalAveragePooling2D(**own)(output)
    raise UserError(f"{source}: features of shape {_shape(output)}; choose a layer of rank 2 to 4")
