"""What the service needs besides, the extra `[serve]` of setup.py."""

import importlib.util

from rmc_tf.common.errors import UserError

_PACKAGES = ("fastapi", "uvicorn", "prometheus_client")


def need(what: str) -> None:
    """Says so where something isn't installed.

    Raises:
      UserError: a package is missing.
    """
    for package in _PACKAGES:
        if importlib.util.find_spec(package) is None:
            raise UserError(f"{what}: needs {package}; pip install 'rmc_tf[serve]'")
