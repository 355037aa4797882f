"""By the command line, a network that isn't what it seems is refused, or its report says so."""

import pathlib

import keras
import numpy as np
import pytest

from rmc_tf import main

FLAGS = (
    "--config.evaluation.points=6",
    "--config.evaluation.streams=('clean',)",
    "--config.evaluation.defences=('none',)",
    "--config.traces.enabled=false",
)


def run(data_dir: pathlib.Path, workdir: pathlib.Path, model: pathlib.Path, *flags: str) -> int:
    own = (f"--config.model.path={model}", "--config.model.feature_layer=last", *FLAGS)
    return main.main(["main.py", f"--data_dir={data_dir}", f"--workdir={workdir}", *own, *flags])


def own(
    trained: tuple[pathlib.Path, str], path: pathlib.Path, scale: float, order: np.ndarray
) -> pathlib.Path:
    """Saves the trained network with its classes in another order, of pixels in 0..1/scale."""
    network = keras.models.load_model(trained[0], compile=False)
    last = network.get_layer("logits")
    last.set_weights([each[..., order] for each in last.get_weights()])
    images = keras.Input((8, 8, 1))
    x = network(keras.layers.Rescaling(scale)(images))
    keras.Model(images, keras.layers.Identity(name="last")(x)).save(path)
    return path


def test_the_range_of_pixels_is_asked_for_and_then_the_network_runs(
    trained: tuple[pathlib.Path, str],
    data_dir: pathlib.Path,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = own(trained, tmp_path / "own.keras", 1 / 255, np.arange(10))
    assert run(data_dir, tmp_path, path, "--mode=train") == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1 and "set --config.model.pixels=0..255" in err
    assert run(data_dir, tmp_path, path, "--mode=all", "--config.model.pixels=0..255") == 0
    out = capsys.readouterr().out
    assert "own.keras, right on 100.0 % of 1,000 rows of D and 9" in out
    assert "Note:" not in (tmp_path / "report" / "report.md").read_text()


def test_a_network_whose_classes_are_in_another_order_runs_only_under_a_note(
    trained: tuple[pathlib.Path, str],
    data_dir: pathlib.Path,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = own(trained, tmp_path / "own.keras", 1.0, np.roll(np.arange(10), 1))
    assert run(data_dir, tmp_path, path) == 2
    assert "its 1 is the data's 0" in capsys.readouterr().err
    assert not (tmp_path / "evaluate").exists()
    for _ in range(2):  # what is reused has the same note
        assert run(data_dir, tmp_path, path, "--config.model.check=warn") == 0
        report = (tmp_path / "report" / "report.md").read_text()
        notes = [line for line in report.splitlines() if line.startswith("- **Note:** ")]
        out = capsys.readouterr().out
        assert len(notes) == 2, "D and the test set"
        for note in notes:
            assert "its 1 is the data's 0" in note and note.removeprefix("- **Note:** ") in out


def test_a_network_that_was_hardly_trained_is_never_refused(
    data_dir: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    few = ("--config.model.architecture=cnn", "--config.model.filters=2")
    hardly = ("--config.training.epochs=1", "--config.training.learning_rate=1e-6")
    flags = [f"--data_dir={data_dir}", f"--workdir={tmp_path}", *FLAGS, *few, *hardly]
    assert main.main(["main.py", *flags]) == 0
    report = (tmp_path / "report" / "report.md").read_text()
    assert "- **Note:** network target: right on only" in report
    assert "of the test set, where guessing has" in report
