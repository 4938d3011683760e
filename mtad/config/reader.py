"""From a file to a document.

YAML is read event by event, and less of it than there is: no anchors and aliases, no tags, one
document. Plain scalars follow the core schema of YAML 1.2, so `no` is a text until an option
wants true or false, and `25:30` and `0660` stay as they were written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from mtad.config.document import MAX_PROBLEMS, Document, KeyPath
from mtad.config.texts import MAX_OCTETS, text_of
from mtad.config.values import found

try:
    from yaml import CSafeLoader as _Loader
except ImportError:  # PyYAML was built without libyaml
    from yaml import SafeLoader as _Loader  # type: ignore[assignment]

MAX_DEPTH = 16

# All but the characters of YAML 1.2.2 section 5.1, and the byte order mark. (Told by those, it
# would be a class of a million characters, and slow to compile.)
_NOT_YAML = re.compile(
    "[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufeff\ufffe\uffff]"
)

_SURROGATE = re.compile("[\ud800-\udfff]")

_RESOLVED = {"~": None, "null": None, "Null": None, "NULL": None} | {
    word: word.lower() == "true" for word in ("true", "True", "TRUE", "false", "False", "FALSE")
}
"""YAML 1.2.2 section 10.3.2, less the empty value, which is refused."""

_QUOTES = "put a value in quotes that begins with one of * & ! % @ ` { ["
_COMMA = "put a text with a comma in quotes"
_WRITE_OUT = 'write the value out, or put it in quotes: "*:25"'

# What a line that is not YAML looks like, or what the parser says of it, and what would mend it.
_HINTS = (
    (r"^ *\t", "indent with spaces: YAML takes no tabs"),
    (r"[:-] +[*&!%@`]", _QUOTES),
    (r"[:-] +\[[^\]]*:", 'put quotes around an address: "[::1]:25"'),
    (r"^[^'\"]*(?:'[^']*|\"[^\"]*)$", "close the quotes"),
    (r"^mapping values", "a colon that ends a key has a space after it; others need quotes"),
    (r"[{,] *\w+: [^,{}'\"]*: ", 'put a text with ": " in quotes'),
    (r"expected ',' or '[\]}]'$", "close the bracket"),
    (r"expected key$|<block end>", "begin all options of a stanza in the same column"),
)


def read(file: Path) -> Document:
    """Return what ``file`` says; whatever hinders that is among the document's problems."""
    document = Document(file)
    text = text_of(document)
    if text is not None:
        _build(document, text)
    return document


def parse(text: str, name: str) -> Document:
    """Return what ``text`` says, as `read` does; ``name`` stands for a file's in the problems."""
    document = Document(Path(name))
    if len(text) > MAX_OCTETS:
        document.report(0, (), "larger than 1 MiB")
    else:
        _build(document, text)
    return document


def _build(document: Document, text: str) -> None:
    text = text.removeprefix("\ufeff")
    if match := _NOT_YAML.search(text):
        line = text.count("\n", 0, match.start()) + 1
        document.report(line, (), f"the character U+{ord(match[0]):04X} is not allowed in YAML")
        return
    try:
        document.data = _Builder(document, text).build()
    except yaml.MarkedYAMLError as error:
        _report_syntax(document, text, error)
    except _StopReadingError:
        pass


def _report_syntax(document: Document, text: str, error: yaml.MarkedYAMLError) -> None:
    lines = text.splitlines()
    marks = [mark for mark in (error.problem_mark, error.context_mark) if mark is not None]
    places = [lines[mark.line] for mark in marks if mark.line < len(lines)] + [str(error.problem)]
    helps = [words for pattern, words in _HINTS for place in places if re.search(pattern, place)]
    line = min(marks[0].line + 1, len(lines)) if marks else 0
    document.report(line, (), f"not YAML: {error.problem}", helps[0] if helps else "")


class _StopReadingError(Exception):
    """What was reported makes the rest of the file meaningless."""


class _Builder:
    """Makes plain data of the events of a YAML parser."""

    def __init__(self, document: Document, text: str) -> None:
        self._document = document
        self._text = text
        self._events = self._parsed(text)

    def _parsed(self, text: str) -> Iterator[Any]:
        for event in yaml.parse(text, Loader=_Loader):
            # libyaml refuses these escapes itself.
            if isinstance(event, yaml.ScalarEvent) and _SURROGATE.search(event.value):
                self._fatal(event, (), "half of a surrogate pair, escaped")
            yield event

    def build(self) -> dict[str, Any]:
        """Return the mapping that the file must be; the parser's events are read to their end."""
        data = None
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                if data is not None:
                    self._fatal(event, (), "a second document", "leave out the line '---'")
                first = next(self._events)
                data = self._value(first, ())
                if not isinstance(data, dict):
                    self._fatal(first, (), f"expected a mapping of stanzas, found {found(data)}")
        if data is None:
            self._document.report(0, (), "empty", "write {} if nothing is meant")
        return data or {}

    def _value(self, event: Any, path: KeyPath) -> Any:
        if len(path) > MAX_DEPTH:
            self._fatal(event, path[:3], f"nested more than {MAX_DEPTH} deep")
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            self._flaw(event, path, "anchors and aliases are not taken", _WRITE_OUT)
            return self._skip(event)
        if getattr(event, "tag", None):
            self._flaw(event, path, "tags are not taken", _WRITE_OUT)
            return self._skip(event)
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(path)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(path)
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event, path)
        return None

    def _mapping(self, path: KeyPath) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for event in self._until(yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                self._fatal(event, path, "a key that is not a word", _QUOTES)
            here = (*path, event.value)
            if first := self._document.lines.get(here):
                self._flaw(event, here, f"given twice, first in line {first}", "keep one")
                self._skip(next(self._events))
                continue
            self._document.lines[here] = event.start_mark.line + 1
            beginning = next(self._events)
            if data and ":" not in self._text[event.end_mark.index : beginning.end_mark.index]:
                self._flaw(event, here, "no value", _COMMA)  # {reply: 450 Later, please}
                continue
            value = self._value(beginning, here)
            if here not in self._document.flawed:
                data[event.value] = value
        return data

    def _skip(self, event: Any) -> None:
        """Pass over the value that begins with ``event``."""
        depth = 0
        while True:
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if not depth:
                return
            event = next(self._events)

    def _sequence(self, path: KeyPath) -> list[Any]:
        data = []
        for index, event in enumerate(self._until(yaml.SequenceEndEvent)):
            here = (*path, index)
            self._document.lines[here] = event.start_mark.line + 1
            data.append(self._value(event, here))
        return data

    def _scalar(self, event: yaml.ScalarEvent, path: KeyPath) -> Any:
        if not event.implicit[0]:
            return event.value  # in quotes
        if event.value == "":
            self._flaw(event, path, "no value", "write null, {} or [] if nothing is meant")
            return None
        return _resolve(event.value)

    def _until(self, end: type[yaml.Event]) -> Iterator[Any]:
        for event in self._events:
            if isinstance(event, end):
                return
            yield event

    def _flaw(self, event: Any, path: KeyPath, reason: str, hint: str = "") -> None:
        self._document.flawed.add(path)
        self._document.report(event.start_mark.line + 1, path, reason, hint)
        if len(self._document.problems) >= MAX_PROBLEMS:
            raise _StopReadingError

    def _fatal(self, event: Any, path: KeyPath, reason: str, hint: str = "") -> None:
        self._flaw(event, path, reason, hint)
        raise _StopReadingError


def _resolve(text: str) -> Any:
    if text in _RESOLVED:
        return _RESOLVED[text]
    if re.fullmatch(r"-?(?:0|[1-9][0-9]{0,17})", text):
        return int(text)
    if re.fullmatch(r"-?[0-9]{1,17}\.[0-9]{1,17}", text):
        return float(text)
    return text
