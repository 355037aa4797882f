"""Makes feature vectors, as many and as wide as wanted, from those of the digits.

The real ones are those of a D' of the digits (`deployments`), by a trained network: 64
numbers for each image and each adversarial example.
"""

import pathlib

import numpy as np

from rmc_tf.common.seeding import generator

_NEIGHBOURS = 10
_NOISE = 0.05
"""As a share of the standard deviation."""
_AT_ONCE = 16_384


class EnlargedFeatures:
    """Rows between real ones: on the way from one to one of its ten nearest, with a little noise.

    If another width than the real one is wanted, they lose their mean, are multiplied by a random
    matrix, and get noise in each dimension and a ReLU, as the features of a residual network have.
    """

    def __init__(self, real: np.ndarray, dimensions: int) -> None:
        """Takes real features [n, d], and the width of those to be made."""
        self._real, self._dimensions = real.astype(np.float32), dimensions
        norms = np.einsum("ij,ij->i", self._real, self._real)
        squared = norms[:, None] + norms - 2 * self._real @ self._real.T
        np.fill_diagonal(squared, np.inf)
        some = min(_NEIGHBOURS, len(real) - 1)
        self._near = np.argpartition(squared, some - 1, axis=1)[:, :some]
        self._deviations = self._real.std(axis=0)
        random = generator(0, "projection", dimensions)
        shape = real.shape[1], dimensions
        self._matrix = random.standard_normal(shape, np.float32) / np.sqrt(np.float32(shape[0]))
        self._mean = self._real.mean(axis=0)
        self._scale = float(((self._real - self._mean) @ self._matrix).std())

    def write(self, path: pathlib.Path, rows: int) -> None:
        """Writes so many rows to a `.npy` file, [rows, dimensions] float32."""
        whole = np.lib.format.open_memmap(path, "w+", np.float32, (rows, self._dimensions))
        for begin in range(0, rows, _AT_ONCE):
            random = generator(0, "enlarged features", begin)
            count = min(_AT_ONCE, rows - begin)
            one = random.integers(0, len(self._real), count)
            other = self._near[one, random.integers(0, self._near.shape[1], count)]
            way = random.random((count, 1), np.float32)
            between = self._real[one] + way * (self._real[other] - self._real[one])
            whole[begin : begin + count] = self._made(between, random)
        whole.flush()

    def queries(self, features: np.ndarray) -> np.ndarray:
        """Returns features [n, d] of other images in the same form, moved a little."""
        return self._made(features.astype(np.float32), generator(0, "queries"))

    def _made(self, vectors: np.ndarray, random: np.random.Generator) -> np.ndarray:
        noise = random.standard_normal(vectors.shape, np.float32) * np.float32(_NOISE)
        moved = vectors + noise * self._deviations
        if self._dimensions == moved.shape[1]:
            return np.asarray(moved)
        wide = (moved - self._mean) @ self._matrix
        noise = random.standard_normal(wide.shape, np.float32) * np.float32(_NOISE * self._scale)
        return np.asarray(np.maximum(wide + noise, 0))
