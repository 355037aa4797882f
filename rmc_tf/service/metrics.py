"""What Prometheus is told. A registry a service: two in one process don't share a number."""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from rmc_tf.service.answers import Answer
from rmc_tf.service.watch import Watch

_SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
"""Ours: two a decade, from the search in a small D' to a photo's adaptation on two cores."""
_STEPS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
_SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_DISTANCES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


class Metrics(Watch):
    """Counts what happens."""

    def __init__(self) -> None:
        """Begins at nothing."""
        own = self._registry = CollectorRegistry()
        text = "Requests by route and status."
        self._requests = Counter("rmc_requests", text, ["route", "status"], registry=own)
        text = "Requests that ended in an error of the service's own."
        self._errors = Counter("rmc_errors", text, registry=own)
        text = "Requests that weren't taken, by reason."
        self._refusals = Counter("rmc_refusals", text, ["reason"], registry=own)
        text = "Images answered: adapted, or why not."
        self._answers = Counter("rmc_answers", text, ["why"], registry=own)
        text = "Images that the defence refused to answer."
        self._unanswered = Counter("rmc_answers_refused", text, registry=own)
        self._queue = Gauge("rmc_queue_requests", "Requests that wait.", registry=own)
        text = "Seconds of each part of an answer, and of calibrations and writes."
        self._seconds = Histogram("rmc_seconds", text, ["part"], buckets=_SECONDS, registry=own)
        text = "Gradient steps of an adaptation."
        self._steps = Histogram("rmc_adaptation_steps", text, buckets=_STEPS, registry=own)
        text = "Share of adversarial rows in N'(x)."
        self._share = Histogram("rmc_adversarial_share", text, buckets=_SHARES, registry=own)
        text = "‖θ' − θ₀‖ at an answer."
        self._distance = Histogram("rmc_distance", text, buckets=_DISTANCES, registry=own)
        text = "‖θ' − θ₀‖ at the last answer."
        self._last_distance = Gauge("rmc_last_distance", text, registry=own)
        self._version = Gauge("rmc_state_version", "The last written state.", registry=own)
        self._frozen = Gauge("rmc_state_frozen", "1: the state stays as it is.", registry=own)
        text = "States that couldn't be written."
        self._failures = Counter("rmc_state_write_failures", text, registry=own)
        text = "Earlier states that came back, by reason."
        self._back = Counter("rmc_states_brought_back", text, ["reason"], registry=own)
        text = "Rows of D' by source: benign, or an attack."
        self._rows = Gauge("rmc_d_prime_rows", text, ["source"], registry=own)
        text = "Accuracy on the held-back rows, the last time that all were asked."
        self._canary = Gauge("rmc_canary_accuracy", text, registry=own)
        text = "Background steps of adversarial training, in all."
        self._cleansing = Gauge("rmc_cleansing_steps", text, registry=own)
        text = "Seconds that they and their checks took in this process."
        self._spent = Gauge("rmc_cleansing_seconds", text, registry=own)
        text = "Accuracy on the held-out rows of D at the last check, clean or attacked."
        self._checked = Gauge("rmc_cleansing_accuracy", text, ["rows"], registry=own)

    def text(self) -> bytes:
        """Returns all of it in Prometheus' text format."""
        return generate_latest(self._registry)

    def responded(self, route: str, status: int) -> None:
        """A request got its response."""
        self._requests.labels(route, str(status)).inc()
        if status >= 500 and status != 503:
            self._errors.inc()

    def refused(self, reason: str) -> None:
        """A request wasn't taken."""
        self._refusals.labels(reason).inc()

    def answered(self, answer: Answer) -> None:
        """See `Watch`."""
        self._answers.labels(answer.why).inc()
        self._unanswered.inc(answer.refused)
        for part, seconds in answer.seconds.items():
            self._seconds.labels(part).observe(seconds)
        if answer.adapted:
            self._steps.observe(answer.steps)
            self._share.observe(answer.adversarial_share or 0.0)
            self._distance.observe(answer.distance or 0.0)
            self._last_distance.set(answer.distance or 0.0)

    def waiting(self, requests: int) -> None:
        """See `Watch`."""
        self._queue.set(requests)

    def calibrated(self, seconds: float) -> None:
        """See `Watch`."""
        self._seconds.labels("calibration").observe(seconds)

    def wrote(self, version: int, seconds: float) -> None:
        """See `Watch`."""
        self._seconds.labels("write").observe(seconds)

    def write_failed(self) -> None:
        """See `Watch`."""
        self._failures.inc()

    def went_back(self, version: int, reason: str) -> None:
        """See `Watch`."""
        self._back.labels(reason).inc()

    def canary(self, accuracy: float) -> None:
        """See `Watch`."""
        self._canary.set(accuracy)

    def searched(self, rows: Mapping[str, int]) -> None:
        """See `Watch`."""
        self._rows.clear()
        for source, number in rows.items():
            self._rows.labels(source).set(number)

    def cleansed(self, steps: int, seconds: float, clean: float, robust: float) -> None:
        """See `Watch`."""
        self._cleansing.set(steps)
        self._spent.set(seconds)
        self._checked.labels("clean").set(clean)
        self._checked.labels("attacked").set(robust)

    def state(self, version: int, frozen: bool) -> None:
        """See `Watch`."""
        self._version.set(version)
        self._frozen.set(frozen)
