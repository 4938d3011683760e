"""Plain words for what the schema refuses."""

from __future__ import annotations

from difflib import get_close_matches
from itertools import islice
from types import UnionType
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from mtad.config.document import MAX_PROBLEMS, Document, KeyPath, may_hold_secrets
from mtad.config.schema import Settings
from mtad.config.values import REFUSED, found
from mtad.config.values import kind as kind_of
from mtad.errors import ConfigError

_S = TypeVar("_S", bound=BaseModel)

_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number of seconds",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "literal_error": "{expected}",
    "greater_than": "more than {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "less_than_equal": "at most {le:g}",
}

_SHAPES = {
    ("list_type", str): "write it in brackets, as a list of one",
    ("dict_type", list): "write `name:` lines, without dashes",
    ("model_type", list): "write `option: value` lines, without dashes",
    ("model_type", type(None)): "write {} if nothing is meant",
}


def validated(document: Document, kind: type[_S]) -> _S:
    """Return what ``document`` says, which is to be a ``kind``.

    Raises:
        ConfigError: with every problem, also those that were found in reading it.
    """
    if document.problems and not document.data:
        raise ConfigError(document.in_order())  # what is missing, for want of all, is no problem
    try:
        result = kind.model_validate(document.data)
    except ValidationError as errors:
        report(document, errors, kind)
        raise ConfigError(document.in_order()) from None
    if document.problems:
        raise ConfigError(document.in_order())
    return result


def report(document: Document, errors: ValidationError, root: type[BaseModel] = Settings) -> None:
    """Report the errors of what ``document`` says, which is a ``root``."""
    for error in islice(errors.errors(include_url=False), MAX_PROBLEMS):
        path = tuple(part for part in error["loc"] if part != "[key]")
        if path not in document.flawed:
            reason, hint = _words(error, path, root)
            document.report(document.line(path), path, reason, hint)


def _words(error: ErrorDetails, path: KeyPath, root: type[BaseModel]) -> tuple[str, str]:
    context = error.get("ctx", {})
    match error["type"]:
        case "extra_forbidden":
            return "unknown option", _meant(path, root)
        case "missing":
            return "required, but not there", ""
        case kind if kind == REFUSED:
            return context["reason"], context["help"]
        case kind:
            expected = _EXPECTED[kind].format(**context)
            value = error["input"]
            shown = kind_of(value) if may_hold_secrets(path) else found(value)
            return f"expected {expected}, found {shown}", _SHAPES.get((kind, type(value)), "")


def _meant(path: KeyPath, root: type[BaseModel]) -> str:
    """Return where the option belongs, what it resembles, or what there is."""
    word = str(path[-1])
    known = list(_options(path[:-1], root))
    if close := get_close_matches(word, known, 1):
        return f"did you mean {close[0]}?"
    homes = [stanza for stanza in _options((), root) if word in _options((stanza,), root)]
    if homes:
        return f"it belongs under {homes[0]}"
    return "the options here are " + ", ".join(known)


def _options(path: KeyPath, root: type[BaseModel]) -> dict[str, Any]:
    """Return the options of the mapping at ``path``, each with its type."""
    here: Any = root
    for part in path:
        here = _without_none(here)
        here = _members(here)[str(part)] if _is_model(here) else get_args(here)[-1]
    here = _without_none(here)
    return _members(here) if _is_model(here) else {}


def _members(model: type[BaseModel]) -> dict[str, Any]:
    return {field.alias or name: field.annotation for name, field in model.model_fields.items()}


def _without_none(annotation: Any) -> Any:
    """Return ``T`` for ``T | None``."""
    return get_args(annotation)[0] if isinstance(annotation, UnionType) else annotation


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
