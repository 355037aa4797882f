"""Asks a running service. Needs Python and NumPy alone; TensorFlow isn't loaded."""

import contextlib
import http.client
import json
import urllib.parse
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from rmc_tf.common.errors import UserError
from rmc_tf.config import AttackConfig
from rmc_tf.service.answers import Answer


class NotAnswered(UserError):  # noqa: N818 - often no error: it says when to ask again
    """The service didn't answer, and said why.

    Attributes:
      status: of HTTP; 0: nobody was there, or the answer didn't come.
      retry_after: seconds after which it is worth asking again; None: it didn't say.
    """

    def __init__(self, message: str, status: int = 0, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status, self.retry_after = status, retry_after


class Client:
    """A service at one address.

    Each request has a connection of its own, so threads may share a client, and nothing is ever
    sent twice: a query that is sent again would move the weights again.

    Attributes:
      url: of the service, without a slash at its end.
    """

    def __init__(
        self,
        url: str,
        *,
        name: str = "rmc",
        token: str = "",
        timeout: float = 60.0,
        replica: int | None = None,
    ) -> None:
        """Connects to nothing yet.

        Args:
          url: such as http://127.0.0.1:8501.
          name: of the model, `service.name` there.
          token: for what operators may do; "": none.
          timeout: seconds until a service that says nothing is given up.
          replica: of several (`service.replicas`), the one that an operator asks.

        Raises:
          UserError: that is no address.
        """
        self.url = url.rstrip("/")
        parts = urllib.parse.urlsplit(self.url)
        kinds = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
        try:
            address = parts.hostname, parts.port
        except ValueError:  # of a port that is none
            address = None, None
        if parts.scheme not in kinds or not address[0]:
            raise UserError(f"{url}: no address of a service; give one as http://127.0.0.1:8501")
        self._kind, self._host, self._port = kinds[parts.scheme], address[0], address[1]
        self._prefix, self._name, self._timeout = parts.path, name, timeout
        self._headers = {"Content-Type": "application/json"}
        self._token = {"Authorization": f"Bearer {token.strip()}"} if token else {}
        self._replica = "" if replica is None else f"?replica={replica}"

    def predict(
        self, image: np.ndarray, *, deadline_ms: float | None = None, neighbours: bool = False
    ) -> Answer:
        """Returns the answer to one image, [H, W, C] float32 in [0, 1]; see `predict_many`."""
        given = np.asarray(image)[None]
        return self.predict_many(given, deadline_ms=deadline_ms, neighbours=neighbours)[0]

    def predict_many(
        self,
        images: np.ndarray | Sequence[np.ndarray],
        *,
        deadline_ms: float | None = None,
        neighbours: bool = False,
    ) -> list[Answer]:
        """Returns the answers to images [n, H, W, C] float32 in [0, 1], in order, as one request.

        The probabilities are to the bit those that the service has. An answer's `why` says whether
        the defence gave it.

        Args:
          images: as many as `service.max_instances` at most.
          deadline_ms: after which the primed network answers; None: as the service has it.
          neighbours: whether the rows of D' are asked for, too.

        Raises:
          NotAnswered: the service refuses, or isn't there.
        """
        given = np.asarray(images, np.float32).tolist()
        headers = {} if deadline_ms is None else {"X-Deadline-Ms": f"{deadline_ms:g}"}
        path = f"/v1/models/{self._name}:predict"
        sent = {"instances": given, "neighbours": neighbours}
        return [_answer(row) for row in self._ask("POST", path, sent, headers)["predictions"]]

    def ready(self) -> bool:
        """Returns whether the service is there and takes requests."""
        try:
            return bool(self._ask("GET", "/v2/health/ready")["ready"])
        except NotAnswered:
            return False

    def metrics(self) -> str:
        """Returns what Prometheus is told, as text.

        Raises:
          NotAnswered: as for `predict_many`.
        """
        return self._exchange("GET", "/metrics", None, {}).decode()

    def status(self) -> dict[str, Any]:
        """Returns the state's number, what waits, and what the bundle is; it needs the token.

        Raises:
          NotAnswered: as for `predict_many`; or the token isn't the service's.
        """
        return self._operate("GET", "/admin/status")

    def replicas(self) -> list[int]:
        """Returns the numbers of the replicas that answer there; none: it is one service.

        Each has a state and a D' of its own, and is asked by a `Client(…, replica=number)`.

        Raises:
          NotAnswered: as for `status`.
        """
        found = self._ask("GET", f"/admin/status{self._replica}", headers=self._token)
        return [int(number) for number in found.get("replicas", {})]

    def freeze(self, frozen: bool = True) -> dict[str, Any]:
        """Has the state stay as it is, or go on; returns the status. It needs the token.

        While it is frozen, each query is adapted to from the same state.

        Raises:
          NotAnswered: as for `status`.
        """
        return self._operate("POST", "/admin/freeze", {"frozen": frozen})

    @contextlib.contextmanager
    def frozen(self) -> Iterator[int]:
        """Has the state stay as it is while a block runs; yields its number.

        Raises:
          NotAnswered: as for `status`.
        """
        version = int(self.freeze()["state_version"])
        try:
            yield version
        finally:
            self.freeze(False)

    def rollback(self, version: int | None = None) -> dict[str, Any]:
        """Brings a written state back, None: the last good one; returns the status.

        It needs the token.

        Raises:
          NotAnswered: as for `status`; or there is no such state.
        """
        sent = {} if version is None else {"version": version}
        return self._operate("POST", "/admin/rollback", sent)

    def attacks(self) -> list[dict[str, Any]]:
        """Returns the attacks that D' has examples of, and those that are being added or taken out.

        Of each its name, its state ("searched", "waiting", "crafting", "removed", "cancelled" or
        "failed") and its rows; it needs the token.

        Raises:
          NotAnswered: as for `status`.
        """
        return list(self._operate("GET", "/admin/attacks")["attacks"])

    def add_attack(
        self, name: str, attack: AttackConfig, rows: int | None = None
    ) -> dict[str, Any]:
        """Has so many examples of an attack added to D', None: as many as D has rows.

        It returns at once, what `attacks` says of it; queries go on meanwhile. It needs the token.

        Raises:
          NotAnswered: as for `status`; or the name is taken, or there is no such attack.
        """
        sent = {"name": name, "attack": attack.to_dict(), "rows": rows}
        return self._operate("POST", "/admin/attacks", sent)

    def remove_attack(self, name: str) -> dict[str, Any]:
        """Has the examples of an attack taken out of D'; returns at once. It needs the token.

        Raises:
          NotAnswered: as for `status`; or there is no such attack.
        """
        path = f"/admin/attacks/{urllib.parse.quote(name, safe='')}"
        return self._operate("DELETE", path)

    def _operate(
        self, method: str, path: str, sent: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Does what needs the token, of one service."""
        found = self._ask(method, path + self._replica, sent, self._token)
        if "replicas" in found:
            numbers = ", ".join(found["replicas"])
            raise NotAnswered(
                f"{self.url}{path}: done by replicas {numbers}; to hear of one of them, make a "
                "Client(…, replica=0)"
            )
        return found

    def _ask(
        self,
        method: str,
        path: str,
        sent: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> dict[str, Any]:
        body = None if sent is None else json.dumps(sent).encode()
        content = self._exchange(method, path, body, headers or {})
        try:
            found = json.loads(content)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise NotAnswered(f"{self.url}{path}: no JSON; is it a service of rmc_tf?")
        return found

    def _exchange(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str]
    ) -> bytes:
        where = f"{self.url}{path}"
        connection = self._kind(self._host, self._port, timeout=self._timeout)
        try:
            connection.request(method, self._prefix + path, body, self._headers | headers)
            response = connection.getresponse()
            content: bytes = response.read()
        except (OSError, http.client.HTTPException, ValueError) as error:
            said = getattr(error, "strerror", None) or type(error).__name__
            raise NotAnswered(f"{where}: {said}; is the service running there?") from None
        finally:
            connection.close()
        if response.status in (200, 202):
            return content
        after = response.getheader("Retry-After")
        seconds = float(after) if after and after.isdecimal() else None
        told = _told(content)
        if response.status == 404 and path.startswith("/admin"):
            told += "; start the service with a token"
        raise NotAnswered(f"{where}: {told}", response.status, seconds)


def _told(content: bytes) -> str:
    """Returns the line of an error."""
    try:
        return str(json.loads(content)["error"])
    except (ValueError, KeyError, TypeError):
        return content[:200].decode(errors="replace") or "refused without a word"


def _answer(row: dict[str, Any]) -> Answer:
    return Answer(
        row["label"],
        np.array(row["probabilities"], np.float32),
        row["why"],
        row["state_version"],
        row["seconds"],
        neighbours=np.array(row.get("neighbours", ()), np.int64),
        radius=row.get("radius"),
    )
