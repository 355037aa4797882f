"""What a client is told instead of an answer: a status, and one line."""


class Refused(Exception):  # noqa: N818
    """A request that isn't answered.

    Attributes:
      status: of HTTP, 4xx; 503 where the service itself is the reason.
      line: what was wrong, and what mends it; what of it no UTF-8 can hold is escaped.
      retry_after: seconds after which it may be asked again; None: it is no use.
      allow: of a 405, the methods that there are.
    """

    def __init__(
        self, status: int, line: str, retry_after: float | None = None, allow: str = ""
    ) -> None:
        self.status, self.retry_after, self.allow = status, retry_after, allow
        self.line = " ".join(line.encode(errors="backslashreplace").decode().split())
        super().__init__(self.line)
