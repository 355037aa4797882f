"""What every group of settings has: checks, and conversion to and from plain dictionaries."""

import dataclasses
import numbers
import types
import typing
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from rmc_tf.common.errors import UserError, did_you_mean
from rmc_tf.common.paths import expanded

_NUMBERS: dict[Any, type] = {int: numbers.Integral, float: numbers.Real}


def require(holds: bool, field: str, value: object, rule: str) -> None:
    """Refuses a setting that breaks a rule.

    Raises:
      UserError: unless `holds`; it names the field, its value and the rule.
    """
    if not holds:
        raise UserError(f"--config.{field}={value}: {rule}")


class Section:
    """What every group of settings has: checks, and conversion to and from plain dictionaries."""

    _where: ClassVar[str] = ""
    """The path of the group, as in "rmc.calibration"; a star stands for a name."""

    def __init_subclass__(cls) -> None:
        """Gives each group's fields their types before its own rules, which rely on them."""
        own_rules = cls.__dict__.get("__post_init__")

        def check(self: Section) -> None:
            self._take_types()
            if own_rules:
                own_rules(self)

        cls.__post_init__ = check  # type: ignore[attr-defined]

    def _take_types(self) -> None:
        where = f"{self._where}." if self._where else ""
        for name, hint in _hints(type(self)).items():
            value = _convert(hint, getattr(self, name), f"{where}{name}")
            object.__setattr__(self, name, value)

    def _require(self, holds: bool, field: str, rule: str) -> None:
        """Refuses the value of a field that breaks a rule; see `require`."""
        require(holds, f"{self._where}.{field}", getattr(self, field), rule)

    def _within(self, interval: str, *fields: str) -> None:
        """Refuses values outside of an interval, written as in "(0, 1]" or "[1, ∞)"."""
        low, high = interval[1:-1].replace("∞", "inf").split(", ")
        rule = f"must be in {interval}"
        if high == "inf":
            rule = f"must be {low} or more" if interval[0] == "[" else f"must be above {low}"
            rule += ", and finite"
        for field in fields:
            value = getattr(self, field)
            above = value > float(low) or (interval[0] == "[" and value == float(low))
            below = value < float(high) or (interval[-1] == "]" and value == float(high))
            self._require(above and below, field, rule)

    def _from_home(self, *fields: str) -> None:
        """Has paths that begin with ~ begin at the user's folder: after = no shell sees to it."""
        for field in fields:
            object.__setattr__(self, field, expanded(getattr(self, field)))

    def to_dict(self) -> dict[str, Any]:
        """Returns the settings as nested dictionaries that JSON can hold."""
        return dataclasses.asdict(self)  # type: ignore[call-overload, no-any-return]

    def overridden(self, overrides: Mapping[str, Any]) -> Self:
        """Returns the same with some settings, named by paths such as "rmc.k", replaced.

        Raises:
          UserError: no setting has that path, or it can't have that value.
        """
        values, hints = self.to_dict(), _hints(type(self))
        for path, value in overrides.items():
            *groups, name = path.split(".")
            group: Any = values
            for number, each in enumerate([*groups, name]):
                if not isinstance(group, dict) or each not in group:
                    known = group if isinstance(group, dict) else ()
                    prefix = "".join(f"{before}." for before in groups[:number])
                    remedy = did_you_mean(each, known, prefix)
                    raise UserError(f"--config.*.overrides.{path}: no such setting; {remedy}")
                if number < len(groups):
                    group = group[each]
            group[name] = value
        changed = {path.partition(".")[0] for path in overrides}
        new = {name: _convert(hints[name], values[name], name) for name in changed}
        return dataclasses.replace(self, **new)  # type: ignore[type-var]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str = "") -> Self:
        """Returns the settings that `to_dict` described.

        Raises:
          UserError: a field is unknown, of the wrong type, or out of its range.
        """
        hints = _hints(cls)
        for name in values:
            if name not in hints:
                remedy = did_you_mean(name, hints, where)
                raise UserError(f"--config.{where}{name}: no such setting; {remedy}")
        for field in dataclasses.fields(cls):  # type: ignore[arg-type]
            optional = field.default, field.default_factory
            if field.name not in values and optional == (dataclasses.MISSING, dataclasses.MISSING):
                raise UserError(f"--config.{where}{field.name}: missing; give it a value")
        return cls(**{n: _convert(hints[n], v, f"{where}{n}") for n, v in values.items()})


def _hints(group: Any) -> dict[str, Any]:
    """Returns the type that each field of a group declares."""
    hints = typing.get_type_hints(group)
    return {field.name: hints[field.name] for field in dataclasses.fields(group)}


def _convert(hint: Any, value: Any, where: str) -> Any:
    """Returns a plain value as the type that a field declares."""
    origin = typing.get_origin(hint)
    if isinstance(hint, type) and issubclass(hint, Section):
        if isinstance(value, Mapping):
            return hint.from_dict(value, f"{where}.")
        if isinstance(value, hint):
            return value
    elif origin is Literal:
        choices = typing.get_args(hint)
        names = ", ".join(str(choice) for choice in choices if choice != "")
        rule = f"must be one of {names}" if "" not in choices else f"must be {names}, or empty"
        require(value in choices, where, value, rule)
        return value
    elif origin is tuple:
        if isinstance(value, (list, tuple)):
            if len(value) == 1 and isinstance(value[0], str):  # as by --config.…=a,b
                value = value[0].split(",")
            return tuple(_convert(typing.get_args(hint)[0], item, where) for item in value)
    elif hint is Any:
        return value
    elif origin is types.UnionType:  # "… | None"
        kind = next(each for each in typing.get_args(hint) if each is not type(None))
        return None if value is None else _convert(kind, value, where)
    elif origin is dict:
        if isinstance(value, Mapping):
            item = typing.get_args(hint)[1]
            return {str(k): _item(item, v, where, str(k)) for k, v in value.items()}
    elif isinstance(value, bool) or hint not in _NUMBERS:
        if type(value) is hint:
            return value
    elif isinstance(value, _NUMBERS[hint]):
        return hint(value)  # NumPy's numbers, and a whole number for any
    name = hint.__name__ if isinstance(hint, type | types.GenericAlias) else str(hint)
    rule = f"expected {name}, got {type(value).__name__}"
    if origin is tuple and isinstance(value, str):
        rule += f"; a comma makes a tuple: ({value!r},)"
    raise UserError(f"--config.{where}={value!r}: {rule}")


def _item(hint: Any, value: Any, where: str, name: str) -> Any:
    """Returns one of several named groups of settings, which doesn't know its own name."""
    try:
        return _convert(hint, value, f"{where}.{name}")
    except UserError as error:
        raise UserError(str(error).replace(f"{where}.*", f"{where}.{name}")) from None
