"""A notification mail out of a template: Markdown with {{placeholders}} in, subject, HTML and text out.

Pure, and never surprised: a value is put in after the Markdown has been read, so that whatever a person or a phone is
called comes out as that text. HTML that a template brings along is cleaned to a short list of tags. Links lead to
http, https, mailto and tel alone.

Refuses to know which template, language or values a device calls for.
"""

from __future__ import annotations

import difflib
import hashlib
import html
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import quote

import nh3
from markdown_it import MarkdownIt
from markdown_it.token import Token

from sync.notifying import mail_html
from sync.notifying.mail_texts import (
    KINDS,
    LANGUAGES,
    TEST_MAIL,
    UNKNOWN,
    MailTemplate,
    default_template,
    known_language,
    reason_text,
    state_text,
)

__all__ = [
    "KINDS",
    "LANGUAGES",
    "PLACEHOLDERS",
    "MailTemplate",
    "RenderedMail",
    "TemplateProblem",
    "default_template",
    "known_language",
    "reason_text",
    "render",
    "state_text",
    "trial_mail",
    "validate",
]

PLACEHOLDERS = (
    "person", "person_first_name", "mailbox", "device", "device_model", "device_type", "device_os", "device_id",
    "reason", "state", "organization", "tenant", "enrollment_link", "help_contact", "date",
)  # fmt: skip
# Where such a value stands in text and is an address, it becomes a link.
_LINKED = ("enrollment_link", "help_contact")
SUBJECT_LIMIT = 200
BODY_LIMIT = 20_000
VALUE_LIMIT = 1000

TAGS = frozenset(
    {"a", "b", "blockquote", "br", "code", "em", "h1", "h2", "h3", "h4", "hr", "i", "li", "ol", "p", "pre", "s",
     "strong", "u", "ul"}
)  # fmt: skip
SCHEMES = frozenset({"http", "https", "mailto", "tel"})

# Whoever may see the preview may send it any text: none of these looks at a sign more than a few times.
_PLACEHOLDER = re.compile(r"\{\{([^{}]*)\}\}")
_TAG = re.compile(r"<\s*+(?:/\s*+)?([A-Za-z][A-Za-z0-9:-]*+)([^<>]*+)")
_ATTRIBUTE = re.compile(r"(?<![\w:-])([A-Za-z][\w:-]*+)\s*+=")
_MAIL_ADDRESS = re.compile(r"[^\s@<>\"']+@[^\s@<>\"']+\.[^\s@<>\"']+")
# Characters that turn or hide the text around them.
_TURNING = {*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200B, 0x2060, 0xFEFF}


@dataclass(frozen=True, slots=True)
class TemplateProblem:
    """What is wrong with a template, and where: part subject or body, line and column from 1 (0: the whole part).

    Errors keep a template from being used: unknown_placeholder (name, suggestion), malformed_placeholder (name: what
    stands there), too_long (name: the limit), empty, several_lines. The others only say what will not come out:
    html_removed (name: tag, or tag and attribute), link_removed (name: its address), missing_link.
    """

    code: str
    part: str
    line: int = 0
    column: int = 0
    name: str = ""
    suggestion: str = ""
    is_error: bool = True


@dataclass(frozen=True, slots=True)
class RenderedMail:
    """html: a whole document. text: the same for who reads plain text."""

    subject: str
    html: str
    text: str


# --- checking ---------------------------------------------------------------------------------------------------


def validate(template: MailTemplate) -> tuple[TemplateProblem, ...]:
    """Everything that is wrong, in the order of the text."""
    return (*_subject_problems(template.subject), *_body_problems(template.body))


def _subject_problems(subject: str) -> Iterator[TemplateProblem]:
    if not subject.strip():
        yield TemplateProblem("empty", "subject")
    if len(subject.strip().splitlines()) > 1:
        yield TemplateProblem("several_lines", "subject")
    if len(subject) > SUBJECT_LIMIT:
        yield TemplateProblem("too_long", "subject", name=str(SUBJECT_LIMIT))
    yield from _placeholder_problems("subject", subject)


def _body_problems(body: str) -> Iterator[TemplateProblem]:
    if not body.strip():
        yield TemplateProblem("empty", "body")
        return
    if len(body) > BODY_LIMIT:
        yield TemplateProblem("too_long", "body", name=str(BODY_LIMIT))
        return
    found = [*_placeholder_problems("body", body), *_html_problems(body)]
    yield from sorted(found, key=lambda one: (one.line, one.column))
    if "enrollment_link" not in map(_name, _PLACEHOLDER.finditer(body)):
        yield TemplateProblem("missing_link", "body", is_error=False)


def _placeholder_problems(part: str, text: str) -> Iterator[TemplateProblem]:
    for match in _PLACEHOLDER.finditer(text):
        name = _name(match)
        if name in PLACEHOLDERS:
            continue
        line, column = _position(text, match.start())
        if not name or "\n" in name:
            yield TemplateProblem("malformed_placeholder", part, line, column, match[0][:40])
            continue
        wanted = re.sub(r"[\s-]+", "_", name.strip().lower())
        near = difflib.get_close_matches(wanted, PLACEHOLDERS, 1, 0.6)
        yield TemplateProblem("unknown_placeholder", part, line, column, name, near[0] if near else "")
    # Of the same length, so that positions stay.
    rest = _PLACEHOLDER.sub(lambda match: " " * len(match[0]), text)
    for match in re.finditer(r"\{\{[^\n]{0,40}|[^\n{}]{0,40}\}\}", rest):
        yield TemplateProblem("malformed_placeholder", part, *_position(text, match.start()), match[0].strip()[:40])


def _html_problems(body: str) -> Iterator[TemplateProblem]:
    """Of the parts that Markdown reads as HTML and as links."""
    seen: set[str] = set()
    for token in _flat(_MARKDOWN.parse(body)):
        names = [_address_removed(token)] if token.type == "link_open" else []
        if token.type == "image":
            names = ["img"]
        elif token.type in ("html_inline", "html_block"):
            names = list(_removed(token.content))
        for name in names:
            if name and name not in seen:
                seen.add(name)
                code = "link_removed" if token.type == "link_open" else "html_removed"
                yield TemplateProblem(code, "body", *_found(body, name), name, is_error=False)


def _address_removed(link: Token) -> str:
    """The address of a link that will not be one; "" when it stays. One that is a placeholder is judged when filled."""
    address = str(link.attrGet("href") or "")
    is_filled = "{{" in address or "%7B%7B" in address
    return "" if is_filled or _is_link(address) else address


def _removed(content: str) -> Iterator[str]:
    for match in _TAG.finditer(content):
        tag = match[1].lower()
        if tag not in TAGS:
            yield tag
            continue
        for attribute in _ATTRIBUTE.findall(match[2]):
            if (tag, attribute.lower()) != ("a", "href"):
                yield f"{tag} {attribute.lower()}"


def _found(body: str, name: str) -> tuple[int, int]:
    """Where a tag, "tag attribute" or address stands; the tag's own place for an attribute."""
    wanted = name.split(" ")[0]
    signs = ("![",) if name == "img" and "<img" not in body.lower() else (f"<{wanted}", f"</{wanted}", wanted)
    for sign in signs:
        offset = body.lower().find(sign.lower())
        if offset >= 0:
            return _position(body, offset)
    return 0, 0


def _position(text: str, offset: int) -> tuple[int, int]:
    line = text.count("\n", 0, offset) + 1
    return line, offset - (text.rfind("\n", 0, offset) + 1) + 1


def _name(placeholder: re.Match[str]) -> str:
    return placeholder[1].strip()


# --- rendering --------------------------------------------------------------------------------------------------


def render(template: MailTemplate, values: Mapping[str, str], language: str = "en") -> RenderedMail:
    """The mail. Never raises: an unknown placeholder stays as it was written, a value that is missing is worded."""
    code = known_language(language)
    known = {name: _clean(values.get(name) or UNKNOWN[code].get(name, "")) for name in PLACEHOLDERS}
    fill = _Filling(template.body[:BODY_LIMIT], known)
    tokens = _MARKDOWN.parse(fill.marked)
    for token in tokens:
        if token.children:
            token.children = list(_linked(token.children, fill))
    written = _MARKDOWN.renderer.render(tokens, _MARKDOWN.options, {})
    cleaned = nh3.clean(
        fill.put(written, lambda value: html.escape(value, quote=True)),
        tags=set(TAGS),
        attributes={"a": {"href"}},
        attribute_filter=lambda tag, name, value: value if _is_link(value) else None,
        url_schemes=set(SCHEMES),
        link_rel=None,
    )
    subject = _clean(_PLACEHOLDER.sub(lambda match: known.get(_name(match), match[0]), template.subject))[
        :SUBJECT_LIMIT
    ]
    return RenderedMail(subject, mail_html.document(cleaned, subject, code), mail_html.plain(cleaned))


def trial_mail(language: str, organization: str = "", date: str = "") -> RenderedMail:
    """What the test button sends."""
    template = TEST_MAIL[known_language(language)]
    return render(template, {"organization": organization, "date": date}, language)


class _Filling:
    """Placeholders as words that Markdown leaves alone, and what they stand for."""

    def __init__(self, text: str, values: Mapping[str, str]) -> None:
        self._values = list(values.items())
        # A word that no text holds, of the same length whatever the text is.
        stem = text
        while stem in text:
            stem = f"p{hashlib.sha256(stem.encode('utf-8', 'surrogatepass')).hexdigest()[:20]}n"
        self._word = re.compile(rf"{stem}(\d+)end")
        numbers = {name: number for number, (name, _) in enumerate(self._values)}

        def mark(match: re.Match[str]) -> str:
            number = numbers.get(_name(match))
            return match[0] if number is None else f"{stem}{number}end"

        self.marked = _PLACEHOLDER.sub(mark, text)

    def put(self, text: str, write: Callable[[str], str] = str) -> str:
        """The values in the place of the words; `write` makes each fit its surroundings."""
        return self._word.sub(lambda match: write(self._values[int(match[1])][1]), text)

    def in_address(self, address: str) -> str:
        """A value that is the whole address stays; as a part of one it is encoded."""
        if self._word.fullmatch(address):
            return address
        return self.put(address, lambda value: quote(value, safe=""))

    def parts(self, text: str) -> Iterator[tuple[str, str]]:
        """(piece of text, address that it shall lead to, or "") in order."""
        end = 0
        for match in self._word.finditer(text):
            name, value = self._values[int(match[1])]
            address = _address(value) if name in _LINKED else ""
            if address:
                yield text[end : match.start()], ""
                yield match[0], address
                end = match.end()
        yield text[end:], ""


def _linked(tokens: list[Token], fill: _Filling) -> Iterator[Token]:
    """An inline run in which addresses that stand as text are links, and pictures are their words."""
    depth = 0
    for token in tokens:
        depth += {"link_open": 1, "link_close": -1}.get(token.type, 0)
        if token.type == "html_inline":
            depth += _anchor_depth(token.content)
        if token.type == "link_open":
            token.attrSet("href", fill.in_address(str(token.attrGet("href") or "")))
        if token.type == "image":
            yield Token("text", "", 0, content=token.content)
        elif token.type == "text" and not depth:
            for piece, address in fill.parts(token.content):
                if address:
                    yield Token("link_open", "a", 1, attrs={"href": address})
                if piece:
                    yield Token("text", "", 0, content=piece)
                if address:
                    yield Token("link_close", "a", -1)
        else:
            yield token


def _anchor_depth(content: str) -> int:
    match = _TAG.match(content)
    if match is None or match[1].lower() != "a":
        return 0
    return -1 if content.lstrip("< ").startswith("/") else 1


def _new_markdown() -> MarkdownIt:
    # A line break is a line break, as whoever types a mail expects. HTML is read, and cleaned at the end.
    reader = MarkdownIt("commonmark", {"html": True, "breaks": True})
    # Every address makes a link here, so that it can be reported; the cleaning takes those away that may not be.
    reader.validateLink = lambda url: True  # type: ignore[method-assign]
    return reader


_MARKDOWN = _new_markdown()


def _flat(tokens: list[Token]) -> Iterator[Token]:
    for token in tokens:
        yield token
        yield from _flat(token.children or [])


def _address(value: str) -> str:
    """What a value leads to: a page, or somebody's mailbox; "" when it is no address."""
    if _MAIL_ADDRESS.fullmatch(value):
        return f"mailto:{value}"
    return value if _is_link(value) else ""


def _is_link(address: str) -> bool:
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]*):(.*)", address.strip(), re.DOTALL)
    if match is None or match[1].lower() not in SCHEMES or any(sign.isspace() for sign in address.strip()):
        return False
    is_page = match[1].lower() in ("http", "https")
    return bool(re.match(r"//[^/?#]", match[2])) if is_page else bool(match[2])


def _clean(value: str) -> str:
    """One line, of signs that can be seen; not longer than a line should be."""
    kept = (
        " " if unicodedata.category(sign) in ("Cc", "Zl", "Zp", "Cs") else sign
        for sign in value
        if ord(sign) not in _TURNING
    )
    return " ".join("".join(kept).split())[:VALUE_LIMIT]
