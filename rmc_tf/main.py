"""Defends a network by Runtime Masking and Cleansing, and measures how well: the command line.

  python -m rmc_tf.main                          digits, every stage
  python -m rmc_tf.main --dataset=fashion_mnist  configs/fashion_mnist.py
  python -m rmc_tf.main --config.rmc.k=256       any setting; here K, the size of N'(x)
  python -m rmc_tf.main --config=my.py --mode=prepare
  python -m rmc_tf.main --config=configs/table1.py --dataset=mnist  a table of the paper
  python -m rmc_tf.main --mode=audit             what the defences withstand, on a page
  python -m rmc_tf.main --mode=serve             the defended network, over HTTP
  python -m rmc_tf.main --mode=add_attack --url=http://127.0.0.1:8501 --attack=fgsm
                                                 has that service learn another attack
  python -m rmc_tf.main --mode=reproduce         every table and figure of the paper, on a page

What is valid of an earlier run in the same work directory is used again; a run
that was stopped goes on where it stopped.

Exit status: 0 when all went well, 2 after a mistake that the user can mend,
which is told in one line, 130 after Ctrl-C, 143 after SIGTERM.
"""

# Flags in, stages run, one line a stage out. Nothing is computed here.

import contextlib
import fcntl
import os
import pathlib
import shlex
import signal
import sys
import textwrap
import threading
import types
from collections.abc import Iterator, Sequence
from typing import Any

import ml_collections
from absl import flags
from ml_collections import config_flags

from rmc_tf.common import keras_settings, standard_streams
from rmc_tf.common.errors import DISK_ERRORS, UserError, first_line
from rmc_tf.common.paths import expanded
from rmc_tf.config import ExperimentConfig, override_errors, profiled, recommended, shipped
from rmc_tf.config.network import check_model_file
from rmc_tf.data import image_folder
from rmc_tf.networks import program_cache
from rmc_tf.reproduction import plan
from rmc_tf.service import adding, extra

_FLAGS = (
    *("dataset", "config", "mode", "only", "url", "attack", "rows"),
    *("import", "workdir", "data_dir", "seed", "help"),
)
_MODES = (
    *("train", "prepare", "evaluate", "report", "export", "audit", "reproduce"),
    *("bundle", "serve", "add_attack", "all"),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line, and returns the exit status."""
    with standard_streams.outlasting():
        return _status(list(sys.argv if argv is None else argv))


def _status(arguments: Sequence[str]) -> int:
    try:
        with _sigterm_like_ctrl_c():
            run(arguments)
        return 0
    except UserError as error:
        told = str(error)
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        where = f"{error.filename}: " if error.filename else ""
        remedy = "free some space, or choose another place by --workdir and --data_dir"
        told = f"{where}{error.strerror}; nothing half-written is left; {remedy}"
    except KeyboardInterrupt as stop:
        print("\nstopped; the same command goes on from here", file=sys.stderr)
        return 128 + (signal.SIGTERM if isinstance(stop, _Terminated) else signal.SIGINT)
    print(f"rmc_tf: error: {told}", file=sys.stderr)
    return 2


class _Terminated(KeyboardInterrupt):
    """SIGTERM, which is what a scheduler or a container sends: the run ends as by Ctrl-C."""


@contextlib.contextmanager
def _sigterm_like_ctrl_c() -> Iterator[None]:
    """Lets SIGTERM unwind the stack, so that what a kill would leave half-written is removed."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python lets no other thread catch signals
        return

    def stop(number: int, frame: types.FrameType | None) -> None:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def run(arguments: Sequence[str]) -> None:
    """Parses the flags and runs the stages.

    Raises:
      UserError: anything that the user can mend.
    """
    override_errors.check_readable(arguments)
    values, name = _parse(arguments)
    asked = profiled(ExperimentConfig.from_dict(_overridden(values)))
    config, why = recommended(asked, serves=values.mode in ("bundle", "serve"))
    if why and values.mode == "reproduce":
        raise UserError(
            "--config.defence=recommended: tables have their own defences; leave it out"
        )
    if why:
        print(why, file=sys.stderr, flush=True)
    name = config.dataset.called if config.dataset.folder else name
    workdir = pathlib.Path(expanded(values.workdir or f"runs/{name}"))
    command = shlex.join(["python", "-m", "rmc_tf.main", *arguments[1:]])
    only = _asked_for(values)
    _check_added(values)
    if values.mode == "add_attack":  # by the service, so that nothing is computed here
        adding.add(values.url, values.attack, values.rows, config, print)
        return
    if values.mode == "reproduce":
        given = config_flags.get_override_values(values["config"])
        points = given.get("evaluation.points")
        paper = plan.experiments(config, points, _without_config(arguments)[1], only)

    if values.mode == "serve":
        extra.need("--mode=serve")
        if config.service.replicas > 1:
            extra.ray_serve(f"--config.service.replicas={config.service.replicas}")
    keras_settings.need_tensorflow()
    if config.model.path:
        check_model_file(config.model.path, f"--config.model.path={config.model.path}")
    if config.dataset.folder:
        image_folder.places_of(config.dataset)
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--workdir={workdir}: {error.strerror}; choose another place") from None
    with _only_run_in(workdir):
        # Loaded only now, for it takes seconds: what is wrong with the flags has been told.
        if sys.stderr.isatty():  # for who waits; in a log what is wrong stays one line
            print("loading TensorFlow", file=sys.stderr, flush=True)
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before TensorFlow is loaded
        program_cache.keep_programs(config.hardware)
        from rmc_tf.audit.run import Audit
        from rmc_tf.common import console
        from rmc_tf.experiment import table_report
        from rmc_tf.experiment.pipeline import Pipeline
        from rmc_tf.networks import devices
        from rmc_tf.networks.loading import import_modules
        from rmc_tf.reproduction.run import Reproduction
        from rmc_tf.service import making

        console.quieten()
        keras_settings.settle(console.say)
        devices.begin(config.hardware, console.say)
        with console.disk_errors():
            import_modules(config.model.imports)
            if values.mode == "audit":
                path, verdicts = Audit(config, workdir, console.say).write(command)
                console.say(f"audit: {path}\n\n{verdicts}")
                return
            if values.mode == "reproduce":
                reproduction = Reproduction(config, *paper, workdir, points, bool(only))
                page = reproduction.write(command)
                console.say(f"reproduce: {page}, and report.md beside it")
                if missed := [*(paper[1] if only else []), *reproduction.failed]:
                    reasons = "; ".join(f"{each.name}: {each.reason}" for each in missed)
                    raise UserError(f"not run: {reasons}")
                return
            experiment = Pipeline(config, workdir, console.say)
            made: object
            match values.mode:
                case "train":
                    made = ", ".join(experiment.train_all())
                case "prepare":
                    made = ", ".join(map(str, experiment.prepare_all()))
                case "evaluate":
                    made = f"{len(experiment.evaluate())} results"
                case "export":
                    made = f"{experiment.export()}, the bare network, undefended; "
                    made += "--mode=bundle writes the defended one"
                case "bundle" | "serve":
                    bundle = making.write(experiment, console.say)
                    made = f"{bundle}, the defence in one folder"
                case _:
                    made = table_report.write(experiment, command)
            done = "bundle" if values.mode == "serve" else values.mode
            console.say(f"{done}: {made}")
            if values.mode in ("report", "all"):
                console.say(
                    "\n" + (workdir / experiment.table.name / "table.md").read_text("utf-8")
                )
    if values.mode == "serve":  # the work directory is free for other runs
        del experiment  # memory is to hold one D'
        if not making.serve(bundle, config, console.say):
            sys.stdout.flush()
            os._exit(0)  # a thread is still in the midst of an attack, and what it made is on disk


def _parse(arguments: Sequence[str]) -> tuple[flags.FlagValues, str]:
    """Returns the flags' values, of a set of flags of their own, and the name of the run."""
    values = flags.FlagValues()
    text = "Runs configs/NAME.py; beside --config=FILE, the data set of that config. Of a "
    text += "--config.dataset.folder it is photos."
    flags.DEFINE_string("dataset", "digits", text, flag_values=values)
    text = "Where all artefacts go; by default runs/NAME, or runs/FOLDER."
    flags.DEFINE_string("workdir", "", text, flag_values=values)
    text = "Where TFDS keeps its data sets; by default TFDS' own place."
    flags.DEFINE_string("data_dir", "", text, flag_values=values)
    text = "Overrides the config's seed."
    flags.DEFINE_integer("seed", None, text, lower_bound=0, flag_values=values)
    flags.DEFINE_enum("mode", "all", _MODES, "Which stage to run.", flag_values=values)
    text = "In --mode=reproduce: only these, as in table1,figure3."
    flags.DEFINE_list("only", None, text, flag_values=values)
    text = "In --mode=add_attack: the address of the service."
    flags.DEFINE_string("url", "", text, flag_values=values)
    text = "In --mode=add_attack: the name of one of --config.attacks, whose settings are there."
    flags.DEFINE_string("attack", "", text, flag_values=values)
    text = "In --mode=add_attack: how many examples; by default as many as D has rows."
    flags.DEFINE_integer("rows", None, text, lower_bound=1, flag_values=values)
    text = "Modules, or FILE.py, with layers of your own, imported before a model is loaded."
    flags.DEFINE_list("import", None, text, flag_values=values)
    flags.DEFINE_bool("help", False, "Shows this help.", short_name="h", flag_values=values)
    loaded: ml_collections.ConfigDict | None = None
    try:
        rest, config = _without_config(arguments)
        text = "Runs a config of your own; --config.FIELD=VALUE overrides a setting of any."
        loaded, name = shipped.run(config)
        override_errors.check_names(rest, loaded)
        rest = override_errors.fractions(rest, loaded)
        config_flags.DEFINE_config_dict("config", loaded, text, flag_values=values, sys_argv=rest)
        unexpected = values(rest)[1:]
    except flags.UnrecognizedFlagError as error:
        remedy = override_errors.near(error.flagname, _FLAGS, loaded, "--")
        raise UserError(f"--{error.flagname}: no such flag; {remedy}; see --help") from None
    except flags.IllegalFlagValueError as error:
        raise UserError(override_errors.illegal(str(error), loaded)) from None
    except flags.Error as error:
        raise UserError(f"{error}; see --help") from None
    except (TypeError, SyntaxError) as error:
        raise UserError(f"--config.…: {first_line(error)}; see --help") from None
    if values.help:
        print(_help(values, name))
        raise SystemExit(0)
    override_errors.check_once(arguments, values)
    if unexpected:
        raise UserError(f"unexpected argument {unexpected[0]!r}; flags begin with --, see --help")
    return values, name


def _asked_for(values: flags.FlagValues) -> Sequence[str]:
    """Returns the tables and figures that --only names, none where it isn't given."""
    if values.only is None:
        return []
    given = f"--only={','.join(values.only)}"
    if not all(values.only or [""]):
        raise UserError(f"{given}: a name is missing; give some, as in table1,figure3")
    if values.mode != "reproduce":
        raise UserError(
            f"{given}: chooses tables and figures of --mode=reproduce; give that instead of "
            f"--mode={values.mode}, or leave --only out"
        )
    return list(values.only)


def _check_added(values: flags.FlagValues) -> None:
    """Refuses what only --mode=add_attack reads in another mode."""
    given = [name for name in ("url", "attack", "rows") if not values[name].using_default_value]
    if given and values.mode != "add_attack":
        raise UserError(
            f"--{given[0]}={values[given[0]].value}: only --mode=add_attack reads it; give that "
            f"instead of --mode={values.mode}, or leave it out"
        )


def _help(values: flags.FlagValues, run: str) -> str:
    """Returns the module's own words, every flag, every setting and where it is explained."""
    lines = [str(__doc__), "Flags:", ""]
    for name in _FLAGS:
        default = f" Default: {values[name].default}." if name in ("dataset", "mode") else ""
        text = f"{values[name].help}{default}".replace("|", " | ")  # or else no line holds --mode's
        lines += textwrap.wrap(f"  --{name:<9} {text}", 88, subsequent_indent=" " * 14)
    lines += ["", f"Settings of {run}, each overridden as in --config.rmc.k=256:", ""]
    for group, settings in _settings(values.config):
        lines += textwrap.wrap(f"  {group}: {settings}", 88, subsequent_indent=" " * 4)
    folder = pathlib.Path(__file__).parent / "config"
    return "\n".join([*lines, "", f"What each means and where its default comes from: {folder}"])


def _settings(config: ml_collections.ConfigDict, path: str = "config") -> Iterator[tuple[str, str]]:
    """Yields each group of settings, and its own settings with their values."""
    groups = {n: v for n, v in config.items() if isinstance(v, ml_collections.ConfigDict)}
    own = [f"{n}={textwrap.shorten(str(v), 70)}" for n, v in config.items() if n not in groups]
    if own:
        yield path, "  ".join(own)
    for name, group in groups.items():
        yield from _settings(group, f"{path}.{name}")


def _without_config(arguments: Sequence[str]) -> tuple[list[str], str]:
    """Returns the arguments without --config, and the config that they choose: FILE[:DATASET]."""
    first = flags.FlagValues()
    flags.DEFINE_string("dataset", "digits", "", flag_values=first)
    flags.DEFINE_string("config", None, "", flag_values=first)
    first(list(arguments), known_only=True)
    override_errors.check_once(arguments, first)
    if first.config is None:
        folder = any(a.lstrip("-").startswith("config.dataset.folder") for a in arguments)
        own = folder and first["dataset"].using_default_value
        dataset = "photos" if own else first.dataset
        shipped.of_dataset(dataset)  # one that isn't known is refused
        return list(arguments), str(shipped.find(dataset))
    given = (first.config, f"--config={first.config}", f"-config={first.config}", "--config")
    rest = [argument for argument in arguments if argument not in given]
    named, _, dataset = first.config.partition(":")
    if not dataset and not first["dataset"].using_default_value:
        dataset = first.dataset
    return rest, ":".join([str(shipped.find(named)), *([dataset] if dataset else [])])


def _overridden(values: flags.FlagValues) -> dict[str, object]:
    """Returns the config with the flags that stand for a field of it."""
    config: dict[str, Any] = values.config.to_dict()
    if values.seed is not None:
        config["seed"] = values.seed
    if values["import"].value:
        config["model"]["imports"] = [*config["model"]["imports"], *values["import"].value]
    if values.data_dir:
        config["dataset"]["data_dir"] = values.data_dir
    return config


@contextlib.contextmanager
def _only_run_in(workdir: pathlib.Path) -> Iterator[None]:
    """Keeps a second run out of the work directory; a killed run leaves no lock behind."""
    with (workdir / ".lock").open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"--workdir={workdir}: another run is at work there; wait for it, or choose another"
            ) from None
        yield


if __name__ == "__main__":
    sys.exit(main())
