"""A running service learns an attack by the command line, and by the client."""

import pathlib

import pytest

from rmc_tf import main
from rmc_tf.common.errors import UserError
from rmc_tf.config import AttackConfig
from rmc_tf.service import tokens
from tests.service.conftest import Start
from tools.serving.process import TOKEN, Service

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def running(start_for_all: Start, tmp_path_factory: pytest.TempPathFactory) -> Service:
    return start_for_all(tmp_path_factory.mktemp("added") / "states")


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(tokens.VARIABLE, TOKEN)


def add(url: str, *flags: str) -> int:
    return main.main(["main.py", "--mode=add_attack", f"--url={url}", *flags])


def test_the_command_line_waits_until_it_is_searched(
    running: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ("--attack=fgsm", "--rows=40", "--config.attacks.fgsm.epsilon=0.1")
    assert add(running.url, *settings) == 0
    said = capsys.readouterr().out
    assert "add_attack: 40 examples by fgsm are searched, after " in said
    (own,) = (each for each in running.client.attacks() if each["name"] == "fgsm")
    assert (own["state"], own["rows"], own["attack"]["epsilon"]) == ("searched", 40, 0.1)
    assert add(running.url, *settings) == 2
    assert "fgsm: is in D' already; take it out first" in capsys.readouterr().err


def test_the_client_adds_and_takes_out(running: Service) -> None:
    client, fgsm = running.client, AttackConfig(attack="fgsm", epsilon=0.1)
    assert client.add_attack("other", fgsm, 20)["rows"] == 20
    while client.attacks()[-1]["state"] != "searched":
        pass
    client.remove_attack("other")
    while client.attacks()[-1]["state"] != "removed":
        pass
    with pytest.raises(UserError, match="other: no such attack in D'"):
        client.remove_attack("other")


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (
            ["--attack=fgs"],
            "--attack=fgs: no attack model of the config or of Table 1; did you mean fgsm?",
        ),
        ([], "--attack=: no attack model of the config"),
        (["--attack=pgd", "--rows=0"], "--rows=0"),
        (["--attack=pgd"], "pgd: is in D' already"),
    ],
)
def test_what_cannot_be_is_told_in_a_line(
    running: Service, flags: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert add(running.url, *flags) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line


def test_its_flags_are_refused_where_nothing_reads_them(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    assert main.main(["main.py", "--attack=fgsm", f"--workdir={tmp_path}"]) == 2
    assert "--attack=fgsm: only --mode=add_attack reads it" in capsys.readouterr().err
    assert add("", "--attack=fgsm") == 2
    assert "Give it as http://127.0.0.1:8501" in capsys.readouterr().err
    monkeypatch.delenv(tokens.VARIABLE)
    assert add("http://127.0.0.1:9", "--attack=fgsm") == 2
    assert f"{tokens.VARIABLE}: not set" in capsys.readouterr().err
