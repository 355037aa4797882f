"""The denoising block (DB) of Xie et al. 2019 (CVPR), a row of Table 2.

  y_i = 1/C(x) Σ_j f(x_i, x_j) x_j       over all places j: non-local means (their equation 2)
  x + BN(W y)                            W a 1×1 convolution

  gaussian     f = exp(θ(x_i)·φ(x_j) / √d), C(x) = Σ_j f: softmax; θ and φ 1×1 convolutions
  dot_product  f = x_i·x_j, C(x) = the number of places; without weights of its own

Where their paper is silent, this is as their code: θ and φ have half of the channels, which is d,
no bias, and begin near zero; BN's γ begins at 0, so that the block begins as the identity.

The block is made of Keras' own layers, so that a `.keras` file with it opens without this package,
and each of its layers has a name: a name that Keras counts up would change a network's fingerprint.

Memory: gaussian keeps f for all pairs of places. 56 × 56 places, which is conv2 of an ImageNet
network, have 3136² pairs, 39 MB of float32 an image; softmax and the gradient hold several such.
"""

from typing import Literal

import keras

Operation = Literal["gaussian", "dot_product"]


def denoising_block(x: keras.KerasTensor, operation: Operation, name: str) -> keras.KerasTensor:
    """Returns features of the same shape, denoised.

    Args:
      x: [B, H, W, C]; H and W are known.
      operation: how the similarity of two places is measured.
      name: of the layer that gives the result; its parts are named after it.
    """
    height, width, channels = x.shape[1:]
    flat = keras.layers.Reshape((height * width, channels), name=f"{name}_places")(x)
    means = _gaussian(x, flat, name) if operation == "gaussian" else _dot_product(flat, name)
    y = keras.layers.Reshape((height, width, channels), name=f"{name}_means")(means)
    y = keras.layers.Conv2D(channels, 1, use_bias=False, name=f"{name}_conv")(y)
    normalised = keras.layers.BatchNormalization(  # momentum, ε: Tensorpack's, which they use
        momentum=0.9, epsilon=1e-5, gamma_initializer="zeros", name=f"{name}_bn"
    )
    return keras.layers.Add(name=name)([x, normalised(y)])


def _gaussian(x: keras.KerasTensor, flat: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """Returns the means [B, H·W, C] weighted by a softmax over all places."""
    places, channels = flat.shape[1:]
    d = max(1, channels // 2)
    embedded = []
    for embedding in ("theta", "phi"):
        near_zero = keras.initializers.RandomNormal(stddev=0.01)
        made = keras.layers.Conv2D(
            d, 1, use_bias=False, kernel_initializer=near_zero, name=f"{name}_{embedding}"
        )(x)
        embedded.append(keras.layers.Reshape((places, d), name=f"{name}_{embedding}_places")(made))
    theta, phi = embedded
    theta = keras.layers.Rescaling(d**-0.5, name=f"{name}_scaled")(theta)
    return keras.layers.Attention(name=f"{name}_softmax")([theta, flat, phi])


def _dot_product(flat: keras.KerasTensor, name: str) -> keras.KerasTensor:
    """Returns the means [B, H·W, C] weighted by x_i·x_j.

    Products of matrices may be taken in either order, (X Xᵀ) X = X (Xᵀ X): by places or, where
    these are more, by channels.
    """
    places, channels = flat.shape[1:]
    by_channels = channels < places
    axis = 1 if by_channels else 2
    products = keras.layers.Dot((axis, axis), name=f"{name}_products")([flat, flat])
    pair = [flat, products] if by_channels else [products, flat]
    sums = keras.layers.Dot((2, 1), name=f"{name}_sums")(pair)
    return keras.layers.Rescaling(1 / places, name=f"{name}_scaled")(sums)
