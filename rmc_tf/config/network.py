"""Which rows, which networks, and how they are trained."""

import dataclasses
import pathlib
from typing import Literal

from rmc_tf.config.section import Section, require

Augmentation = Literal["none", "shift", "shift_flip"]
Denoising = Literal["none", "gaussian", "dot_product"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DatasetConfig(Section):
    """Which rows: any classification data set that TFDS knows or finds on disk."""

    _where = "dataset"

    name: str
    """TFDS name, such as "cifar10", "some/config" or "mnist:3.0.1"; "digits" is built in."""
    data_dir: str = ""
    """Where TFDS keeps its data sets; empty: TFDS' own default."""
    train_split: str = "train"
    test_split: str = "test"
    folder: str = ""
    """A folder of images in place of TFDS: in it one folder a split, and in that one a class, as
    in train/n01440764/x.JPEG (JPEG or PNG); classes are numbered by their sorted names."""
    image_size: int = 0
    """Side in pixels that images are resized to; 0 leaves them as they are."""
    resize_shorter: int = 0
    """What the shorter side of an image is resized to, before `image_size` × `image_size` is cut
    out of its middle; 0: the whole image is resized to that."""
    download: bool = True
    """Whether TFDS may fetch a data set that isn't on disk."""

    def __post_init__(self) -> None:
        self._require(bool(self.name), "name", "name a TFDS data set or digits")
        self._within("[0, ∞)", "image_size")
        rule = f"must be 0, or at least dataset.image_size={self.image_size}, and that above 0"
        fits = self.resize_shorter == 0 or self.resize_shorter >= self.image_size > 0
        self._require(fits, "resize_shorter", rule)


def check_model_file(path: str | pathlib.Path) -> None:
    """Refuses a `ModelConfig.path` where no file is.

    Raises:
      UserError: there is none.
    """
    there = pathlib.Path(path).is_file()
    require(there, "model.path", path, "no such file; save a model there")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig(Section):
    """Which network: one of ours, by name, or the user's own `.keras` file."""

    _where = "model"

    architecture: str = "resnet"
    """A name of `rmc_tf.networks.architectures`; unused where `path` is given."""
    blocks: int = 5
    """Residual blocks in each of the three stages: n in He et al. 2016, 6n + 2 layers."""
    filters: int = 16
    """Filters of the first stage (He et al. 2016, section 4.2). With fewer than 7, a ResNet that is
    trained on a processor without AVX-512 may crash: there a strided 1×1 convolution of
    TensorFlow 2.20 writes beyond its memory."""
    widen: tuple[int, ...] = (1, 1, 1)
    """By how much the filters of each stage are multiplied: (10, 10, 10) is a wide ResNet
    (Zagoruyko & Komodakis 2016; Madry et al. 2017)."""
    denoising: Denoising = "none"
    """Of a ResNet: whether a denoising block (Xie et al. 2019) follows each stage, and how it
    measures similarity: by the softmax of embedded features ("gaussian", the row DB of Table 2), or
    by the features' dot product."""
    weights: str = ""
    """Of a ResNet of keras.applications: "imagenet", those that Keras publishes; or a file of
    weights for it. Empty: random."""
    path: str = ""
    """A Keras model of the user's: images [B, H, W, C] in [0, 1] to logits [B, classes]."""
    feature_layer: str = "features"
    """The deep layer whose activations are searched; 4-D ones are averaged over space. Of a
    ResNet of keras.applications, "features" stands for conv_5_1 (section 4.1)."""

    def __post_init__(self) -> None:
        takes_weights = self.architecture not in ("resnet", "cnn") and not self.path
        rule = "only a ResNet of keras.applications takes weights; leave it empty"
        self._require(takes_weights or not self.weights, "weights", rule)
        has_stages = self.architecture != "cnn" and not self.path
        rule = "a cnn, or a model of the user's, has no stages to denoise; leave it out"
        self._require(has_stages or self.denoising == "none", "denoising", rule)
        self._within("[1, ∞)", "blocks", "filters")
        three = len(self.widen) == 3 and min(self.widen) >= 1
        self._require(three, "widen", "must be three whole numbers, each at least 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossConfig(Section):
    """What training minimises: the blocks of Table 1."""

    _where = "training.loss"

    kind: Literal["regular", "adversarial", "jacobian", "cross_lipschitz"] = "regular"
    """The cross entropy L alone; L on adversarial examples (Goodfellow et al. 2014, Madry et al.
    2017); L + λ·mean ‖J‖_F (Jakubovitz & Giryes 2018); or L + λΩ (Hein & Andriushchenko 2017)."""
    attack: str = ""
    """"adversarial": a name out of `attacks`, crafted against the network as it is."""
    starts_at_x: float = 0.0
    """"adversarial": the share of the batches in which an attack with a random start begins at x
    after all: 0.2 in Xie et al. 2019, section 5."""
    clean_share: float = 0.0
    """"adversarial": the weight of L on the clean batch. 0: Madry et al. 2017; 0.5: Goodfellow et
    al. 2014, section 6."""
    weight: float = 0.1
    """λ of the regularisers: 0.1 in Jakubovitz & Giryes 2018; 0.1 is also the default of Hein &
    Andriushchenko's code."""
    projections: int = 0
    """Into how many random directions the Jacobian is projected for an unbiased estimate of
    ‖J‖²_F (Hoffman et al. 2019); 0: exactly, by one backward pass a class."""
    ordinary_share: float = 0.0
    """The share of the epochs that train without the regulariser first. Jakubovitz & Giryes apply
    theirs as post-processing of a trained network."""

    def __post_init__(self) -> None:
        given, needed = bool(self.attack), self.kind == "adversarial"
        rule = "name one of `attacks`" if needed else f"{self.kind} training has none; leave it out"
        self._require(given == needed, "attack", rule)
        self._within("[0, 1)", "clean_share", "ordinary_share")
        self._within("[0, 1]", "starts_at_x")
        rule = f"{self.kind} training has no attack; leave it out"
        self._require(needed or not self.starts_at_x, "starts_at_x", rule)
        self._within("(0, ∞)", "weight")
        self._within("[0, ∞)", "projections")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingConfig(Section):
    """How θ* is found: minimise the loss over D with Adam (section 4, "Settings")."""

    _where = "training"

    epochs: int = 60
    """0: the network is taken as it is, for one whose weights are given (`model.weights`)."""
    batch_size: int = 128
    """He et al. 2016, section 4.2."""
    learning_rate: float = 1e-3
    """Adam's own default (Kingma & Ba 2014); decays to zero along a cosine."""
    augmentation: Augmentation = "none"
    """Random shifts by an eighth of the side, and mirror images, as in He et al. 2016."""
    loss: LossConfig = LossConfig()

    def __post_init__(self) -> None:
        self._within("[0, ∞)", "epochs")
        self._within("[1, ∞)", "batch_size")
        self._within("(0, 1)", "learning_rate")


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkConfig(Section):
    """A trained network besides the experiment's own: in what it differs from that one."""

    _where = "networks.*"

    loss: LossConfig = LossConfig()
    widen: tuple[int, ...] = (1, 1, 1)
    """As in `ModelConfig`."""
    number: int = 0
    """Another number: other initial weights and another order of the rows."""
    denoising: Denoising = "none"
    """As in `ModelConfig`."""
    epochs: int = 0
    """For how many it is trained, from random weights. 0: for as many as the experiment's own
    network, and from the same weights."""

    def __post_init__(self) -> None:
        self._within("[0, ∞)", "epochs", "number")
