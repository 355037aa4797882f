"""Paths as users write them."""

import os
import pathlib


def expanded(path: str | pathlib.Path) -> str:
    """Returns a path whose ~ at the beginning is the user's folder: no shell expands it after =.

    Where ~NAME is no user, the path stays as it is.
    """
    return os.path.expanduser(path)  # noqa: PTH111 (that of pathlib raises, and has no "")
