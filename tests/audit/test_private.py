"""An audit by the command line sees no private network, and where it is leaked it sees it."""

import json
import pathlib
import shutil
from typing import Any

import pytest

from rmc_tf import main

pytestmark = pytest.mark.slow
# Seconds of work: what is tested is what is seen, not how robust it is.
TINY = (
    "--mode=audit",
    "--config.attacks.pgd.iterations=1",
    "--config.private.networks=2",
    "--config.private.first_steps=2",
    "--config.private.batch_size=8",
    "--config.audit.budget=quick",
    "--config.audit.threats=('transfer','pgd_skip')",
    "--config.audit.points=3",
    "--config.audit.iterations=2",
)


@pytest.fixture(scope="module")
def subjects(
    data_dir: pathlib.Path,
    trained: tuple[pathlib.Path, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Any]:
    """What an audit of both found, by the defence."""
    workdir = tmp_path_factory.mktemp("private")
    shutil.copy(trained[0], workdir / "digits.keras")
    own = f"--config.model.path={workdir / 'digits.keras'}", f"--workdir={workdir}"
    both = "--config.audit.defences=('private','ensemble')"
    assert main.main(["main.py", f"--data_dir={data_dir}", *own, *TINY, both]) == 0
    found = json.loads((workdir / "audit" / "audit.json").read_text())
    assert "Private, changing networks shows no network" in " ".join(found["notes"])
    return {each["defence"]: each for each in found["subjects"]}


def stages(subject: dict[str, Any]) -> set[str]:
    return {stage["name"] for stage in subject["stages"]} - {"clean"}


def test_a_private_network_is_attacked_by_transfer_and_by_the_attackers_own(
    subjects: dict[str, Any],
) -> None:
    assert stages(subjects["private"]) == {"transfer", "surrogates", "surrogates_margin"}
    assert "rests on a secret" in {check["name"] for check in subjects["private"]["checks"]}


def test_the_ensemble_of_known_seeds_is_attacked_as_it_is(subjects: dict[str, Any]) -> None:
    assert stages(subjects["ensemble"]) == {"transfer", "pgd_skip"}
