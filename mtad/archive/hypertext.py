"""HTML as a person would read it: its text and its links, in one linear pass. Never raises.

As in a browser, what is not closed reaches to the end. (html.parser rescans the rest for each
construct that is not closed: quadratic time, in the hands of whoever sends mail.)
"""

from __future__ import annotations

import html
import re

_TAG = re.compile(r"""<(/?)([a-zA-Z][^\s/>]*+)((?:[^>"']|"[^"]*"|'[^']*')*+)>""")
_TAG_BEGINS = re.compile(r"</?[a-zA-Z]")
_ATTRIBUTE = re.compile(r"""([^\s"'>/=]++)(?:\s*+=\s*+("[^"]*+"|'[^']*+'|[^\s"'>]++))?""")
_SPACE = re.compile(r"[ \t\r\n\f]+")
_GAP = re.compile(r"[ \n]+")
_LINKS = {"a", "area"}
_CELLS = {"td", "th"}
_BLOCKS = {
    "address", "article", "aside", "blockquote", "body", "br", "dd", "div", "dl", "dt",
    "fieldset", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr",
    "li", "main", "nav", "ol", "p", "pre", "section", "table", "tbody", "tfoot", "thead", "tr",
    "ul",
}  # fmt: skip
_NOT_SHOWN = {
    name: re.compile(rf"</{name}(?=[\s/>])", re.IGNORECASE)
    for name in ("script", "style", "template", "title")
}


def read(markup: str) -> tuple[str, list[str]]:
    """Return the text of ``markup``, a block a line, and what its links point to, in order."""
    text: list[str] = []
    links: list[str] = []
    at = 0
    while (sign := markup.find("<", at)) >= 0:
        text.append(_characters(markup[at:sign]))
        at = _behind(markup, sign, text, links)
    text.append(_characters(markup[at:]))
    lines = _GAP.sub(lambda gap: "\n" if "\n" in gap[0] else " ", "".join(text))
    return lines.strip(), links


def _behind(markup: str, sign: int, text: list[str], links: list[str]) -> int:
    """Take what begins with the ``<`` at ``sign``; return where to go on."""
    end = len(markup)
    if markup.startswith("<!--", sign):
        found = markup.find("-->", sign + 4)
        return end if found < 0 else found + 3
    if markup.startswith(("<!", "<?"), sign):
        return markup.find(">", sign) + 1 or end
    tag = _TAG.match(markup, sign)
    if tag is None:
        if _TAG_BEGINS.match(markup, sign):
            return end
        text.append("<")
        return sign + 1
    name = tag[2].lower()
    if name in _BLOCKS:
        text.append("\n")
    elif name in _CELLS:
        text.append(" ")
    elif name in _LINKS:
        links += _targets(tag[3])
    elif name in _NOT_SHOWN and not tag[1]:
        closed = _NOT_SHOWN[name].search(markup, tag.end())
        return closed.start() if closed else end
    return tag.end()


def _targets(attributes: str) -> list[str]:
    """Return the value of ``href``, if there is one."""
    for name, value in _ATTRIBUTE.findall(attributes):
        if name.lower() == "href":
            return [_unescaped(value.strip("\"'")).strip()]
    return []


def _characters(markup: str) -> str:
    return _unescaped(_SPACE.sub(" ", markup))


def _unescaped(markup: str) -> str:
    try:
        return html.unescape(markup)
    except ValueError:  # a number of thousands of digits
        return markup
