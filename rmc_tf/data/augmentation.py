"""Train-time augmentation: shifted and mirrored copies of images (He et al. 2016, section 4.2)."""

import numpy as np

from rmc_tf.config import Augmentation


def augment(images: np.ndarray, kind: Augmentation, random: np.random.Generator) -> np.ndarray:
    """Returns images of the same shape, each shifted, and perhaps mirrored, at random.

    Args:
      images: [B, H, W, C].
      kind: "shift" moves by up to an eighth of the side (4 of 32 pixels), filling with 0;
        "shift_flip" also mirrors left and right with probability one half.
      random: what is drawn from.
    """
    if kind == "none":
        return images
    batch, height, width, _ = images.shape
    most = max(1, height // 8)
    padded = np.pad(images, ((0, 0), (most, most), (most, most), (0, 0)))
    down, right = random.integers(0, 2 * most + 1, (2, batch, 1))
    rows, columns = down + np.arange(height), right + np.arange(width)
    if kind == "shift_flip":
        mirrored = random.random(batch) < 0.5
        columns[mirrored] = columns[mirrored][:, ::-1]
    chosen = np.arange(batch)[:, None, None], rows[:, :, None], columns[:, None, :]
    return np.asarray(padded[chosen])
