"""Which rows, which networks, and how they are trained."""

import dataclasses
import pathlib
import zipfile
from typing import Literal

from rmc_tf.common.errors import UserError
from rmc_tf.common.paths import expanded
from rmc_tf.config.section import Section

Augmentation = Literal["none", "shift", "shift_flip"]
ReadLike = Literal["viewer", "keras"]
Denoising = Literal["none", "gaussian", "dot_product"]
Pixels = Literal["0..1", "0..255", "-1..1", "caffe", "torch"]
Channels = Literal["same", "repeat", "luminance"]
Check = Literal["refuse", "warn"]
FEATURES = "features"
"""What the feature layer of our own networks is called."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DatasetConfig(Section):
    """Which rows: any classification data set that TFDS knows or finds on disk."""

    _where = "dataset"

    name: str = ""
    """TFDS name, such as "cifar10", "some/config" or "mnist:3.0.1"; "digits" is built in. A folder
    needs none."""
    data_dir: str = ""
    """Where TFDS keeps its data sets; empty: TFDS' own default."""
    train_split: str = "train"
    test_split: str = "test"
    folder: str = ""
    """A folder of images in place of TFDS: in it one folder a split, and in that one a class, as
    in train/n01440764/x.JPEG."""
    read_like: ReadLike = "viewer"
    """How a folder is read. "viewer": as one sees it: classes 0 to 11 in the order of their
    numbers, others in that of the alphabet; images turned by their EXIF tag, on white where they
    are transparent, made smaller with antialiasing. "keras": as
    `keras.utils.image_dataset_from_directory` has it by default: classes in the order of text (0,
    1, 10, 11, 2), none of the rest, and only the five formats that it knows."""
    classes: tuple[str, ...] = ()
    """The folders of the classes in the order that labels have, for a network that has another; one
    without images keeps its label. Empty: all that there are, in the order above."""
    image_size: int = 0
    """Side in pixels that images are resized to; 0 leaves them as they are."""
    resize_shorter: int = 0
    """What the shorter side of an image is resized to, before `image_size` × `image_size` is cut
    out of its middle; 0: the whole image is resized to that."""
    download: bool = True
    """Whether TFDS may fetch a data set that isn't on disk."""

    def __post_init__(self) -> None:
        self._from_home("data_dir", "folder")
        named = bool(self.name or self.folder)
        self._require(named, "name", "name a TFDS data set, or digits, or a folder")
        self._within("[0, ∞)", "image_size")
        self._require(bool(self.folder) or not self.classes, "classes", "only of dataset.folder")
        once = len(set(self.classes)) == len(self.classes) != 1
        rule = "name two or more, and each once, as in ('cat', 'dog')"
        self._require(once, "classes", rule)
        rule = f"must be 0, or at least dataset.image_size={self.image_size}, and that above 0"
        fits = self.resize_shorter == 0 or self.resize_shorter >= self.image_size > 0
        self._require(fits, "resize_shorter", rule)

    @property
    def called(self) -> str:
        """What reports call it."""
        if not self.folder:
            return self.name
        return pathlib.Path(self.folder).expanduser().resolve().name


def check_model_file(path: str | pathlib.Path, source: str) -> None:
    """Refuses a `ModelConfig.path` where no Keras model is, as far as its first bytes tell.

    Raises:
      UserError: there is none; the line begins with `source`, which names the path.
    """
    file = pathlib.Path(expanded(path))
    try:
        wrong = _folder(file) if file.is_dir() else _file(file)
    except OSError as error:
        wrong = f"{error.strerror}; choose another file"
    if wrong:
        raise UserError(f"{source}: {wrong}")


def _folder(folder: pathlib.Path) -> str:
    """Returns why a folder is no Keras model, or ""."""
    if (folder / "config.json").is_file():  # as Keras saves a model that isn't zipped
        return ""
    if (folder / "saved_model.pb").is_file():
        return (
            "a SavedModel, which has no layers to adapt or to search; save the Keras model that it "
            "was made of by model.save('NAME.keras')"
        )
    inside = [file.name for file in sorted(folder.glob("*")) if file.suffix in (".keras", ".h5")]
    return f"a folder, not a file; name the model in it ({', '.join(inside[:5]) or 'it has none'})"


def _file(file: pathlib.Path) -> str:
    """Returns why a file is no Keras model, or ""."""
    if not file.is_file():
        return "no such file; save a model there"
    with file.open("rb") as stored:
        begin = stored.read(32)
    if begin.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS, not the model; fetch that by git lfs pull"
    if begin.startswith(b"\x89HDF\r\n\x1a\n"):
        fits = file.suffix in (".h5", ".hdf5")
        return "" if fits else f"an HDF5 file; call it {file.stem}.h5"
    if begin.startswith(b"PK") and not zipfile.is_zipfile(file):
        return "not a Keras model that loads: it ends too early; copy or save it again"
    if not begin.startswith(b"PK"):
        return "not a Keras model (.keras, .h5); save it by model.save('NAME.keras')"
    with zipfile.ZipFile(file) as archive:
        if "config.json" not in archive.namelist():
            return "a zip file, but not a Keras model; save that by model.save('NAME.keras')"
    return "" if file.suffix == ".keras" else f"a Keras model; call it {file.stem}.keras"


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
    """A Keras model of the user's: images [B, H, W, C] to logits [B, classes]."""
    pixels: Pixels = "0..1"
    """Of `path`: the range of the pixels that it was trained on. "caffe" and "torch" are those that
    Keras' `preprocess_input` calls so: BGR less ImageNet's mean, and standardised RGB. Our images
    stay in [0, 1]; a layer before the model converts them."""
    channels: Channels = "same"
    """Of `path`: "repeat" for a model of RGB images on grey ones, "luminance" for one of grey
    images on RGB (ITU-R BT.601)."""
    check: Check = "refuse"
    """Of `path` or `weights`: whether a network is refused that knows no more of the data than
    guessing does, or far more with its classes in another order; or it is a line of the report."""
    imports: tuple[str, ...] = ()
    """Of a user's model: modules, or `.py` files, that define layers or functions of its own; they
    are imported before it is loaded. --import stands for it."""
    unsafe_deserialization: bool = False
    """Of a user's model: whether code that is in its file may run, as that of Lambda layers does
    (`keras.config.enable_unsafe_deserialization`)."""
    feature_layer: str = FEATURES
    """The deep layer whose activations are searched; 4-D ones are averaged over space. "features":
    of a user's model that has no layer of that name, the deepest below its logits. Of a
    ResNet of keras.applications, "features" stands for conv_5_1 (section 4.1)."""

    def __post_init__(self) -> None:
        self._from_home("path", "weights")
        takes_weights = self.architecture not in ("resnet", "cnn") and not self.path
        rule = "only a ResNet of keras.applications takes weights; leave it empty"
        self._require(takes_weights or not self.weights, "weights", rule)
        has_stages = self.architecture != "cnn" and not self.path
        rule = "a cnn, or a model of the user's, has no stages to denoise; leave it out"
        self._require(has_stages or self.denoising == "none", "denoising", rule)
        rule = "only a model of the user's (model.path) needs it; leave it out"
        self._require(bool(self.path) or self.pixels == "0..1", "pixels", rule)
        self._require(bool(self.path) or self.channels == "same", "channels", rule)
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
