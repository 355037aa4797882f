"""What is installed works away from the checkout."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]


def test_the_installed_package_brings_its_configs(tmp_path: pathlib.Path) -> None:
    source, library = tmp_path / "source", tmp_path / "library"
    source.mkdir()
    for name in ("rmc_tf", "configs"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "README.md"):
        shutil.copy(ROOT / name, source)
    build = ["setup.py", "--quiet", "build", f"--build-lib={library}"]
    subprocess.run([sys.executable, *build], cwd=source, check=True, capture_output=True)
    code = "import sys, rmc_tf.main as main; sys.exit(main.main(['', '--dataset=nonsense']))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(library)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "known: cifar10, digits, fashion_mnist, imagenet, mnist" in done.stderr
    shipped, installed = (
        sorted(path.name for path in folder.glob("*.py"))
        for folder in (ROOT / "configs", library / "rmc_tf" / "configs")
    )
    assert installed == shipped
    assert (library / "rmc_tf" / "py.typed").exists()
    for name in ("page.css", "printed.json", "claims/claims.json"):
        assert (library / "rmc_tf" / "report" / name).exists()
    assert (library / "rmc_tf" / "service" / "page" / "index.html").exists()
    assert (library / "rmc_tf" / "audit" / "schema.json").exists()


def test_every_requirement_is_pinned_exactly_and_installed_so() -> None:
    from importlib.metadata import version

    lines = (ROOT / "requirements.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    for pin in pins:
        name, _, wanted = pin.partition("==")
        assert version(name) == wanted


def _make(folder: pathlib.Path, works: dict[str, bool], *given: str) -> tuple[int, str]:
    """Returns the status and what is said of a `make run` where these Pythons are, not run."""
    for name in ("Makefile", "requirements.txt"):
        shutil.copy2(ROOT / name, folder)
    for name in ("python3.11", "python3.12", "python3.13"):
        answer = f"echo {name[-4:]}" if works.get(name) else "exit 127"
        (folder / name).write_text(f"#!/bin/sh\n{answer}\n")
        (folder / name).chmod(0o755)
    done = subprocess.run(
        ["make", "--dry-run", "run", *given],
        cwd=folder,
        # Without what a `make test` around it hands on, by which it would say where it is.
        env={n: v for n, v in os.environ.items() if not n.startswith(("MAKE", "MFLAGS"))}
        | {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_make_takes_the_newest_python_that_works_and_says_which(tmp_path: pathlib.Path) -> None:
    both = {"python3.11": True, "python3.12": True}
    status, said = _make(tmp_path, both)
    assert status == 0 and "python3.12 -m venv" in said and "for python3.12 (3.12)" in said
    assert "python3.11 -m venv" in _make(tmp_path, both, "PYTHON=python3.11")[1]
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / ".ready-3.12").touch()
    assert "-m venv" not in _make(tmp_path, both)[1], "it is there"
    assert "python3.13 -m venv --clear" in _make(tmp_path, both | {"python3.13": True})[1]


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_make_without_a_python_that_works_says_so_in_a_line(tmp_path: pathlib.Path) -> None:
    status, said = _make(tmp_path, {})
    assert status == 2 and len(said.splitlines()) == 1
    assert "tried python3.13 python3.12 python3.11; install one of" in said
