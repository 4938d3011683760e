"""Words that stand for more than themselves, as `auto` and `any`; annotations of the schema."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from mtad.config.values import found, kind, refuse


@dataclass(frozen=True, slots=True)
class Word:
    """Annotates an optional type: ``word`` stands for None in the file, and null for nothing.

    ``shape`` is the type of anything else, ``what`` the words for it.
    """

    word: str
    shape: type
    what: str

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Read the word as None, and write None as the word."""
        return core_schema.no_info_before_validator_function(
            self._read,
            handler(source),
            serialization=core_schema.wrap_serializer_function_ser_schema(
                lambda value, inner: self.word if value is None else inner(value)
            ),
        )

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Name the word where the type has null."""
        described = handler(schema)
        return described | {
            "anyOf": [
                {"const": self.word} if one == {"type": "null"} else one
                for one in described["anyOf"]
            ]
        }

    def _read(self, value: Any) -> Any:
        if value == self.word:
            return None
        if isinstance(value, self.shape):
            return value
        raise refuse(f"expected {self.word} or {self.what}, found {kind(value)}")


@dataclass(frozen=True, slots=True)
class InShort:
    """Annotates a stanza: each of ``words`` stands for the mapping that it has here."""

    words: dict[str, dict[str, Any]]

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Read a word as its mapping."""
        return core_schema.no_info_before_validator_function(self._read, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Name the words besides the mapping."""
        return {"anyOf": [{"enum": list(self.words)}, handler(schema)]}

    def _read(self, value: Any) -> Any:
        word = "off" if value is False else value  # as YAML 1.1 has it
        if isinstance(word, str):
            if word in self.words:
                return self.words[word]
            raise refuse(
                f"expected {', '.join(self.words)} or a mapping, found {found(value)}",
            )
        return value
