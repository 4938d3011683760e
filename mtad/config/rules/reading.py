"""What reads a value, or many, and says all that is wrong: the parts of kinds of values."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from pydantic import PlainValidator, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from mtad.config.document import KeyPath
from mtad.config.values import found, refuse

_N = TypeVar("_N", int, float)
_T = TypeVar("_T")

Problem = tuple[KeyPath, PydanticCustomError]
"""What is wrong, and its place below what is validated."""


def many(problems: Iterable[Problem]) -> ValidationError:
    """Return one error for several problems."""
    details = [InitErrorDetails(type=error, loc=path, input=None) for path, error in problems]
    return ValidationError.from_exception_data("rule", details)


def clash(option: str, reason: str, help: str = "") -> ValidationError:  # noqa: A002
    """Return the error for what an option says beside the others of its mapping."""
    return many([((option,), refuse(reason, help))])


def every(read: Callable[[Any], _T]) -> Callable[[Any], tuple[_T, ...]]:
    """Return what reads a list, or one value as a list of one; every problem is reported."""

    def read_all(value: Any) -> tuple[_T, ...]:
        if not isinstance(value, list):
            return (read(value),)
        if not value:
            raise refuse("an empty list", "leave the option out")
        results: list[_T] = []
        problems: list[Problem] = []
        for index, one in enumerate(value):
            try:
                results.append(read(one))
            except PydanticCustomError as error:
                problems.append(((index,), error))
        if problems:
            raise many(problems)
        return tuple(results)

    return read_all


def several(read: Callable[[Any], _T]) -> Callable[[Any], tuple[_T, ...]]:
    """Return what reads as `every` does, and takes nothing twice."""
    read_every = every(read)

    def read_all(value: Any) -> tuple[_T, ...]:
        results = read_every(value)
        again = [index for index, one in enumerate(results) if one in results[:index]]
        if again:
            raise many(
                ((index,), refuse(f"{found(value[index])} is given twice", "keep one"))
                for index in again
            )
        return results

    return read_all


def number(least: float, most: float) -> PlainValidator:
    """Return what reads a number, both ends included."""

    def read(value: Any) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise refuse(f"expected a number, found {found(value)}")
        return float(_within(value, least, most))

    return PlainValidator(read)


def whole(least: int, most: int) -> PlainValidator:
    """Return what reads a whole number, both ends included."""

    def read(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise refuse(f"expected a whole number, found {found(value)}")
        return _within(value, least, most)

    return PlainValidator(read)


def _within(value: _N, least: _N, most: _N) -> _N:
    if value < least:
        raise refuse(f"expected at least {least}, found {value}")
    if value > most:
        raise refuse(f"expected at most {most}, found {value}")
    return value


def below(name: str, error: ValidationError) -> Iterable[Problem]:
    """Yield the problems of ``error`` as those of the key ``name``; all are of `refuse`."""
    for one in error.errors(include_url=False):
        yield (name, *one["loc"]), refuse(one["ctx"]["reason"], one["ctx"]["help"])
