"""The page at /: what it asks for, and the page itself in a real browser."""

import asyncio
import base64
import contextlib
import dataclasses
import json
import pathlib
import re
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import httpx
import keras
import numpy as np
import PIL.Image
import pytest
import uvicorn
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

import rmc_tf
from rmc_tf import attacks, service
from rmc_tf.attacks.craft import Craft, Crafted
from rmc_tf.augmented_set import rows_on_disk
from rmc_tf.augmented_set.refreshed_set import RefreshedSet
from rmc_tf.augmented_set.rows_on_disk import AugmentedSet, StoredRows
from rmc_tf.config import (
    AttackConfig,
    AugmentedSetConfig,
    IndexConfig,
    RefreshConfig,
    RMCConfig,
    ServiceConfig,
)
from rmc_tf.defences.rmc import RMC
from rmc_tf.defences.rmc_plus import RMCPlus
from rmc_tf.networks.classifier import Classifier, softmax
from rmc_tf.search.index import FeatureIndex
from rmc_tf.service import demo, demo_attack
from rmc_tf.service.bundle import Bundle, HeldBack

pytestmark = pytest.mark.slow

LONG = 120.0
FOLDER = pathlib.Path(demo.__file__).with_name("page")
IMAGE = np.full((8, 8, 1), 0.5).tolist()


class Serving(NamedTuple):
    """A running server."""

    http: httpx.Client
    address: str
    bundle: Bundle


@contextlib.contextmanager
def served(bundle: Bundle, states: pathlib.Path) -> Iterator[Serving]:
    """Runs a real server on a free port."""
    app = service.app(bundle, ServiceConfig(states=str(states)), token="", say=print)
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", http="h11"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        run = {"sockets": [listening]}
        thread = threading.Thread(target=server.run, kwargs=run, daemon=True)
        thread.start()
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        end = time.monotonic() + LONG
        while not (server.started and app.state.worker.ready):
            assert time.monotonic() < end and thread.is_alive()
            time.sleep(0.01)
        with httpx.Client(base_url=address, timeout=LONG) as http:
            yield Serving(http, address, bundle)
        server.should_exit = True
        thread.join(LONG)


@pytest.fixture(scope="module")
def serving(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """One server for all tests of the routes and of the page with digits."""
    with served(bundle, tmp_path_factory.mktemp("states")) as running:
        yield running


@pytest.fixture
def images(test_rows: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    return test_rows[0]


@pytest.fixture
def labels(test_rows: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    return test_rows[1]


def pixels_of(text: str, shape: tuple[int, ...], dtype: str = "u1") -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), dtype).reshape(shape)


def attacked(serving: Serving, image: np.ndarray, **settings: Any) -> dict[str, Any]:
    sent = {"image": image.tolist(), "epsilon": 0.15, **settings}
    response = serving.http.post("/page/attack", json=sent)
    assert response.status_code == 200, response.text
    made: dict[str, Any] = response.json()
    return made


def test_the_page_comes_from_here_alone_and_may_load_nothing_else(serving: Serving) -> None:
    page = serving.http.get("/")
    policy = page.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'self'; ") and "unsafe" not in policy
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert {path.name for path in FOLDER.iterdir()} == demo._FILES.keys()
    named = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert set(named) == {"page/icon.svg", "page/page.css", "page/main.js"}
    for name, kind in demo._FILES.items():
        file = serving.http.get(f"/page/{name}")
        assert file.status_code == 200 and file.text == (FOLDER / name).read_text(encoding="utf-8")
        assert file.headers["Content-Type"] == f"{kind}; charset=utf-8"
        assert file.headers["Content-Security-Policy"] == policy
        assert set(re.findall(r"https?://[^\s\"']+", file.text)) <= {"http://www.w3.org/2000/svg"}


def test_the_page_is_told_of_the_network_and_shows_what_was_held_back(serving: Serving) -> None:
    about = serving.http.get("/page/samples").json()
    assert (about["model"], about["image_shape"], about["k"]) == ("rmc", [8, 8, 1], 64)
    assert about["rows"] == len(serving.bundle.defence.augmented_set)
    held_back = serving.bundle.held_back
    assert held_back is not None
    shown = {
        (pixels_of(each["pixels"], (8, 8, 1)).tobytes(), each["label"], each["class"])
        for each in about["samples"]
    }
    assert shown == {
        (np.rint(image * 255).astype(np.uint8).tobytes(), label, str(label))
        for image, label in zip(held_back.images, held_back.labels.tolist(), strict=True)
    }


def test_samples_are_a_few_of_each_class_in_turn(bundle: Bundle, images: np.ndarray) -> None:
    labels = np.repeat([1, 0, 2], [20, 20, 1])
    many = dataclasses.replace(bundle, held_back=HeldBack(images[:41], labels))
    shown = [each["label"] for each in demo.about_the_page(many)["samples"]]
    assert shown[:5] == [0, 1, 2, 0, 1] and len(shown) == 12
    none = dataclasses.replace(bundle, held_back=None)
    assert demo.about_the_page(none)["samples"] == []


def test_the_bare_answer_is_that_of_the_static_network(
    serving: Serving, images: np.ndarray
) -> None:
    sent = {"images": images[:2].tolist()}
    answers = serving.http.post("/page/bare", json=sent).json()["answers"]
    expected = softmax(serving.bundle.defence.static.forward(images[:2])[1])
    for answer, probabilities in zip(answers, expected, strict=True):
        np.testing.assert_array_equal(np.array(answer["probabilities"], np.float32), probabilities)
        assert answer["label"] == probabilities.argmax() == int(answer["class"])


def test_an_attack_stays_in_its_ball_misleads_the_bare_network_and_repeats(
    serving: Serving, images: np.ndarray, labels: np.ndarray
) -> None:
    misled = 0
    for image, label in zip(images[:5], labels[:5].tolist(), strict=True):
        made = attacked(serving, image, label=label, iterations=5)
        moved = pixels_of(made["image"], (8, 8, 1), "<f4")
        furthest = np.abs(moved - image).max()
        assert 0.149 < furthest <= 0.15 + 1e-6 and made["furthest"] == pytest.approx(furthest)
        assert moved.min() >= 0 and moved.max() <= 1
        assert (made["label"], made["epsilon"], made["moved"]) == (label, 0.15, True)
        assert attacked(serving, image, label=label, iterations=5)["image"] == made["image"]
        logits = serving.bundle.defence.static.forward(moved[None])[1]
        misled += int(logits.argmax() != label)
    assert misled >= 4
    small = attacked(serving, images[0], epsilon=0.01)
    assert np.abs(pixels_of(small["image"], (8, 8, 1), "<f4") - images[0]).max() <= 0.01 + 1e-6


def test_without_a_label_the_attack_leads_away_from_the_networks_own_answer(
    serving: Serving, images: np.ndarray
) -> None:
    logits = serving.bundle.defence.static.forward(images[:1])[1]
    own = int(logits.argmax())
    made = attacked(serving, images[0])
    assert made["label"] == own and made["class"] == str(own)
    assert made["image"] == attacked(serving, images[0], label=own)["image"]
    assert made["image"] != attacked(serving, images[0], label=(own + 1) % 10)["image"]


def test_an_answers_neighbours_are_rows_of_d_prime_with_their_kinds(
    serving: Serving, images: np.ndarray
) -> None:
    sent = {"instances": images[:1].tolist(), "neighbours": True}
    (answer,) = serving.http.post("/v1/models/rmc:predict", json=sent).json()["predictions"]
    assert answer["steps"] >= 1
    last = len(serving.bundle.defence.augmented_set) - 1
    numbers = [0, last, *answer["neighbours"][:12]]
    query = ",".join(map(str, numbers))
    found = serving.http.get(f"/page/rows?numbers={query}").json()["rows"]
    rows = serving.bundle.defence.augmented_set.rows(np.array(numbers))
    assert [each["row"] for each in found] == numbers
    assert [each["label"] for each in found] == rows.labels.tolist()
    assert [each["kind"] for each in found] == [("benign", "pgd")[s] for s in rows.sources]
    assert [found[0]["kind"], found[1]["kind"]] == ["benign", "pgd"]
    for each, stored in zip(found, rows.stored, strict=True):
        np.testing.assert_array_equal(pixels_of(each["pixels"], (8, 8, 1)), stored)


def of_rows(
    folder: pathlib.Path, images: np.ndarray, sources: list[int], names: tuple[str, ...]
) -> AugmentedSet:
    """A D' of these rows, [2n, H, W, C] uint8: n of D, and one made of each of them."""
    half = np.arange(len(images) // 2)
    origins = np.concatenate([half, half])
    columns = StoredRows(
        images,
        (origins % 10).astype(np.int32),
        np.array(sources, np.uint8),
        origins,
        np.full(len(images), -1, np.int32),
    )
    shard = rows_on_disk.Shard(folder / "a", "made here")
    rows_on_disk.write_shard(shard, columns, {})
    rows_on_disk.write_manifest(folder, "made here", names, [shard])
    return AugmentedSet.open(folder)


def test_rows_are_those_of_the_d_prime_of_this_moment(
    serving: Serving, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.arange(4 * 64, dtype=np.uint8).reshape(4, 8, 8, 1)
    other = of_rows(tmp_path, pixels, [0, 0, 1, 2], ("benign", "", "cw"))
    monkeypatch.setattr(serving.bundle.defence, "augmented_set", other)
    found = serving.http.get("/page/rows?numbers=3,2,1").json()["rows"]
    assert [each["kind"] for each in found] == ["cw", "removed", "benign"]
    np.testing.assert_array_equal(pixels_of(found[0]["pixels"], (8, 8, 1)), pixels[3])
    assert serving.http.get("/page/rows?numbers=4").status_code == 400


def test_epsilon_is_that_of_the_attacks_or_of_the_rows_or_the_usual(
    bundle: Bundle, d_prime: AugmentedSet, static: Any, tmp_path: pathlib.Path, pgd: AttackConfig
) -> None:
    measured, source = demo_attack.epsilon_of(bundle.answering)
    assert source == "rows" and measured == pytest.approx(38 / 255)
    rows = RefreshedSet(d_prime, FeatureIndex(static.features, IndexConfig(), 64))
    plus = RMCPlus(
        bundle.defence.static,
        rows,
        bundle.defence.config,
        RefreshConfig(),
        {"pgd": pgd, "cw": AttackConfig(attack="cw_l2", norm="l2", epsilon=3.0, targeted=True)},
        AugmentedSetConfig(),
    )
    assert demo_attack.epsilon_of(plus) == (0.15, "attacks")
    assert demo.source_names(rows) == ("benign", "pgd")
    pixels = np.zeros((40, 8, 8, 1), np.uint8)
    pixels[20:, 0, 0, 0] = np.arange(20)  # of a minimal distance: no two alike
    minimal = of_rows(tmp_path, pixels, [0] * 20 + [1] * 20, ("benign", "cw"))
    assert demo_attack.measured_epsilon(minimal) == 0


BAD: list[tuple[str, str, Any, int, str]] = [
    ("POST", "/", None, 405, "method not allowed"),
    ("POST", "/page/samples", None, 405, "method not allowed"),
    ("GET", "/page/none.js", None, 404, "no file 'none.js' of the page"),
    ("GET", "/page/..%2Fdemo.py", None, 404, "not found"),
    ("GET", "/page/%2e%2e", None, 404, "no file '..' of the page"),
    ("GET", "/page/attack", None, 404, "no file 'attack'"),
    ("GET", "/page/rows", None, 400, "expected 1 to 24 numbers of rows"),
    ("GET", "/page/rows?numbers=", None, 400, "expected 1 to 24 numbers"),
    ("GET", "/page/rows?numbers=-1", None, 400, "expected 1 to 24 numbers"),
    ("GET", "/page/rows?numbers=1,x", None, 400, "expected 1 to 24 numbers"),
    ("GET", "/page/rows?numbers=" + ",".join("1" * 25), None, 400, "expected 1 to 24 numbers"),
    ("GET", f"/page/rows?numbers={10**17}", None, 400, f"no row {10**17}"),
    ("GET", f"/page/rows?numbers={10**30}", None, 400, "expected 1 to 24 numbers"),
    ("POST", "/page/bare", b"{", 400, "the body is no JSON"),
    ("POST", "/page/bare", {}, 400, "no number"),
    ("POST", "/page/bare", {"images": []}, 400, "of shape [0], expected images"),
    ("POST", "/page/bare", {"images": [IMAGE] * 3}, 400, "3 images, expected 1 to 2"),
    ("POST", "/page/bare", {"images": [IMAGE], "label": 1}, 400, "unknown 'label'"),
    ("POST", "/page/attack", b"[]", 400, "expected an object"),
    ("POST", "/page/attack", {}, 400, "image: holds something that is no number"),
    ("POST", "/page/attack", {"image": [[0.5]]}, 400, "of shape [1, 1, 1], expected images"),
    ("POST", "/page/attack", {"image": 0.5}, 400, "of shape [1], expected images"),
    ("POST", "/page/attack", {"image": np.full((8, 8, 1), 2).tolist()}, 400, "from 2 to 2"),
    ("POST", "/page/attack", {"image": np.full((8, 8, 1), np.nan).tolist()}, 400, "NaN"),
    ("POST", "/page/attack", {"image": IMAGE, "seed": 1}, 400, "unknown 'seed'"),
    *[
        ("POST", "/page/attack", {"image": IMAGE, "epsilon": epsilon}, 400, "epsilon: expected")
        for epsilon in (0, -0.1, 1.5, 1e-9, float("nan"), float("inf"), 10**400, "0.1", True, None)
    ],
    *[
        ("POST", "/page/attack", {"image": IMAGE, "iterations": steps}, 400, "iterations: expected")
        for steps in (0, 41, 10**9, 1.5, "3", True, None)
    ],
    *[
        ("POST", "/page/attack", {"image": IMAGE, "label": label}, 400, "label: expected")
        for label in (-1, 10, 1.0, "1", True)
    ],
]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "said"),
    BAD,
    ids=[f"{number}-{bad[1][:20]}" for number, bad in enumerate(BAD)],
)
def test_bad_input_gets_4xx_in_a_line(
    serving: Serving, method: str, path: str, body: Any, status: int, said: str
) -> None:
    content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    response = serving.http.request(method, path, content=content)
    assert response.status_code == status, response.text
    assert response.json().keys() == {"error"}
    line = response.json()["error"]
    assert said in line and "\n" not in line and len(line) < 400


def test_nothing_here_but_an_answer_of_the_defence_moves_the_weights(
    serving: Serving, images: np.ndarray
) -> None:
    before = serving.bundle.defence.predictions
    attacked(serving, images[0])
    serving.http.post("/page/bare", json={"images": images[:1].tolist()})
    serving.http.get("/page/rows?numbers=1")
    assert serving.bundle.defence.predictions == before


def test_while_one_attack_is_made_another_is_429_and_then_there_is_room(
    bundle: Bundle, images: np.ndarray, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, go, real = threading.Event(), threading.Event(), Craft.crafted

    def wait(self: Craft, *given: Any, **named: Any) -> Crafted:
        entered.set()
        assert go.wait(LONG)
        return real(self, *given, **named)

    monkeypatch.setattr(Craft, "crafted", wait)
    app = service.app(bundle, ServiceConfig(states=str(tmp_path / "states")), token="")
    sent = {"image": images[0].tolist()}

    async def ask() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            first = asyncio.create_task(client.post("/page/attack", json=sent))
            assert await asyncio.to_thread(entered.wait, LONG)
            second = await client.post("/page/attack", json=sent)
            meanwhile = await client.get("/v2/health/live")
            go.set()
            return [await first, second, await client.post("/page/attack", json=sent), meanwhile]

    first, second, third, meanwhile = asyncio.run(ask())
    app.state.worker.stop(0.0)
    assert [each.status_code for each in (first, second, third, meanwhile)] == [200, 429, 200, 200]
    assert second.json() == {"error": "another attack is being made; ask again in a moment"}
    assert int(second.headers["Retry-After"]) >= 1


def test_an_attack_that_fails_makes_room_for_the_next(
    bundle: Bundle, images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: Any, **named: Any) -> Craft:
        raise MemoryError

    attacker, given = demo_attack.Attacker(bundle), {"image": images[0].tolist()}
    with monkeypatch.context() as patch:
        patch.setattr(attacker, "_craft", fail)
        with pytest.raises(MemoryError):
            attacker.attacked(given)
    assert attacker.attacked(given)["moved"]


def test_only_so_many_attacks_stay_compiled(
    bundle: Bundle, images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    built, real = [], attacks.build

    def build(config: AttackConfig, classifier: Classifier) -> Craft:
        built.append(config.epsilon)
        return real(config, classifier)

    monkeypatch.setattr(attacks, "build", build)
    attacker = demo_attack.Attacker(bundle)
    for epsilon in (0.1, 0.2, 0.1, 0.3, 0.4, 0.5, 0.1, 0.2):
        image = images[0].tolist()
        attacker.attacked({"image": image, "epsilon": epsilon, "iterations": 1})
    assert built == [0.1, 0.2, 0.3, 0.4, 0.5, 0.2]


def test_without_the_page_there_is_nothing_at_its_place(
    bundle: Bundle, tmp_path: pathlib.Path
) -> None:
    config = ServiceConfig(states=str(tmp_path / "states"), page=False)
    app = service.app(bundle, config, token="")

    async def ask() -> list[int]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            paths = "/", "/page/samples", "/page/main.js", "/page/rows?numbers=1", "/metrics"
            return [(await client.get(path)).status_code for path in paths]

    found = asyncio.run(ask())
    app.state.worker.stop(0.0)
    assert found == [404, 404, 404, 404, 200]


# The page itself.

DESKTOP, PHONE = (1280, 800), (390, 844)


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    """A headless Chromium that reaches nothing but this machine."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("no chromium and chromedriver on the path; Debian has packages of these names")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-component-update",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    began = webdriver.Chrome(options, webdriver.ChromeService(driver))
    yield began
    began.quit()


class Page:
    """The page in the browser, at a width."""

    def __init__(self, browser: webdriver.Chrome, address: str, size: tuple[int, int]) -> None:
        self.browser = browser
        width, height = size
        screen = {"width": width, "height": height, "deviceScaleFactor": 1}
        screen["mobile"] = size == PHONE
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        self.log()  # of the test before
        browser.get(address)
        self.until("#charts svg circle")

    def all(self, selector: str) -> list[WebElement]:
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> WebElement:
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def until(self, selector: str) -> WebElement:
        """Waits until something is there and visible."""
        self.wait(lambda: any(each.is_displayed() for each in self.all(selector)), selector)
        return self.one(selector)

    def wait(self, holds: Callable[[], bool], what: str) -> None:
        """Waits until something holds; the page may replace meanwhile what is looked at."""
        replaced = [StaleElementReferenceException]
        waiting = WebDriverWait(self.browser, LONG, 0.1, ignored_exceptions=replaced)
        waiting.until(lambda _: holds(), what)

    def press_attack(self) -> None:
        self.one("#attack").click()
        self.until("#clean-defended .bars li")
        self.wait(lambda: self.one("#attack").is_enabled(), "the end")

    def script(self, code: str) -> Any:
        return self.browser.execute_script(f"return {code}")

    def bars(self, panel: str) -> np.ndarray:
        """How long the bars of an answer are, in percent: its probabilities."""
        code = f"[...document.querySelectorAll('#{panel} .fill')].map((each) => each.style.width)"
        return np.array([float(width.rstrip("%")) for width in self.script(code)])

    def chosen(self, height: int, width: int) -> np.ndarray:
        """The pixels of the image that is chosen, [H, W, 3]."""
        code = """const copy = new OffscreenCanvas(arguments[1], arguments[0]);
            const context = copy.getContext("2d", { willReadFrequently: true });
            context.drawImage(document.getElementById("chosen"), 0, 0);
            return [...context.getImageData(0, 0, arguments[1], arguments[0]).data];"""
        pixels = self.browser.execute_script(code, height, width)
        return np.array(pixels).reshape(height, width, 4)[..., :3]

    def log(self) -> list[dict[str, Any]]:
        """What the browser's console has been told since it was last read."""
        told: list[dict[str, Any]] = self.browser.get_log("browser")  # type: ignore[no-untyped-call]
        return told

    def check_form(self) -> None:
        """No errors, nothing beside the screen, and a name for whatever can be reached."""
        assert self.log() == []
        assert not self.one("#error").is_displayed()
        wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert self.script(wide) == 0
        for each in self.all("button, input, select, canvas, svg"):
            if each.is_displayed():
                assert each.accessible_name, each.get_attribute("outerHTML")


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_a_visitor_attacks_a_sample_and_sees_what_both_networks_say(
    serving: Serving, browser: webdriver.Chrome, size: tuple[int, int]
) -> None:
    page = Page(browser, f"{serving.address}/", size)
    assert page.script("window.innerWidth") == size[0]
    assert len(page.all("#samples button")) == 3
    assert not page.one("#attack").is_enabled()
    assert page.one("#epsilon").get_property("value") == "0.149"
    sample = page.all("#samples button")[1]
    sample.send_keys(Keys.ENTER)
    assert sample.get_attribute("aria-pressed") == "true"
    label = sample.text
    assert page.one("#label option:checked").text == label
    page.press_attack()
    verdict = page.one("#verdict").text
    told = re.search(r"bare network says (\d) .* defended network says (\d) ", verdict)
    assert told is not None, verdict
    for network, said in zip(("bare", "defended"), told.groups(), strict=True):
        assert page.one(f"#attacked-{network} .says b").text == said
        assert page.one(f"#attacked-{network} .top > span").text == said
        assert len(page.all(f"#attacked-{network} .bars li")) == 10
        right = page.all(f"#attacked-{network} .says .right")
        assert bool(right) == (said == label)
    held_back = serving.bundle.held_back
    assert held_back is not None
    order = np.argsort(held_back.labels, kind="stable")  # no two are alike
    image = np.rint(held_back.images[order[1]] * 255).astype(np.float32) / np.float32(255)
    made = attacked(serving, image, label=int(label), epsilon=0.149)
    moved = pixels_of(made["image"], (8, 8, 1), "<f4")
    expected = 100 * softmax(serving.bundle.defence.static.forward(np.stack([image, moved]))[1])
    np.testing.assert_allclose(page.bars("clean-bare"), expected[0], atol=1e-3)
    np.testing.assert_allclose(page.bars("attacked-bare"), expected[1], atol=1e-3)
    assert np.abs(page.bars("clean-defended") - expected[0]).max() > 1e-3
    assert np.abs(page.bars("attacked-defended") - expected[1]).max() > 1e-3
    assert len(page.all("#pictures canvas")) == 3
    details = page.one("#details").text
    assert re.search(r"Has it adapted\? yes yes", details)
    assert re.search(r"Training steps [1-9]\d* [1-9]\d*", details)
    for part in ("Loss of the bare", "Seconds training", "Seconds in all", "State of the weights"):
        assert re.search(rf"{part}.* [\d.]+ (<\s)?[\d.]+$", details, re.MULTILINE), part
    neighbours = page.all("#neighbours li")
    assert len(neighbours) == 12
    assert all(re.fullmatch(r"\d\n(original|made by pgd)", each.text) for each in neighbours)
    page.wait(lambda: int(page.all("#charts .now")[0].text) >= 2, "two answers in the last minute")
    page.check_form()


def test_a_drawing_by_keyboard_or_mouse_is_attacked_too(
    serving: Serving, browser: webdriver.Chrome
) -> None:
    page = Page(browser, f"{serving.address}/", DESKTOP)
    page.all("#samples button")[0].click()
    pad = page.one("#pad")
    pad.send_keys(Keys.ARROW_UP * 4, Keys.SPACE, Keys.ARROW_DOWN * 8)
    assert page.one("#chosen-name").text == "Your drawing"
    assert not page.all("#samples button[aria-pressed=true]")
    drawn = page.chosen(8, 8)[..., 0]
    assert drawn[1:7, 3:5].min() > 60 and drawn[:, :2].max() == 0 == drawn[:, 6:].max()
    webdriver.ActionChains(browser).move_to_element(pad).click_and_hold().move_by_offset(
        80, 0
    ).release().perform()
    across = page.chosen(8, 8)[..., 0]
    assert across[3:5, 4:6].min() > 60 and across[3:5, 6].max() > drawn[3:5, 6].max()
    page.press_attack()
    assert re.search(r"\((not )?misled\) and the defended", page.one("#verdict").text)
    page.one("#clear").click()
    page.check_form()


def test_an_error_of_the_service_is_told(serving: Serving, browser: webdriver.Chrome) -> None:
    page = Page(browser, f"{serving.address}/", PHONE)
    page.all("#samples button")[0].click()
    browser.execute_script("document.getElementById('form').noValidate = true")
    page.one("#epsilon").clear()
    page.one("#epsilon").send_keys("7")
    page.one("#attack").click()
    assert page.until("#error").text == "epsilon: expected a number from 0.0001 to 1"
    assert page.one("#attack").is_enabled()


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Of a small untrained network that takes colour images, 6 by 4."""
    folder = tmp_path_factory.mktemp("colours")
    keras.utils.set_random_seed(1)
    stack = [keras.layers.Flatten(name="features"), keras.layers.Dense(3, name="logits")]
    classifier = Classifier(keras.Sequential([keras.Input((6, 4, 3)), *stack]))
    pixels = np.random.default_rng(1).integers(0, 256, (60, 6, 4, 3)).astype(np.uint8)
    half = np.arange(30)
    columns = StoredRows(
        pixels,
        np.tile(half % 3, 2).astype(np.int32),
        np.repeat([0, 1], 30).astype(np.uint8),
        np.tile(half, 2),
        np.full(60, -1, np.int32),
    )
    shard = rows_on_disk.Shard(folder / "d_prime" / "a", "made here")
    rows_on_disk.write_shard(shard, columns, {})
    rows_on_disk.write_manifest(folder / "d_prime", "made here", ("benign", "pgd"), [shard])
    rows = AugmentedSet.open(folder / "d_prime")
    features, _ = classifier.forward(rows.rows(np.arange(60)).images)
    config = RMCConfig(k=20, batch_size=10, primed_rows=0)
    defence = RMC(classifier, rows, FeatureIndex(features, IndexConfig(), 20), config)
    names = ("a long name of a class", "green", "blue")
    saved = rmc_tf.save_bundle(folder / "bundle", defence, class_names=names)
    return rmc_tf.load_bundle(saved)


def test_a_colour_network_takes_a_picture_of_the_visitors(
    colours: Bundle, browser: webdriver.Chrome, tmp_path: pathlib.Path
) -> None:
    picture = np.zeros((60, 100, 3), np.uint8)
    picture[:, 30:70] = 0, 255, 128  # the middle, of the network's proportions
    PIL.Image.fromarray(picture).save(tmp_path / "mine.png")
    (tmp_path / "broken.png").write_bytes(b"none")
    with served(colours, tmp_path / "states") as serving:
        page = Page(browser, f"{serving.address}/", PHONE)
        assert not page.one("#sample-way").is_displayed()
        assert not page.one("#draw-way").is_displayed()
        page.one("#upload").send_keys(str(tmp_path / "broken.png"))
        assert page.until("#error").text.startswith("broken.png: no picture that this browser")
        page.one("#upload").send_keys(str(tmp_path / "mine.png"))
        page.wait(lambda: page.one("#chosen-name").text == "mine.png", "the picture")
        assert page.chosen(6, 4).tolist() == np.full((6, 4, 3), (0, 255, 128)).tolist()
        page.press_attack()
        assert page.one("#attacked-bare .bars li > span").text == "a long name of a class"
        page.check_form()
