"""`--mode=add_attack`: has a running service learn an attack, and waits until it is searched."""

import time
from collections.abc import Callable, Mapping

from rmc_tf.common.errors import UserError, did_you_mean
from rmc_tf.common.progress import progress
from rmc_tf.config import AttackConfig, ExperimentConfig, shipped
from rmc_tf.service import tokens
from rmc_tf.service.client import Client

_EVERY = 0.5
"""Seconds after which the service is asked how far it is. Ours."""


def add(
    url: str, name: str, rows: int | None, config: ExperimentConfig, say: Callable[[str], object]
) -> None:
    """Adds the attack model of that name to what is served at an address.

    Its settings are those of the config, or else of Table 1; the token is that of
    `service.token_file` or of the environment. Who stops waiting stops nothing: the service goes
    on, and the same command waits on. Several replicas have it added one after another.

    Raises:
      UserError: no such attack model, no token, or the service refuses or fails.
    """
    if not url:
        raise UserError("--url=: whose D' is it to be added to? Give it as http://127.0.0.1:8501")
    known = _known(config)
    if name not in known:
        hint = did_you_mean(name, known)
        raise UserError(f"--attack={name}: no attack model of the config or of Table 1; {hint}")
    token = tokens.token_of(config.service)
    if not token:
        raise UserError(
            f"{tokens.VARIABLE}: not set; give the service's token there, or in a file by "
            "--config.service.token_file"
        )
    client = Client(url, name=config.service.name, token=token)
    numbers: list[int | None] = [*client.replicas()] or [None]
    for number in numbers:
        own = Client(url, name=config.service.name, token=token, replica=number)
        of = "" if number is None else f" of replica {number}"
        if not _is_being_added(own, name):
            own.add_attack(name, known[name], rows)
        seconds, made = _wait(own, name, of)
        say(f"add_attack: {made:,} examples by {name}{of} are searched, after {seconds:.1f} s")


def _is_being_added(client: Client, name: str) -> bool:
    """Says whether an earlier request for it is still at work."""
    states = {each["state"] for each in client.attacks() if each["name"] == name}
    return bool(states & {"waiting", "crafting"})


def _wait(client: Client, name: str, of: str) -> tuple[float, int]:
    """Waits until an attack is searched; returns after how many seconds, and its rows."""
    (first,) = (each for each in client.attacks() if each["name"] == name)
    wanted, made = int(first["rows"]), 0
    with progress(f"examples by {name}{of}", wanted, 0, "image") as advance:
        while True:
            (own,) = (each for each in client.attacks() if each["name"] == name)
            now = wanted if own["state"] == "searched" else int(own.get("made", 0))
            advance(now - made)
            made = now
            if own["state"] not in ("waiting", "crafting"):
                break
            time.sleep(_EVERY)
    if own["state"] != "searched":
        raise UserError(f"{name}{of}: {own['state']}: {own.get('error', 'called off')}")
    return float(own.get("seconds", 0.0)), wanted


def _known(config: ExperimentConfig) -> Mapping[str, AttackConfig]:
    """Returns the attack models of a config, and those of Table 1 on its data set."""
    try:
        return {**shipped.made_of("table1", config).attacks, **config.attacks}
    except UserError:  # the table needs attacks that the config doesn't have
        return config.attacks
