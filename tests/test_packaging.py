"""What is installed works away from the checkout."""

import os
import pathlib
import shutil
import subprocess
import sys

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


def test_every_requirement_is_pinned_exactly_and_installed_so() -> None:
    from importlib.metadata import version

    lines = (ROOT / "requirements.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    for pin in pins:
        name, _, wanted = pin.partition("==")
        assert version(name) == wanted
