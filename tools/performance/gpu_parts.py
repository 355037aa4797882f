"""The parts of tools/benchmark_gpu.py: what each runs, and the lines of the table that come of it.

No TensorFlow: what computes is run in processes of their own, by `Run`.
"""

import dataclasses
import pathlib
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rmc_tf.config import (
    CalibrationConfig,
    EarlyStopConfig,
    HardwareConfig,
    ModelConfig,
    RMCConfig,
)
from tools.performance.measuring import Target

Run = Callable[[str, Mapping[str, Any]], dict[str, Any]]
"""(the name of a task of `gpu_tasks`, its fields) to what it returns. Raises a `UserError`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
    """One line of the table."""

    part: str
    """A name of `PARTS`."""
    what: str
    unit: str
    """Empty: a ratio."""
    values: Sequence[float]
    """One a repeat."""
    before: str = ""
    """What it was when these bars were set, on an H100 with 80 GB: shared by whoever set them."""
    bar: Target | None = None
    """What the median has to be; None: nothing, it is only shown."""

    def to_json(self) -> dict[str, Any]:
        """Returns the line with its median and spread."""
        spread = (statistics.median(self.values), min(self.values), max(self.values))
        return vars(self) | dict(zip(("median", "least", "most"), spread, strict=True))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Network:
    """A deployment with random weights and rows."""

    title: str
    model: ModelConfig
    side: int
    classes: int
    rows: int
    """N'."""
    rmc: RMCConfig
    mixed_micro_batch: int = 0
    """In the place of `rmc.micro_batch` where bfloat16 leaves the room."""

    def made_of(self, folder: pathlib.Path) -> dict[str, Any]:
        """Returns the fields of `Making`."""
        sizes = {"side": self.side, "classes": self.classes, "rows": self.rows}
        return {"folder": str(folder), "model": self.model.to_dict(), **sizes}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much is measured; the defaults are what the bars are for."""

    small: Network
    large: Network
    product: int = 8192
    """Rows of the matrices whose product is the arithmetic's rate."""
    attacked: int = 1000
    iterations: int = 40
    digits_epochs: int = 0
    """As the next, as in `Streaming`."""
    digits_k: int = 0
    points: int = 20
    repeats: int = 7


def _rmc(k: int, batch: int, epochs: int, micro_batch: int = 0) -> RMCConfig:
    stop = EarlyStopConfig(max_epochs=epochs)
    return RMCConfig(
        k=k,
        batch_size=batch,
        micro_batch=micro_batch,
        early_stop=stop,
        calibration=CalibrationConfig(early_stop=stop),
        primed_rows=0,
    )


def whole() -> Sizes:
    """Returns the sizes that the bars are for."""
    return Sizes(
        small=Network(
            title="ResNet-32, K = 1,024, B = 128",
            model=ModelConfig(),
            side=32,
            classes=10,
            rows=7000,
            rmc=_rmc(1024, 128, epochs=2),
        ),
        large=Network(
            title="ResNet-152, 224 px, K = 2,048, B = 1,024",
            model=ModelConfig(architecture="resnet152"),
            side=224,
            classes=1000,
            rows=2560,
            rmc=_rmc(2048, 1024, epochs=1, micro_batch=128),
            mixed_micro_batch=256,
        ),
    )


def toy() -> Sizes:
    """Returns sizes that say nothing, to try the tool itself on a CPU."""
    tiny = ModelConfig(architecture="cnn", filters=4)
    small = Network(title="toy", model=tiny, side=8, classes=3, rows=80, rmc=_rmc(40, 8, 2))
    large = dataclasses.replace(small, title="large toy", rmc=_rmc(40, 16, 1, micro_batch=8))
    return Sizes(
        small=small,
        large=large,
        product=128,
        attacked=12,
        iterations=3,
        digits_epochs=1,
        digits_k=64,
        points=2,
        repeats=2,
    )


class Measuring:
    """Runs the parts, and remembers what a later one needs of an earlier."""

    def __init__(
        self, run: Run, folder: pathlib.Path, sizes: Sizes, hardware: HardwareConfig
    ) -> None:
        """Takes who runs tasks, a folder for files, and how a run would be set."""
        self._run, self._folder, self._sizes = run, folder, sizes
        self._hardware = hardware
        self._made: set[str] = set()
        self._rates: dict[str, list[float]] = {}

    def look(self, without_gpu: bool) -> dict[str, Any]:
        """Returns what `Looking` returns, and keeps its rates."""
        sizes = {"size": self._sizes.product, "repeats": self._sizes.repeats}
        found = self._run("Looking", {**sizes, "without_gpu": without_gpu})
        self._rates = found["rates"]
        return found

    def product(self) -> Iterator[Line]:
        """Yields how fast the device multiplies, which `look` has measured."""
        size = self._sizes.product
        for kind, rates in self._rates.items():
            what = f"product of {size:,}² in {kind}"
            yield Line(
                part="product", what=what, unit="TFLOP/s", values=[each / 1e12 for each in rates]
            )

    def prediction(self) -> Iterator[Line]:
        """Yields a prediction of ResNet-32 and its calibration, in float32 and in bfloat16."""
        found = {
            kind: self._answers("small", self._sizes.small, kind, self._sizes.repeats)
            for kind in ("float32", "bfloat16")
        }
        fastest = min(found, key=lambda kind: statistics.median(found[kind]["waited"]))
        for kind, one in found.items():
            best, steps = kind == fastest, one["steps"]
            about = f"{self._sizes.small.title}, {steps} steps, {kind}"
            yield self._line(
                f"{about}: a prediction",
                "ms",
                [1e3 * each for each in one["waited"]],
                "487 ms" if kind == "float32" else "",
                ("at most", 50.0) if best else None,
            )
            if kind in self._rates:
                needed = one["flop"] / statistics.median(self._rates[kind])
                yield self._line(
                    f"{about}: a prediction ÷ its arithmetic at the rate of the product",
                    "",
                    [each / needed for each in one["waited"]],
                    "",
                    ("at most", 3.0) if best else None,
                )
            a_step = [each / steps for each in one["adapted"]]
            calibrating = [each / one["calibration_steps"] for each in one["calibrated"]]
            yield self._line(f"{about}: a step of it", "ms", [1e3 * each for each in a_step])
            yield self._line(
                f"{about}: a step of its calibration",
                "ms",
                [1e3 * each for each in calibrating],
                "36 ms" if kind == "float32" else "",
            )
            pairs = zip(calibrating, a_step, strict=True)
            yield self._line(
                f"{about}: a step of its calibration ÷ a step of the prediction",
                "",
                [one / other for one, other in pairs],
                "",
                ("at most", 1.1) if best else None,
            )

    def digits(self) -> Iterator[Line]:
        """Yields predictions a second on digits, by the faithful and by the fast profile."""
        sizes = self._sizes
        rates = self._run(
            "Streaming",
            {
                "hardware": self._hardware.to_dict(),
                "epochs": sizes.digits_epochs,
                "k": sizes.digits_k,
                "points": sizes.points,
                "repeats": min(5, sizes.repeats),
            },
        )
        for profile, before, bar in (("faithful", "1.7 /s", 40.0), ("fast", "", 150.0)):
            what = f"digits, {profile}: predictions a second, with their calibrations"
            yield Line(
                part="digits",
                what=what,
                unit="/s",
                values=rates[profile],
                before=before,
                bar=("at least", bar),
            )

    def pgd(self) -> Iterator[Line]:
        """Yields PGD on ResNet-32 beside its bare passes."""
        sizes = self._sizes
        self._make("small", sizes.small)
        found = self._run(
            "Attacking",
            {
                "folder": str(self._folder / "small"),
                "hardware": self._hardware.to_dict(),
                "images": sizes.attacked,
                "iterations": sizes.iterations,
                "repeats": min(5, sizes.repeats),
            },
        )
        about = f"PGD-{sizes.iterations} on {sizes.attacked:,} images, {sizes.small.title}"
        yield Line(part="pgd", what=about, unit="s", values=found["attack"])
        pairs = zip(found["passes"], found["attack"], strict=True)
        yield Line(
            part="pgd",
            what=f"{about}: its rate ÷ that of the bare passes",
            unit="",
            values=[passes / attack for passes, attack in pairs],
            bar=("at least", 0.4),
        )

    def large(self) -> Iterator[Line]:
        """Yields an epoch of ResNet-152 and its validation, and its starts."""
        large = self._sizes.large
        found = self._answers("large", large, "bfloat16", min(3, self._sizes.repeats))
        yield Line(
            part="large",
            what=f"{large.title}, bfloat16: an epoch and its validation",
            unit="s",
            values=found["adapted"],
            before="4.25 s",
            bar=("at most", 0.8),
        )
        if found["peak_gib"]:
            what = f"{large.title}, bfloat16: peak of the GPU's memory"
            yield Line(part="large", what=what, unit="GiB", values=[found["peak_gib"]])
        yield from self._starts("large", large, "bfloat16", found["first"], "90 s", 60.0)

    def start(self) -> Iterator[Line]:
        """Yields the starts of ResNet-32, the first with nothing that was compiled before."""
        small = self._sizes.small
        first = self._answers("small", small, "float32", 0, "cache of starts")["first"]
        yield from self._starts(
            "small", small, "float32", first, "14 s", 20.0, "cache of starts", "start"
        )

    def _starts(
        self,
        name: str,
        network: Network,
        kind: str,
        first: float,
        before: str,
        bar: float,
        cache: str = "cache",
        part: str = "large",
    ) -> Iterator[Line]:
        again = self._answers(name, network, kind, 0, cache)["first"]
        about = f"{network.title}, {kind}: from start to first answer"
        target: Target = ("at most", bar)
        for what, value, was in (
            ("nothing compiled before", first, before),
            ("with what the last start has left on disk", again, ""),
        ):
            yield Line(
                part=part, what=f"{about}, {what}", unit="s", values=[value], before=was, bar=target
            )

    def _make(self, name: str, network: Network) -> None:
        if name not in self._made:
            self._run("Making", network.made_of(self._folder / name))
            self._made.add(name)

    def _answers(
        self, name: str, network: Network, kind: str, repeats: int, cache: str = "cache"
    ) -> dict[str, Any]:
        """Returns what `Answering` returns, of a process that keeps its programs in `cache`."""
        self._make(name, network)
        deep = kind == "bfloat16"
        rmc = network.rmc
        if deep and network.mixed_micro_batch:
            rmc = dataclasses.replace(rmc, micro_batch=network.mixed_micro_batch)
        hardware = dataclasses.replace(
            self._hardware, mixed_precision=deep, cache_dir=str(self._folder / cache)
        )
        return self._run(
            "Answering",
            {
                "folder": str(self._folder / name),
                "rmc": rmc.to_dict(),
                "hardware": hardware.to_dict(),
                "repeats": repeats,
                "begun": time.time(),
            },
        )

    def _line(
        self,
        what: str,
        unit: str,
        values: Sequence[float],
        before: str = "",
        bar: Target | None = None,
    ) -> Line:
        return Line(part="prediction", what=what, unit=unit, values=values, before=before, bar=bar)


PARTS: Mapping[str, Callable[[Measuring], Iterator[Line]]] = {
    "product": Measuring.product,
    "prediction": Measuring.prediction,
    "start": Measuring.start,
    "digits": Measuring.digits,
    "pgd": Measuring.pgd,
    "large": Measuring.large,
}
"""In the order in which they are measured: where time runs out, the last are left."""
