"""What the service needs besides: the extras `[serve]` and, for replicas, `[distributed]`."""

import importlib.util
import logging
import os
from typing import Any

from rmc_tf.common.errors import UserError, first_line

_PACKAGES = ("fastapi", "uvicorn", "prometheus_client")


def need(what: str) -> None:
    """Says so where something isn't installed.

    Raises:
      UserError: a package is missing.
    """
    for package in _PACKAGES:
        if importlib.util.find_spec(package) is None:
            raise UserError(f"{what}: needs {package}; pip install 'rmc_tf[serve]'")


def ray_serve(what: str) -> Any:
    """Returns `ray.serve`, which says no more than errors in this process.

    Raises:
      UserError: it isn't installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")  # or else of two replicas one is heard
    try:
        from ray import serve
    except ImportError as error:
        raise UserError(
            f"{what}: Ray Serve doesn't load ({first_line(error)}); install it by "
            "pip install 'rmc_tf[serve,distributed]', here and on each node"
        ) from None
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    return serve
