"""Seeds: every random draw of a run descends from the one seed of its config.

A consumer names itself, and gets a seed of its own that depends on nothing but
that name and the config's seed. So a stage that is resumed, skipped or run in
another order draws the same numbers.
"""

import hashlib

import numpy as np


def derive_seed(seed: int, *purpose: object) -> int:
    """Returns a seed in [0, 2**31) for a purpose, such as ("stream", "pgd")."""
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") % 2**31


def generator(seed: int, *purpose: object) -> np.random.Generator:
    """Returns a NumPy generator seeded for `purpose`."""
    return np.random.default_rng(derive_seed(seed, *purpose))
