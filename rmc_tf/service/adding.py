"""`--mode=add_attack`: has a running service learn an attack, and waits until it is searched."""

import time
from collections.abc import Callable

from rmc_tf.common.errors import UserError, did_you_mean
from rmc_tf.common.progress import progress
from rmc_tf.config import ExperimentConfig
from rmc_tf.service import tokens
from rmc_tf.service.client import Client

_EVERY = 0.5
"""Seconds after which the service is asked how far it is. Ours."""


def add(
    url: str, name: str, rows: int | None, config: ExperimentConfig, say: Callable[[str], object]
) -> None:
    """Adds the attack model of that name to what is served at an address.

    Its settings are those of the config; the token is that of `service.token_file` or of the
    environment. Who stops waiting stops nothing: the service goes on.

    Raises:
      UserError: no such attack model, no token, or the service refuses or fails.
    """
    if not url:
        raise UserError("--url=: whose D' is it to be added to? Give it as http://127.0.0.1:8501")
    if name not in config.attacks:
        hint = did_you_mean(name, config.attacks)
        raise UserError(f"--attack={name}: no attack model of the config; {hint}")
    token = tokens.token_of(config.service)
    if not token:
        raise UserError(
            f"{tokens.VARIABLE}: not set; give the service's token there, or in a file by "
            "--config.service.token_file"
        )
    client = Client(url, name=config.service.name, token=token)
    wanted = int(client.add_attack(name, config.attacks[name], rows)["rows"])
    with progress(f"examples by {name}", wanted, 0, "image") as advance:
        made = 0
        while True:
            own = next(each for each in client.attacks() if each["name"] == name)
            now = wanted if own["state"] == "searched" else int(own.get("made", 0))
            advance(now - made)
            made = now
            if own["state"] not in ("waiting", "crafting"):
                break
            time.sleep(_EVERY)
    if own["state"] != "searched":
        raise UserError(f"{name}: {own['state']}: {own.get('error', 'called off')}")
    say(f"add_attack: {wanted:,} examples by {name} are searched, after {own['seconds']:.1f} s")
