"""A daemon for the rules and options that the documentation shows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import yaml

from harness.daemon import Daemon, config, home

# What a scene may want: credentials in clear, XCLIENT.
_DEFAULT: dict[str, Any] = {
    "hostname": "host.example",
    "auth": {"before_tls": True},
    "xclient_from": ["127.0.0.1"],
}
_ANYWHERE: dict[str, Any] = {"listen": "127.0.0.1:0"}


class Faulty(NamedTuple):
    """The running daemon."""

    daemon: Daemon

    @contextmanager
    def rules(self, texts: Sequence[str]) -> Iterator[None]:
        """Have these rules, in this order, while the block runs; what they closed is open again."""
        try:
            for number, text in enumerate(texts):
                self.daemon.call("rule.add", name=f"rule-{number}", text=text)
            yield
        finally:
            self.daemon.call("rule.remove", all=True)
            self.daemon.call("listener.start", all=True)

    def again(self) -> None:
        """Have the rules begin anew."""
        self.daemon.call("rule.reset", all=True)

    def port(self, option: str) -> int:
        """Return the port of the listener that has what the documentation shows so."""
        return self.daemon.port(_name(option))


@contextmanager
def faulty(options: Sequence[str] = ()) -> Iterator[Faulty]:
    """Run it, with a listener for each of ``options``: ``profile: {…}`` or ``listener: {…}``."""
    listeners = {"mx": _ANYWHERE, "hop": _ANYWHERE, "lmtp": _ANYWHERE | {"protocol": "lmtp"}}
    profiles = {"default": _DEFAULT}
    for text in options:
        ((kind, shown),) = yaml.safe_load(text).items()
        name = _name(text)
        if kind == "profile":
            profiles[name] = _DEFAULT | shown
            shown = {"profile": name}
        listeners[name] = _ANYWHERE | shown
    with home() as directory:
        file = directory / "faulty.yaml"
        file.write_text(json.dumps({"listeners": listeners, "profiles": profiles}))
        with Daemon(directory, config(directory, workers=2), files=[file]) as daemon:
            yield Faulty(daemon.wait_ready())


def _name(text: str) -> str:
    return "-".join(re.findall("[a-z0-9]+", text.lower()))[:60]
