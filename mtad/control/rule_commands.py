"""The commands about fault rules (docs/faults.md)."""

from __future__ import annotations

from mtad.control.grammar import Command, OneOf, Role
from mtad.control.params import argument, flag, option
from mtad.control.view import Column, Fields, Table, Text

_NAME = argument("name", "the rule's name", metavar="NAME", required=True)
_NAMES = argument("names", "names of rules", metavar="NAME", repeated=True)
_SOME = argument("names", "names of rules", metavar="NAME", required=True, repeated=True)
_ALL = flag("all", "every rule")
_RUN = option("for_run", "those of this test run", metavar="RUN")
_TEXT = argument(
    "text", "what it says, as in the configuration, in one line", metavar="TEXT", required=True
)

_RULES = Table(
    "rules",
    (
        Column("name", "NAME"),
        Column("at", "AT"),
        Column("where", "WHERE", "brief"),
        Column("when", "WHEN", "brief"),
        Column("do", "DO", "brief"),
        Column("seen", "SEEN"),
        Column("fired", "FIRED"),
        Column("left", "LEFT"),
        Column("state", "STATE"),
        Column("source", "SOURCE"),
    ),
    empty="no rules",
)
_NOTES = Text("notes")
_VIEW = (_RULES, _NOTES)

RULE_COMMANDS = (
    Command(
        "rule add",
        "Add a fault rule, for sessions that begin from now on.",
        Role.OPERATE,
        (
            _NAME,
            _TEXT,
            option("for_run", "only for what has the tag of this test run", metavar="RUN"),
            option("before", "ask it before this one; default: as the last added", metavar="NAME"),
        ),
        view=_VIEW,
        details="Rules that were added are asked before those of the configuration, and last "
        "until they are removed or the daemon ends. One of a test run, or one that is over (it "
        "has fired as often as it may, or its time has passed), is forgotten an hour after it "
        "was asked last. The answer comes when the workers have the rule.",
        examples=(
            "rule add busy 'at: rcpt, when: {first: 3, per: peer}, do: {reply: 450 4.2.0 Later}'",
            "rule add slow 'at: rcpt, do: {delay: 5}' --for-run ci-17",
        ),
    ),
    Command(
        "rule list",
        "List fault rules, in the order in which they are asked.",
        Role.OBSERVE,
        view=(_RULES,),
        details="Seen is how often all was the case that a rule asks for, fired how often it "
        "acted; left is what it has, of hits and of time.",
        examples=("rule list",),
    ),
    Command(
        "rule show",
        "Show everything about a fault rule.",
        Role.OBSERVE,
        (_NAME,),
        view=(
            Text("rule.text"),
            Fields("rule", forms=(("made", "time"), ("until", "time")), without=("text",)),
        ),
        examples=("rule show busy",),
    ),
    Command(
        "rule change",
        "Have a fault rule say something else; its counts begin anew.",
        Role.OPERATE,
        (_NAME, _TEXT),
        view=_VIEW,
        details="It stays in its place. One of the configuration is as it is written again after "
        "the next reload.",
        examples=("rule change busy 'at: rcpt, do: {reply: 452 4.2.2 Full}'",),
    ),
    Command(
        "rule enable",
        "Have fault rules asked again.",
        Role.OPERATE,
        (_SOME,),
        view=_VIEW,
        examples=("rule enable busy",),
    ),
    Command(
        "rule disable",
        "Have fault rules not asked; they stay, with their counts.",
        Role.OPERATE,
        (_SOME,),
        view=_VIEW,
        examples=("rule disable busy slow",),
    ),
    Command(
        "rule reset",
        "Have fault rules begin anew: their counts, what they remember, and their time.",
        Role.OPERATE,
        (_NAMES, _ALL),
        rules=(OneOf(("names", "all"), required=True),),
        view=_VIEW,
        examples=("rule reset busy", "rule reset --all"),
    ),
    Command(
        "rule remove",
        "Forget fault rules; --all: those of profiles and files, too, until the next reload.",
        Role.OPERATE,
        (_NAMES, _ALL, _RUN),
        rules=(OneOf(("names", "all", "for_run"), required=True),),
        view=(Text("removed", empty="there was none"), _NOTES),
        details="Sessions that are under way keep what needs no counting. One of the "
        "configuration comes back with the next reload.",
        examples=("rule remove busy", "rule remove --for-run ci-17"),
    ),
    Command(
        "rule load",
        "Add the fault rules of a text: all of them, or none.",
        Role.OPERATE,
        (
            argument("text", "a mapping with the key rules", metavar="TEXT", required=True),
            option("name", "where the text is from, for what is wrong with it", default="text"),
            flag("replace", "remove the rules that were added before"),
        ),
        view=_VIEW,
        examples=("rule load 'rules: {slow: {at: banner, do: {delay: 5}}}'",),
    ),
    Command(
        "rule explain",
        "Say which fault rule would fire, and why the others would not; nothing is counted.",
        # Patterns are tried on what the caller says, in the process that serves everybody.
        Role.OPERATE,
        (
            option("at", "the moment: rcpt, 'byte 1000'", metavar="MOMENT", required=True),
            option("listener", "its name; default: that of the only one", metavar="NAME"),
            option("peer", "the client's address, or unix", metavar="ADDRESS", default="127.0.0.1"),
            option("helo", "what it has said to HELO", metavar="NAME"),
            flag("tls", "it is encrypted"),
            option("user", "who has logged in", metavar="NAME"),
            option("sender", "of the message; '' is the null sender", metavar="ADDRESS"),
            option("recipient", "of the message", metavar="ADDRESS"),
            option("size", "of the message", type="size"),
            option("header", "a field of the message", metavar="'NAME: VALUE'"),
            option("run", "the tag of a test run", metavar="NAME"),
        ),
        view=(
            Table(
                "rules",
                (Column("name", "NAME"), Column("fires", "FIRES"), Column("reason", "WHY")),
                empty="no rule is asked then",
            ),
        ),
        details="What is not given is not known yet.",
        examples=("rule explain --at rcpt --sender a@example.org --recipient b@example.com",),
    ),
)
"""In the order of the manual."""
