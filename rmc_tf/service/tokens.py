"""Who may use /admin: whoever has the token."""

import hmac
import os
import pathlib

from rmc_tf.common.errors import UserError
from rmc_tf.config import ServiceConfig
from rmc_tf.service.refused import Refused

VARIABLE = "RMC_TF_ADMIN_TOKEN"
_LEAST = 16
"""Characters. Ours: 64 random bits in hexadecimal, which nobody guesses over a network."""


def token_of(config: ServiceConfig) -> str:
    """Returns the token of a file or of the environment; "": there is none.

    Raises:
      UserError: the file can't be read, or the token is short.
    """
    source = f"--config.service.token_file={config.token_file}" if config.token_file else VARIABLE
    token = os.environ.get(VARIABLE, "")
    if config.token_file:
        try:
            lines = pathlib.Path(config.token_file).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            said = getattr(error, "strerror", None) or "no text"
            raise UserError(f"{source}: {said}; correct the path, or leave it out") from None
        token = lines[0].strip() if lines else ""
    return checked(token, source) if token or config.token_file else ""


def checked(token: str, source: str) -> str:
    """Returns a token that is long enough.

    Raises:
      UserError: it isn't.
    """
    if len(token) < _LEAST:
        raise UserError(
            f"{source}: a token of {len(token)} characters, expected {_LEAST} or more; make one by "
            "python -c 'import secrets; print(secrets.token_hex())'"
        )
    return token


def check(header: str | None, token: str) -> None:
    """Refuses a request whose header Authorization isn't that of the token, in constant time.

    Raises:
      Refused: it isn't.
    """
    kind, _, given = (header or "").partition(" ")
    same = hmac.compare_digest(given.strip().encode(), token.encode())
    if kind.lower() != "bearer" or not same:
        raise Refused(401, "Authorization: expected Bearer and the token of this service")
