"""Real data and a real, small, trained network, made once for all tests of a session.

Two variables of the environment show that no test hangs on how one processor rounds:

  RMC_TF_TEST_SEED     the session's networks and D' are made with this seed; by default with 0,
                       and the trained network then is the stored one, which 0 had made
  RMC_TF_TEST_THREADS  so many threads compute one operation, and as many operations run at
                       once; by default 1
"""

import atexit
import os
import pathlib
import resource
import shutil
import tempfile
from collections.abc import Callable, Iterator

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
if "PYTEST_XDIST_WORKER" not in os.environ:  # workers, and all that tests start, inherit it
    # AutoGraph's files and Ray's, which a process that is killed leaves behind, go with the
    # session; pytest's own folders stay where they always are.
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
    os.environ["TMPDIR"] = tempfile.tempdir = tempfile.mkdtemp(prefix="rmc_tf_")
    atexit.register(shutil.rmtree, tempfile.tempdir, ignore_errors=True)

import keras
import numpy as np
import psutil
import pytest
import tensorflow as tf

from rmc_tf.augmented_set import features, preparation, rows_on_disk
from rmc_tf.common import art_settings
from rmc_tf.common.traces import Traces
from rmc_tf.config import (
    AttackConfig,
    AugmentedSetConfig,
    DatasetConfig,
    IndexConfig,
    TrainingConfig,
)
from rmc_tf.data import datasets
from rmc_tf.data.images import to_float
from rmc_tf.networks.classifier import Classifier
from rmc_tf.search.index import FeatureIndex
from rmc_tf.training import loop

WEIGHTS = pathlib.Path(__file__).parent / "trained.npz"
"""Of the network below, in its order: trained here with seed 0, by NumPy's `savez`."""
SEED = int(os.environ.get("RMC_TF_TEST_SEED", "0"))
THREADS = int(os.environ.get("RMC_TF_TEST_THREADS", "1"))

art_settings.settle()  # or else, on a fresh machine, two workers import ART at once
tf.config.experimental.enable_op_determinism()  # as the program does, before any test
# Several tests run at once, and their images are small: more threads would wait for each other.
tf.config.threading.set_intra_op_parallelism_threads(THREADS)
tf.config.threading.set_inter_op_parallelism_threads(THREADS)
for kind in ("INTRAOP", "INTEROP"):  # of what tests start: the same arithmetic as here
    os.environ.setdefault(f"TF_NUM_{kind}_THREADS", str(THREADS))


@pytest.fixture(scope="session")
def bfloat16() -> None:
    """Skips a test where oneDNN is held to instructions that TensorFlow has no bfloat16 for."""
    try:
        ones = tf.ones([1, 6, 6, 2], tf.bfloat16)
        tf.nn.conv2d(ones, tf.ones([3, 3, 2, 3], tf.bfloat16), 1, "SAME")
    except tf.errors.AbortedError:
        pytest.skip(f"no bfloat16 by {os.environ.get('ONEDNN_MAX_CPU_ISA', 'this processor')}")


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Where TFDS keeps the tests' data sets."""
    return tmp_path_factory.mktemp("tensorflow_datasets")


@pytest.fixture(scope="session")
def digits(data_dir: pathlib.Path) -> datasets.Dataset:
    """The real 8×8 digits."""
    return datasets.load(DatasetConfig(name="digits", data_dir=str(data_dir)))


def _network(shape: tuple[int, int, int], mean: float, variance: float) -> keras.Model:
    """Three convolutions, as a user might have them: quick to trace, so that tests are quick."""
    images = keras.Input(shape, name="images")
    x = keras.layers.Normalization(mean=[mean], variance=[variance])(images)
    for name, filters, stride in (("conv_2_1", 16, 1), ("conv_3_1", 16, 2), ("conv_4_1", 32, 1)):
        x = keras.layers.Conv2D(filters, 3, stride, "same", use_bias=False)(x)
        x = keras.layers.BatchNormalization(momentum=0.9)(x)
        x = keras.layers.ReLU(name=name)(x)
    x = keras.layers.GlobalAveragePooling2D(name="features")(x)
    return keras.Model(images, keras.layers.Dense(10, name="logits")(x), name="of_the_users")


@pytest.fixture(scope="session")
def trained(
    digits: datasets.Dataset, tmp_path_factory: pytest.TempPathFactory
) -> tuple[pathlib.Path, str]:
    """A `.keras` file of a small network that knows most digits, and its feature layer.

    Its weights are stored: rounding would train it otherwise on another processor.
    """
    folder = tmp_path_factory.mktemp("trained")
    rows = digits.train.arrays()
    sample = to_float(rows.images)
    keras.utils.set_random_seed(SEED)
    classifier = Classifier(_network(digits.image_shape, sample.mean(), sample.var()))
    if SEED:
        loop.train(
            classifier,
            rows.images,
            rows.labels,
            TrainingConfig(epochs=15, batch_size=64, learning_rate=1e-2),
            seed=SEED,
            checkpoint=folder / "checkpoint.npz",
            traces=Traces(),
        )
    else:
        with np.load(WEIGHTS) as stored:
            classifier.model.set_weights([stored[name] for name in stored.files])
    path = folder / "digits.keras"
    classifier.save(path)
    return path, "features"


@pytest.fixture
def classifier(trained: tuple[pathlib.Path, str]) -> Classifier:
    """A fresh copy of the trained network: a test may change it."""
    return Classifier.load(*trained)


@pytest.fixture(scope="session")
def templates(digits: datasets.Dataset) -> Classifier:
    """A network that is computed and not trained: it answers the class of the nearest mean digit.

    Its logits are 4 · (c·x − c·c / 2) for the mean c of each class, so an attack on it meets the
    same planes on every processor. It knows nine digits of ten, most by a wide margin.
    """
    rows = digits.train.arrays()
    pixels = rows.images.reshape(len(rows.images), -1) / 255.0
    means = np.stack([pixels[rows.labels == label].mean(axis=0) for label in range(10)])
    layers = [keras.layers.Flatten(name="features"), keras.layers.Dense(10, name="logits")]
    model = keras.Sequential([keras.Input(digits.image_shape), *layers])
    model.layers[-1].set_weights([4 * means.T, -2 * (means**2).sum(axis=1)])
    return Classifier(model)


@pytest.fixture(scope="session")
def network() -> Classifier:
    """A small smooth network, untrained: it compiles quickly, and attacks on it are attacks."""
    keras.utils.set_random_seed(2 + SEED)
    layers = keras.layers
    stack = [layers.Conv2D(4, 3, activation="tanh"), layers.BatchNormalization()]
    head = [layers.Flatten(name="features"), layers.Dense(10)]
    return Classifier(keras.Sequential([keras.Input((8, 8, 1)), *stack, *head]))


@pytest.fixture(scope="session")
def test_rows(digits: datasets.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """64 digits that no network has seen, and their labels."""
    batch = next(digits.test.batches(64))
    return to_float(batch.images), batch.labels


@pytest.fixture(scope="session")
def pgd() -> AttackConfig:
    """An attack that the trained network doesn't withstand."""
    return AttackConfig(epsilon=0.15, step_size=0.0375, iterations=5)


@pytest.fixture(scope="session")
def d_prime(
    digits: datasets.Dataset,
    trained: tuple[pathlib.Path, str],
    pgd: AttackConfig,
    tmp_path_factory: pytest.TempPathFactory,
) -> rows_on_disk.AugmentedSet:
    """D ∪ |D| examples by PGD, in several shards."""
    return preparation.prepare(
        digits.train,
        Classifier.load(*trained),
        {"pgd": pgd},
        AugmentedSetConfig(attacks=("pgd",), adversarial_per_row=1.0, shard_rows=600),
        seed=SEED,
        folder=tmp_path_factory.mktemp("d_prime"),
    )


@pytest.fixture(scope="session")
def static(
    d_prime: rows_on_disk.AugmentedSet,
    trained: tuple[pathlib.Path, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> features.StaticFeatures:
    """Features and outputs of the rows of D'."""
    folder = tmp_path_factory.mktemp("features")
    return features.extract(Classifier.load(*trained), d_prime, folder)


@pytest.fixture(scope="session")
def index(static: features.StaticFeatures) -> FeatureIndex:
    """Exact search over D'."""
    return FeatureIndex(static.features, IndexConfig(), 64)


@pytest.fixture
def foreign_keras() -> Iterator[None]:
    """Gives Keras, for a test, other settings than its own: as by keras.json, or by a user."""
    keras.config.set_image_data_format("channels_first")
    keras.config.set_dtype_policy("mixed_float16")
    yield
    keras.config.set_image_data_format("channels_last")
    keras.config.set_dtype_policy("float32")


@pytest.fixture
def few_files() -> Iterator[Callable[[int], None]]:
    """Allows this process to have so many more files open than it has now, for a test."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)

    def allow(more: int) -> None:
        limit = psutil.Process().num_fds() + more
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, before[1]))

    yield allow
    resource.setrlimit(resource.RLIMIT_NOFILE, before)
