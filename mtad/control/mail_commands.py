"""The commands about captured mail, all of which the archive carries out.

A query is in the language of docs/query.md. An id names a message or a session and sorts by time;
``latest`` is the newest. A cursor is an id, too: what comes later has a greater one.
"""

from __future__ import annotations

from dataclasses import replace

from mtad.control.grammar import Command, OneOf, Role
from mtad.control.params import LATEST, argument, flag, option
from mtad.control.values import Form
from mtad.control.view import Column, Fields, Line, Table, Text

_QUERY = option("query", "only what this matches: 'from:alice subject:welcome'", metavar="QUERY")
_RUN = option("run", "only what has the tag of this test run", metavar="NAME")
_AFTER = option("after", "count only what came after this cursor", type="id", metavar="CURSOR")
_AFTER_NOW = replace(_AFTER, default=LATEST)
_ID = argument("id", "the message's id, or latest", type="id", metavar="ID", required=True)
_PIECE = (
    option("offset", "where to begin", type="size", default=0),
    option("length", "how much at most", type="count", default=49_152),
)

_COLUMNS = (
    Column("id", "ID"),
    Column("received", "RECEIVED", "time"),
    Column("sender", "FROM", "path"),
    Column("recipients", "TO", "brief"),
    Column("subject", "SUBJECT", "brief"),
    Column("size", "SIZE", "size"),
    Column("listener", "LISTENER"),
)
_MESSAGES = Table("messages", _COLUMNS, empty="no messages")
_UNINDEXED = Fields("unindexed", title="not indexed yet, and left out")
_INSTEAD = Table(
    "instead",
    _COLUMNS,
    empty="waited in vain; nothing else came",
    title="waited in vain; what came instead",
)
_TRANSCRIPT = (
    Fields("session", forms=(("began", "time"), ("duration", "duration"))),
    Table(
        "entries",
        (Column("at", "SECONDS", "seconds"), Column("who", ""), Column("line", "TRANSCRIPT")),
    ),
    Text("messages", title="messages"),
)
_PIECE_VIEW = (Fields(),)
_NAMES: tuple[tuple[str, str, Form], ...] = (
    ("listeners", "LISTENER", "value"),
    ("senders", "SENDER DOMAIN", "path"),
    ("recipients", "RECIPIENT DOMAIN", "value"),
)
_COUNTED = (Column("messages", "MESSAGES"), Column("octets", "OCTETS", "size"))
_STATS = (
    Fields("total", forms=(("since", "time"), ("octets", "size"))),
    Fields("kept", title="kept", forms=(("octets", "size"),)),
    Fields("pruned", title="pruned", forms=(("octets", "size"),)),
    Table(
        "rates",
        (
            Column("minutes", "MINUTES"),
            Column("messages", "MESSAGES/S"),
            Column("octets", "OCTETS/S", "size"),
            Column("sessions", "SESSIONS/S"),
        ),
    ),
    Table(
        "phases",
        (
            Column("phase", "PHASE"),
            Column("count", "COUNT"),
            Column("p50", "P50", "milliseconds"),
            Column("p90", "P90", "milliseconds"),
            Column("p99", "P99", "milliseconds"),
            Column("max", "MAX", "milliseconds"),
        ),
    ),
    Table("replies", (Column("code", "REPLY"), Column("count", "COUNT"))),
    *(
        section
        for names, title, form in _NAMES
        for section in (
            Table(f"{names}.top", (Column("name", title, form), *_COUNTED)),
            Fields(f"{names}.others", title=f"other {names}", forms=(("octets", "size"),)),
        )
    ),
)
_STORE = (
    Fields(forms=(("octets", "size"),), without=("ok", "problems")),
    Text("problems", title="problems"),
)

MAIL_COMMANDS = (
    Command(
        "message list",
        "List captured messages, the newest first.",
        Role.OBSERVE,
        (
            _QUERY,
            option("since", "only what came after an id, or a time", metavar="ID|TIME"),
            option("limit", "how many at most", type="count", default=50),
            _RUN,
        ),
        relayed=True,
        view=(_MESSAGES, _UNINDEXED),
        details="A time is 2026-01-02T03:04:05Z, with or without seconds, or 15m: so long ago. "
        "Long subjects and lists of recipients are cut; --json has all of them.",
        examples=(
            "message list",
            "message list --query 'from:alice has:attachment'",
            "message list --since 15m --limit 5",
        ),
    ),
    Command(
        "message count",
        "Count captured messages.",
        Role.OBSERVE,
        (_QUERY, _RUN),
        relayed=True,
        view=(Text("count"),),
        examples=("message count --query subject:welcome",),
    ),
    Command(
        "message cursor",
        "Print the place after the newest message there is, to wait for what comes after it.",
        Role.OBSERVE,
        relayed=True,
        view=(Text("cursor"),),
        examples=("message cursor",),
    ),
    Command(
        "message wait",
        "Wait until so many messages have come, and list them, the oldest first.",
        Role.OBSERVE,
        (
            _QUERY,
            _RUN,
            option("count", "how many", type="count", default=1),
            option("timeout", "how long at most", type="seconds", default=30.0),
            _AFTER,
        ),
        relayed=True,
        view=(_MESSAGES, _INSTEAD),
        details="Messages that are there already count. With a cursor, taken before whatever sends "
        "the mail was begun, only later ones do: nothing is missed, and nothing old is found. In "
        "vain, the exit status is 4, and what came instead is listed.",
        examples=(
            "message wait --query to:bob@example.com",
            "message wait --after 1htpwj0wkxntn --count 3 --timeout 5",
        ),
    ),
    Command(
        "message expect-none",
        "Wait, and fail as soon as a message comes.",
        Role.OBSERVE,
        (
            _QUERY,
            _RUN,
            option("for", "how long", type="seconds", required=True),
            _AFTER_NOW,
        ),
        relayed=True,
        view=(Table("messages", _COLUMNS),),
        details="Without a cursor, what comes from now on counts.",
        examples=("message expect-none --query to:bob@example.com --for 2",),
    ),
    Command(
        "message follow",
        "Show each message as it comes, until interrupted.",
        Role.OBSERVE,
        (_QUERY, _RUN),
        relayed=True,
        stream=True,
        view=(Line(_COLUMNS),),
        details="Nothing is left out: a reader that does not keep up is told later.",
        examples=("message follow --query lint:bare-lf",),
    ),
    Command(
        "message show",
        "Show a message: its envelope, its headers, its parts and its text.",
        Role.OBSERVE,
        (_ID,),
        relayed=True,
        view=(
            Fields(
                "message",
                forms=(
                    ("received", "time"),
                    ("date", "time"),
                    ("size", "size"),
                    ("sender", "path"),
                    ("recipient_options", "options"),
                ),
                without=("deliveries", "headers", "parts", "text", "links", "cut"),
            ),
            Table(
                "message.deliveries",
                (
                    Column("recipient", "RECIPIENT", "path"),
                    Column("kind", "KIND"),
                    Column("hop", "HOP"),
                    Column("state", "STATE"),
                    Column("tries", "TRIES"),
                    Column("due", "DUE", "time"),
                    Column("said", "SAID"),
                ),
            ),
            Table("message.headers", (Column("0", "HEADER"), Column("1", ""))),
            Table(
                "message.parts",
                (
                    Column("number", "PART"),
                    Column("type", "TYPE"),
                    Column("charset", "CHARSET"),
                    Column("disposition", "DISPOSITION"),
                    Column("name", "NAME"),
                    Column("size", "SIZE", "size"),
                ),
            ),
            Text("message.links", title="links"),
            Text("message.text", title="text"),
            Text("message.cut", title="cut short here, and whole in message raw"),
        ),
        examples=("message show latest", "message show 1htpwj0wkxntn"),
    ),
    Command(
        "message raw",
        "Print a message, byte for byte as it was sent.",
        Role.OBSERVE,
        (_ID, *_PIECE),
        relayed=True,
        view=_PIECE_VIEW,
        details="Over the socket octets are in base64, a piece at a time: next is the offset of "
        "the following one.",
        examples=("message raw latest",),
    ),
    Command(
        "message part",
        "Print the decoded content of a part of a message.",
        Role.OBSERVE,
        (
            _ID,
            argument(
                "number",
                "the part's, as message show has it",
                type="count",
                metavar="NUMBER",
                required=True,
            ),
            *_PIECE,
        ),
        relayed=True,
        view=_PIECE_VIEW,
        details="Over the socket as message raw.",
        examples=("message part latest 2",),
    ),
    Command(
        "message transcript",
        "Show the session that brought a message, line by line.",
        Role.OBSERVE,
        (_ID,),
        relayed=True,
        view=_TRANSCRIPT,
        examples=("message transcript latest",),
    ),
    Command(
        "message extract",
        "Print a link or a code that a message has.",
        Role.OBSERVE,
        (
            argument(
                "id", "the message's id; default: the newest that matches", type="id", metavar="ID"
            ),
            _QUERY,
            _RUN,
            option("link", "the link of this number, counted from 1", type="count"),
            option(
                "code", "what this regular expression finds, or its first group", metavar="REGEX"
            ),
        ),
        rules=(
            OneOf(("link", "code"), required=True),
            OneOf(("id", "query")),
            OneOf(("id", "run")),
        ),
        relayed=True,
        view=(Text("value"),),
        details="Links are those of the text and of the HTML, in their order; a code is looked for "
        "in the subject, then in the text.",
        examples=(
            "message extract latest --link 1",
            "message extract --query to:bob@example.com --code '[0-9]{6}'",
        ),
    ),
    Command(
        "message delete",
        "Delete messages, for good.",
        Role.OPERATE,
        (
            argument("ids", "ids of messages, or latest", type="id", metavar="ID", repeated=True),
            _QUERY,
            _RUN,
            flag("all", "every message"),
        ),
        rules=(OneOf(("ids", "query", "run", "all"), required=True),),
        relayed=True,
        view=(Fields(without=("ok", "unindexed")), _UNINDEXED),
        examples=("message delete 1htpwj0wkxntn", "message delete --run ci-17"),
    ),
    Command(
        "message release",
        "Send messages that are held, or could not be delivered.",
        Role.OPERATE,
        (
            argument("ids", "ids of messages, or latest", type="id", metavar="ID", repeated=True),
            _QUERY,
            _RUN,
            option("to", "where to, instead of where the rule says", metavar="HOST:PORT"),
        ),
        rules=(OneOf(("ids", "query", "run"), required=True),),
        relayed=True,
        view=(Fields(),),
        details="They are sent to those recipients alone. Of what a query matches, the rest stays "
        "as it is. message show tells what becomes of them.",
        examples=(
            "message release latest",
            "message release --query outgoing:held --to mx.example.org:25",
        ),
    ),
    Command(
        "message import",
        "Keep a message that was not sent here.",
        Role.OPERATE,
        (
            option("upload", "a name of the client's own, the same for each piece", required=True),
            option("octets", "a piece of the message, in base64", required=True),
            flag("last", "it is the last piece"),
            option("name", "where the message is from", metavar="NAME"),
            option("envelope", "what is known of it, as JSON", metavar="JSON"),
        ),
        relayed=True,
        view=(Fields(),),
        details="A message goes over the socket in pieces; the last one keeps it, and has its id.",
    ),
    Command(
        "session list",
        "List sessions, the newest first.",
        Role.OBSERVE,
        (
            option(
                "query",
                "only what this matches: 'listener:mx peer:192.0.2.1 failed'",
                metavar="QUERY",
            ),
            option("limit", "how many at most", type="count", default=50),
        ),
        relayed=True,
        view=(
            Table(
                "sessions",
                (
                    Column("id", "ID"),
                    Column("began", "BEGAN", "time"),
                    Column("duration", "FOR", "duration"),
                    Column("listener", "LISTENER"),
                    Column("peer", "PEER"),
                    Column("helo", "HELO"),
                    Column("user", "USER"),
                    Column("messages", "MESSAGES"),
                    Column("ended", "ENDED"),
                    Column("failed", "FAILED"),
                ),
                empty="no sessions",
            ),
        ),
        details="Fields are listener:, peer:, helo:, auth:, tls:, after: and before:, and the word "
        "failed: something was refused, or it ended without QUIT, or with no message after MAIL.",
        examples=("session list", "session list --query 'failed after:10m'"),
    ),
    Command(
        "session show",
        "Show a session, line by line.",
        Role.OBSERVE,
        (argument("id", "the session's id, or latest", type="id", metavar="ID", required=True),),
        relayed=True,
        view=_TRANSCRIPT,
        examples=("session show latest",),
    ),
    Command(
        "stats",
        "Show messages and octets by listener, domain and reply, rates, and times.",
        Role.OBSERVE,
        relayed=True,
        view=_STATS,
        details="Rates are per second, over the last 1, 5 and 15 minutes. Times are from the "
        "connection to the banner, from a command to its reply, and from the end of a message to "
        "the reply to it. What has been pruned or deleted stays counted.",
    ),
    Command(
        "stats reset",
        "Begin the statistics anew; mail stays.",
        Role.OPERATE,
        relayed=True,
    ),
    Command(
        "store check",
        "Look whether everything that is kept is whole.",
        Role.OBSERVE,
        relayed=True,
        view=_STORE,
        details="Reads all of it: the database as a whole, every message's content, the index. "
        "unfinished are sessions with messages and without an end: they go on, or their worker "
        "was killed.",
    ),
    Command(
        "store repair",
        "Mend what store check has found.",
        Role.OPERATE,
        (flag("drop", "delete messages whose content is missing or changed"),),
        relayed=True,
        view=_STORE,
        details="Files of no message are removed; the index is mended. What can be read of a "
        "damaged database goes into a new one, and the old stays beside it, as "
        "mail.db.corrupt-TIME; senders are told to try later meanwhile.",
    ),
)
"""In the order of the manual."""
