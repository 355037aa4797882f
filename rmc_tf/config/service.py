"""The live service: how much it takes at once, how long it waits, when its state is kept.

All numbers are ours, for one machine and one network; the paper has no service.
"""

import dataclasses
from typing import Literal, get_args

from rmc_tf.config.section import Section

Served = Literal[
    "rmc",
    "rmc_plus",
    "cleansing",
    "cleansing_rmc",
    "refusing",
    "refusing_rmc",
    "refusing_cleansing",
    "refusing_ensemble",
    "private",
    "private_rmc",
    "ensemble",
    "smoothed",
]
"""The defences that a bundle can hold."""
SERVED: tuple[Served, ...] = get_args(Served)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServiceConfig(Section):
    """What `--mode=bundle` writes, and what `--mode=serve` does with it."""

    _where = "service"

    defence: Served = "rmc"
    """Whose bundle is written and served."""
    name: str = "rmc"
    """NAME in /v1/models/NAME and /v2/models/NAME."""
    host: str = "127.0.0.1"
    """Which address is listened on: loopback alone, since whoever can ask also moves the weights.
    Another is a decision, and is said in a line when the service begins."""
    port: int = 8501
    """That of TensorFlow Serving's REST, which clients expect. 0: a free one, which is said."""
    replicas: int = 1
    """How many processes of one bundle answer side by side, by Ray Serve, each with weights and
    states of its own (docs/serving.md says what that means). 1: this process, without Ray."""
    queue: int = 64
    """Requests that may wait; one more gets 429. At half a second each, who is last waits as long
    as the deadline."""
    deadline_ms: int = 30_000
    """How long a request waits for an adapted answer, unless it says otherwise (X-Deadline-Ms):
    half of the minute after which most clients and proxies give up."""
    reserve_ms: int = 50
    """So long before its deadline a request is answered without adaptation: what one pass through
    the network, and the way back, take with room to spare."""
    max_body_bytes: int = 32 * 2**20
    """Of one request: as JSON some ten 224×224 photos, in binary some fifty. To parse as much takes
    about a second."""
    max_instances: int = 64
    """Images of one request. An image is an adaptation, and others wait for all of a request."""
    body_seconds: float = 10.0
    """How long the body of a request may take to arrive: 32 MiB by 25 Mbit/s."""
    save_answers: int = 50
    """The state is written after so many answers: what a kill costs at most, beside the next."""
    save_seconds: float = 30.0
    """And so long after the first answer since the last write."""
    versions_kept: int = 5
    """How many written states stay, for a rollback; with Adam's moments each is three times the
    weights. The last good one stays in any case."""
    states: str = ""
    """The folder of the written states. Empty: beside the bundle, with -states after its name. On
    Ray Serve each replica has one of its own in it: replica-0, replica-1, …"""
    trust: float = 1.0
    """The most that ‖θ − θ₀‖ may be, as a share of ‖θ₀‖, before the last good state comes back:
    further from the trained weights than these are from nothing, it is another network. A net
    below `rmc.trust_radius`, which holds each fit back. 0: no bound."""
    canary_rows: int = 20
    """How many rows of the test set, which the evaluation doesn't ask, are held back in the bundle
    and asked while nobody waits. Each is an adaptation: twenty take some ten seconds. 0: none."""
    canary_bar: float = 0.8
    """Below this share of what the bare network knows of them, the last good state comes back. Of
    twenty rows that is four lost, which chance takes from a defence that loses 3 % once in 300
    times."""
    canary_answers: int = 100
    """After so many answers the canary is asked again: a fifth of the work, all of it idle time."""
    cleansing_slice_ms: int = 100
    """Where the defence is trained in the background: about how long it then computes at a time,
    at least one step. A query that comes meanwhile waits for the rest of it."""
    cleansing_share: float = 1.0
    """The share of the idle time that this takes, to leave a machine something. 1: all of it."""
    drain_seconds: float = 20.0
    """How long, after SIGTERM, waiting requests are still adapted to; then they are answered
    without. With the write of the state that is less than the 30 s after which Kubernetes kills."""
    page: bool = True
    """Whether there is a page at /, by which a visitor asks, and attacks the static network: one
    attack at a time, and none that moves a weight."""
    token_file: str = ""
    """A file whose first line is the token for /admin. Empty: RMC_TF_ADMIN_TOKEN of the
    environment; without either there is no /admin."""

    def __post_init__(self) -> None:
        self._from_home("states", "token_file")
        self._require(bool(self.host), "host", "must be an address, such as 127.0.0.1")
        plain = self.name.replace("-", "").replace("_", "").replace(".", "")
        rule = "must be letters, digits, -, _ and ., since it is part of an address"
        self._require(plain.isascii() and plain.isalnum(), "name", rule)
        self._require(0 <= self.port <= 65_535, "port", "must be in [0, 65535]")
        counts = (
            "queue",
            "replicas",
            "max_instances",
            "save_answers",
            "versions_kept",
            "canary_answers",
            "cleansing_slice_ms",
        )
        self._within("[1, ∞)", *counts, "max_body_bytes", "deadline_ms")
        self._within("(0, ∞)", "body_seconds", "save_seconds")
        self._within("[0, ∞)", "trust", "canary_rows", "drain_seconds", "reserve_ms")
        self._within("(0, 1]", "canary_bar", "cleansing_share")
