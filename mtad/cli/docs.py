"""Reference pages, generated from what the program itself goes by.

``python -m mtad.cli.docs PAGE`` prints one.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any, cast

from mtad.cli.man import mtactl_1, mtad_8
from mtad.cli.manual import mtactl_md
from mtad.config.schema import Settings

_INTRODUCTION = """\
# Configuration

*Generated from the schema by `python -m mtad.cli.docs configuration`.*

mtad is configured by YAML files: `mtad run FILES`, or /etc/mtad/mtad.yaml. A stanza is a key at
the left margin. With several files a stanza of a later file replaces the whole stanza of an
earlier one, and `mtactl config show` names the file that won:

```yaml
security:
  user: ecuser
  group: ecuser
  capabilities: "cap_net_bind_service+ep"

listeners:
  mx:
    listen: "*:25"
  submission:
    listen: "127.0.0.0/28:587"    # sixteen listeners, submission/127.0.0.0 and so on
    profile: small
  local:
    listen: /run/mtad/lmtp.sock
    protocol: lmtp
    mode: 0666

profiles:
  small:
    limits: {message_size: 1 MiB}
    tls: off

rules:                            # faults on purpose
  later:
    at: rcpt
    when: {first: 1, per: recipient}
    do: {reply: 450 4.2.0 Try again later}

control:
  operate: ["@adm"]
```

`mtad check FILES` says everything that is wrong with them, each with its file, line and option;
nothing is opened. `mtad explain FILES` says what a start would do with privileges. `mtad schema`
prints the JSON schema, for editors.

No file may be larger than 1 MiB or anything but UTF-8. YAML's anchors, aliases and tags are not
taken, and a key without a value is refused: write `null`, `{}` or `[]`. Words are what they look
like: `no` is false where true or false is wanted and a name elsewhere, and `0660` is octal.
"""

_FORMS = {
    "account": "the name of a user or group, or its id as a number",
    "account or @group": "a user's name or id, or a group's with `@` before it: `\"@adm\"`",
    "alert": "the name or the number of an alert of TLS (RFC 8446 section 6): `handshake_failure`",
    "class": "`package.module:Class`",
    "duration": "seconds: `90`, or with s, m, h, d, w: `12h`, `7d`; at most 36500d",
    "endpoint": '`192.0.2.1:25`, `"[2001:db8::1]:25"`, `"*:25"` for all addresses, IPv4 and '
    "IPv6, `127.0.0.0/24:25` for each address of a network, or the path of a unix socket; port 0 "
    "is any free one",
    "extensions": "one of the names that `extensions` of a profile knows, or a list of them",
    "facts": "one of the words, or a list of them",
    "hop": "a host and a port: `mx.example.com:25`, `10.0.0.1:25` or `[::1]:25`",
    "host name": "a domain, or an address in brackets (RFC 5321 section 4.1.2)",
    "moments": "a word, or a list of words: `[mail, rcpt]`",
    "mode": "permission bits in octal, with a leading zero: `0660`",
    "name": "letters, digits, `_`, `.` and `-`, at most 63, the first a letter or a digit",
    "network": 'an IP address, or a network without host bits: `127.0.0.0/8`, `"::1"`',
    "networks or unix": "one, or a list: `[10.0.0.0/8, unix]`",
    "octets": "text, of which each character is one octet",
    "patterns": "one, or a list of which one has to match: a glob of the whole text, such as "
    '`"*@example.com"`, or `/a regular expression/` that is found in it; neither looks at case',
    "patterns by field": "a mapping of names of header fields to patterns",
    "path": "an absolute path; `~/` is the home of the user who runs mtad",
    "range": "of sizes: `>1M`, `<64K` or `1K..2M`",
    "reply": "`450 4.2.0 Try again later`: a code, perhaps an enhanced status code, and text; a "
    "list of such lines, all with the same code; or `none`",
    "seconds": "a number from 0 to 86400",
    "size": "octets: `33554432`, or with K, M, G or KiB, MiB, GiB, the powers of 1024: `32M`",
    "status": "an enhanced status code (RFC 3463): `5.1.1`",
    "time": "seconds: `0.5`, `90`, or with s, m, h, d, w: `4h`; at most 36500d",
    "times of a day": "`02:00-04:00`, or a list, in UTC; what ends before it begins ends on the "
    "next day",
}


def configuration_md() -> str:
    """Return docs/configuration.md."""
    schema = Settings.model_json_schema()
    stanzas = [
        "\n".join(_stanza(name, option, schema["$defs"]))
        for name, option in schema["properties"].items()
    ]
    kinds = "\n".join(f"- **{form}**: {words}." for form, words in _FORMS.items())
    return "\n".join([_INTRODUCTION, *stanzas, f"## Kinds of value\n\n{kinds}\n"])


_HEAD = "| option | value | default | |\n| --- | --- | --- | --- |"


def _stanza(name: str, option: dict[str, Any], models: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of a section: one option, a mapping of options, or such mappings by name."""
    named = option.get("additionalProperties", {})
    model = _model(named or option, models)
    yield f"## {name}\n"
    if model is None:
        yield from (_HEAD, _row(name, option, required=False), "")
    else:
        about = option.get("description") or model["description"]
        yield from _mapping(f"{name}.NAME" if named else name, about, model, models)


def _mapping(name: str, about: str, model: dict[str, Any], models: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of a mapping of options, and of those inside it."""
    yield inspect.cleandoc(about) + "\n"
    options = model["properties"].items()
    inner = {key: found for key, option in options if (found := _model(option, models))}
    yield _HEAD
    for key, option in options:
        if key not in inner:
            yield _row(f"{name}.{key}", option, required=key in model.get("required", []))
    yield ""
    for key, found in inner.items():
        yield f"### {name}.{key}\n"
        yield from _mapping(f"{name}.{key}", found["description"], found, models)


def _model(option: dict[str, Any], models: dict[str, Any]) -> dict[str, Any] | None:
    """Return the mapping that an option is, or may be."""
    if "$ref" in option:
        return cast(dict[str, Any], models[option["$ref"].rpartition("/")[2]])
    return next(filter(None, (_model(way, models) for way in option.get("anyOf", ()))), None)


def _row(name: str, option: dict[str, Any], *, required: bool) -> str:
    default = "required" if required else f"`{json.dumps(option['default'])}`"
    return f"| `{name}` | {_kind(option)} | {default} | {option['description']} |"


def _kind(option: dict[str, Any]) -> str:
    """Return what an option takes, in words."""
    for keyword, words in _KEYWORDS.items():
        if keyword in option:
            return words(option)
    return _TYPES[option["type"]](option)


# What of a JSON schema says most about a value, and the words for it.
_KEYWORDS: dict[str, Callable[[dict[str, Any]], str]] = {
    "anyOf": lambda option: " or ".join(map(_kind, option["anyOf"])),
    # What is no text is another spelling.
    "enum": lambda option: " or ".join(f"`{one}`" for one in option["enum"] if type(one) is str),
    "const": lambda option: f"`{option['const']}`",
    "format": lambda option: str(option["format"]),
    "$ref": lambda _: "mapping",
    "properties": lambda _: "mapping",
}
_TYPES: dict[str, Callable[[dict[str, Any]], str]] = {
    "array": lambda option: f"list: {_kind(option['items'])}",
    "boolean": lambda _: "`true` or `false`",
    "integer": lambda option: f"{option['minimum']} to {option['maximum']}",
    "number": lambda option: f"{option['minimum']} to {option['maximum']}",
    "null": lambda _: "`null`",
    "object": lambda option: f"mapping: {_kind(option['additionalProperties'])}",
    "string": lambda _: "text",
}


PAGES = {
    "configuration": configuration_md,
    "mtactl": mtactl_md,
    "mtactl.1": mtactl_1,
    "mtad.8": mtad_8,
}

if __name__ == "__main__":
    sys.stdout.write(PAGES[sys.argv[1]]())
