"""The fast way through a listing: objects of one cmdlet look alike, so the look is learnt once and then only matched.

From an object that the thorough reader (clixml.py) has read, a regular expression is made that describes the whole
object from its first byte to its last: every tag literally, every text by the characters it may hold. An object that
matches it entirely has no surprise in it, and the wanted texts are its groups; any other is read thoroughly and the
expression learns its look too, within limits. So nothing is ever guessed: what the expression does not describe, it
does not read. About 20 us an object of 50 properties, against 300.

It refuses to be clever: references, characters as numbers, wanted lists, unknown tags and whitespace between elements
all take the thorough way.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from connectors.exchange.clixml import BOM, CliObject, ClixmlError, flatten, read_object, unescape

# Limits of learning; a compilation takes some milliseconds.
SHAPES = 8
FORMS = 8
COMPILATIONS = 100

_LEAVES = frozenset(
    "S B I16 I32 I64 U16 U32 U64 By SB Db Sg D DT TS G URI Version XD SBK BA C".split()  # noqa: SIM905 - as in MS-PSRP
)
_TOKENS = re.compile(r"<[^<>]*>|[^<>]+")
_TAG = re.compile(r"<(/?)([A-Za-z0-9]+)((?: [A-Za-z]+=\"[^\"<>&]*\")*)( ?/?)>")
_NAME = re.compile(r" N=\"([^\"]*)\"")
_REF_ID = re.compile(r"RefId=\"\d+\"")

# What may stand in a text: nothing that XML forbids, refers by, or normalises (carriage returns).
_CHARACTER = r"[^<>&\x00-\x08\x0b-\x1f\ufffe\uffff]"
_TEXT = rf"{_CHARACTER}*+(?:&(?:amp|lt|gt|quot|apos);{_CHARACTER}*+)*+"
_ENTITIES = (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&apos;", "'"), ("&amp;", "&"))


class _UnsuitedError(Exception):
    """This object cannot be described."""


def plain(text: str) -> str:
    """The text as meant: entities and _xHHHH_ escapes undone."""
    if "&" in text:
        for entity, character in _ENTITIES:
            text = text.replace(entity, character)
    return unescape(text)


@dataclass(frozen=True, slots=True)
class _Member:
    """One property of the object with the pattern of its present form; the pattern of a wanted one has one group."""

    name: str
    pattern: str
    is_captured: bool = False


@dataclass(slots=True)
class _Shape:
    """Objects with the same members in the same order; every member has had one or several forms."""

    frame: tuple[str | None, ...]  # patterns of what lies between members; None stands for a member
    names: tuple[str, ...]
    forms: list[dict[str, bool]]  # pattern: whether it holds a group
    expression: re.Pattern[str] = field(default_factory=lambda: re.compile(r"(?!)"))
    groups: tuple[int | tuple[int, ...], ...] = ()  # of each wanted name: its group or groups, 0 for none

    def compile(self, wanted: tuple[str, ...]) -> None:
        """Make the expression and note where the wanted names are in it."""
        numbers: dict[str, list[int]] = {}
        count = 0
        parts: list[str] = []
        members = iter(zip(self.names, self.forms, strict=True))
        for piece in self.frame:
            if piece is not None:
                parts.append(piece)
                continue
            name, forms = next(members)
            for is_captured in forms.values():
                if is_captured:
                    count += 1
                    numbers.setdefault(name, []).append(count)
            parts.append("(?:" + "|".join(forms) + ")")
        self.expression = re.compile("".join(parts))
        self.groups = tuple(_position(numbers.get(name, [])) for name in wanted)


def _position(numbers: list[int]) -> int | tuple[int, ...]:
    if len(numbers) > 1:
        return tuple(numbers)
    return numbers[0] if numbers else 0


class ShapeReader:
    """flatten(read_object(raw), names), fast. Keeps what it learns of the look, nothing of the content.

    Not thread-safe. `fast` and `thorough` count which way objects went.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names
        self.fast = 0
        self.thorough = 0
        self._shapes: list[_Shape] = []
        self._compilations = 0

    def flatten(self, raw: bytes) -> tuple[str | None, ...]:
        """The wanted properties' texts in the order of `names`; None for null or missing.

        Raises ClixmlError as the thorough reader does.
        """
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            raise ClixmlError("not UTF-8") from error
        shapes = self._shapes
        for index, shape in enumerate(shapes):
            match = shape.expression.fullmatch(text)
            if match is not None:
                if index:
                    shapes.insert(0, shapes.pop(index))
                self.fast += 1
                return self._values(shape, match, "&" in text or "_x" in text)
        self.thorough += 1
        value = read_object(raw)
        self._learn(text, value)
        return flatten(value, self.names)

    def _values(self, shape: _Shape, match: re.Match[str], is_escaped: bool) -> tuple[str | None, ...]:
        found = (None, *match.groups())
        values = [
            found[group]
            if isinstance(group, int)
            else next((found[number] for number in group if found[number] is not None), None)
            for group in shape.groups
        ]
        if is_escaped:
            values = [None if value is None else plain(value) for value in values]
        return tuple(values)

    def _learn(self, text: str, value: CliObject) -> None:
        if self._compilations >= COMPILATIONS:
            return
        try:
            frame, members = _describe(text.removeprefix(BOM.decode()), frozenset(self.names))
        except _UnsuitedError:
            return
        names = tuple(member.name for member in members)
        if not set(names) <= value.properties.keys():
            return  # the two readers disagree about what is a property: never by this way
        shape = next((shape for shape in self._shapes if shape.frame == frame and shape.names == names), None)
        if shape is None:
            if len(self._shapes) >= SHAPES:
                return
            shape = _Shape(frame, names, [{_null(name): False} for name in names])
            self._shapes.append(shape)
        for forms, member in zip(shape.forms, members, strict=True):
            if len(forms) < FORMS:
                # The null form stays last: it is the rarest.
                forms.setdefault(member.pattern, member.is_captured)
                null = _null(member.name)
                forms[null] = forms.pop(null)
        self._compilations += 1
        shape.compile(self.names)


def _null(name: str) -> str:
    return rf'<Nil N="{re.escape(name)}" ?/>'


def _describe(text: str, wanted: frozenset[str]) -> tuple[tuple[str | None, ...], list[_Member]]:
    """The frame and members of an object; raises _UnsuitedError."""
    tokens = _TOKENS.findall(text)
    if sum(map(len, tokens)) != len(text) or not tokens or not tokens[0].startswith("<Obj "):
        raise _UnsuitedError
    frame: list[str | None] = []
    members: list[_Member] = []
    position = 0
    depth = 0
    in_section = False
    while position < len(tokens):
        token = tokens[position]
        closing, name, _attributes, _ = _tag(token)
        if depth == 1 and name in ("Props", "MS") and not token.endswith("/>"):
            in_section = not closing
            frame.append(re.escape(token))
            position += 1
            continue
        if in_section:
            end = _element_end(tokens, position)
            members.append(_member(tokens[position:end], wanted))
            frame.append(None)
            position = end
            continue
        if depth == 0 or closing:
            depth += -1 if closing else 1
            frame.append(_literal(token))
            position += 1
            continue
        end = _element_end(tokens, position)
        frame.append(_pattern(tokens[position:end]))
        position = end
    names = [member.name for member in members]
    if depth != 0 or len(set(names)) != len(names):
        raise _UnsuitedError
    return tuple(frame), members


def _member(tokens: list[str], wanted: frozenset[str]) -> _Member:
    _, tag, attributes, _ = _tag(tokens[0])
    named = _NAME.search(attributes)
    if named is None or "_x" in named[1]:
        raise _UnsuitedError
    name = named[1]
    if tag == "Nil":
        return _Member(name, _null(name))
    if name not in wanted:
        return _Member(name, _pattern(tokens))
    if tag == "Obj":
        return _Member(name, _pattern(tokens, capture=_shown(tokens)), is_captured=True)
    if tag in _LEAVES and tag != "C":
        return _Member(name, _pattern(tokens, capture=0), is_captured=True)
    raise _UnsuitedError


def _shown(tokens: list[str]) -> int:
    """Index of the opening tag whose text display() would show: the ToString, else a primitive content."""
    position = 1
    content = -1
    while position < len(tokens) - 1:
        _, tag, _, _ = _tag(tokens[position])
        if tag == "ToString":
            return position
        if tag in _LEAVES and tag != "C":
            content = position
        elif tag not in ("TN", "TNRef", "Props", "MS"):
            content = -1
        position = _element_end(tokens, position)
    if content < 0:
        raise _UnsuitedError
    return content


def _pattern(tokens: list[str], capture: int = -1) -> str:
    """A pattern of these tokens; the text of the element that opens at index `capture` becomes the group."""
    parts: list[str] = []
    position = 0
    while position < len(tokens):
        token = tokens[position]
        if not token.startswith("<"):
            raise _UnsuitedError  # text beside elements
        closing, tag, _, slash = _tag(token)
        if closing or "/" in slash:
            if position == capture:
                # An element closed in itself is the empty text.
                parts.append(_literal(token) + "()")
            else:
                parts.append(_literal(token))
            position += 1
            continue
        if tag in _LEAVES or tag in ("T", "ToString"):
            end = _element_end(tokens, position)
            if end - position > 3 or (end - position == 3 and tokens[position + 1].startswith("<")):
                raise _UnsuitedError
            text = f"({_TEXT})" if position == capture else _TEXT
            parts.append(_literal(token) + text + _literal(tokens[end - 1]))
            position = end
            continue
        if tag not in ("Obj", "TN", "LST", "Props", "MS"):
            raise _UnsuitedError
        parts.append(_literal(token))
        position += 1
    return "".join(parts)


def _element_end(tokens: list[str], start: int) -> int:
    """Index after the element that begins at `start`."""
    depth = 0
    for position in range(start, len(tokens)):
        token = tokens[position]
        if not token.startswith("<"):
            continue
        closing, _, _, slash = _tag(token)
        if closing:
            depth -= 1
        elif "/" not in slash:
            depth += 1
        if depth == 0:
            return position + 1
    raise _UnsuitedError


def _tag(token: str) -> tuple[bool, str, str, str]:
    match = _TAG.fullmatch(token)
    if match is None:
        raise _UnsuitedError
    return bool(match[1]), match[2], match[3], match[4]


def _literal(tag: str) -> str:
    """The tag literally, but for the numbers of references, which depend on what else is null."""
    _tag(tag)
    return _REF_ID.sub(r'RefId="\\d+"', re.escape(tag))
