"""The fast reader gives what the thorough one gives, whatever it is shown; and it is indeed the one that reads."""

from __future__ import annotations

import uuid
from pathlib import Path
from xml.sax.saxutils import escape

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.exchange.clixml import ClixmlError, flatten, read_object
from connectors.exchange.shapes import COMPILATIONS, SHAPES, ShapeReader

SAMPLE = Path(__file__).parent / "samples" / "exchange2016-get-mailbox.clixml"
NAMES = tuple(f"Name{number}" for number in range(8))
WANTED = (*NAMES[::2], "NotThere")


def leaf(tag: str, name: str, text: str) -> str:
    return f'<{tag} N="{name}">{text}</{tag}>'


# What .NET's writer lets through as it is, and what it escapes; both must come out alike by both ways.
texts = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"), max_size=12
).map(escape) | st.sampled_from(
    ["", " ", "a &amp; b", "_x000A_", "_xD83D__xDCF1_", "_x005F_x0041_", "&#233;", "a\tb\nc", "iPhone§Appl", "]]&gt;"]
)
TYPES = '<TN RefId="{0}"><T>X.Enum`1[[System.String, mscorlib, Version=4.0.0.0]]</T><T>System.Object</T></TN>'


def members(name: str) -> st.SearchStrategy[str]:
    number = st.integers(0, 3)
    return st.one_of(
        st.builds(leaf, st.sampled_from(["S", "S", "B", "I32", "DT", "G", "Version"]), st.just(name), texts),
        st.just(f'<Nil N="{name}" />'),
        st.just(f'<Nil N="{name}"/>'),
        st.just(f'<S N="{name}" />'),
        st.builds(leaf, st.just("C"), st.just(name), st.just("67")),
        st.builds(
            lambda n, t: f'<Obj N="{name}" RefId="{n}">{TYPES.format(n)}<ToString>{t}</ToString><I32>3</I32></Obj>',
            number,
            texts,
        ),
        st.builds(lambda n, t: f'<Obj N="{name}" RefId="{n}"><TNRef RefId="0" /><I32>{t}</I32></Obj>', number, texts),
        st.builds(
            lambda n, t, u: (
                f'<Obj N="{name}" RefId="{n}">{TYPES.format(n)}<ToString>{t}</ToString><Props><S N="Rdn">{u}</S>'
                f'<Nil N="Name0" /></Props></Obj>'
            ),
            number,
            texts,
            texts,
        ),
        st.builds(
            lambda n, ts: (
                f'<Obj N="{name}" RefId="{n}">{TYPES.format(n)}<LST>'
                + "".join(f"<S>{t}</S>" for t in ts)
                + "</LST></Obj>"
            ),
            number,
            st.lists(texts, max_size=3),
        ),
        st.just(f'<Obj N="{name}" RefId="2">{TYPES.format(2)}<LST /></Obj>'),
    )


@st.composite
def objects(draw: st.DrawFn) -> bytes:
    names = draw(st.permutations(NAMES)) if draw(st.integers(0, 5)) == 0 else NAMES
    body = "".join(draw(members(name)) for name in names)
    section = draw(st.sampled_from(["Props", "MS", "MS"]))
    shown = f"<ToString>{draw(texts)}</ToString>" if draw(st.booleans()) else ""
    return f'<Obj RefId="0">{TYPES.format(0)}{shown}<{section}>{body}</{section}></Obj>'.encode()


@settings(max_examples=40, deadline=None)
@given(st.lists(objects(), min_size=1, max_size=12))
def test_fast_and_thorough_agree(listing: list[bytes]) -> None:
    reader = ShapeReader(WANTED)
    for raw in [*listing, *listing]:
        assert reader.flatten(raw) == flatten(read_object(raw), WANTED)


@settings(max_examples=80, deadline=None)
@given(objects(), st.integers(0, 10_000), st.binary(min_size=1, max_size=3))
def test_damage_is_seen_by_both_or_neither(raw: bytes, at: int, damage: bytes) -> None:
    """After the look of the whole object was learnt, a damaged one must fail as the thorough reader fails."""
    reader = ShapeReader(WANTED)
    reader.flatten(raw)
    at %= len(raw)
    damaged = raw[:at] + damage + raw[at + len(damage) :]
    try:
        expected = flatten(read_object(damaged), WANTED)
    except ClixmlError:
        with pytest.raises(ClixmlError):
            reader.flatten(damaged)
    else:
        assert reader.flatten(damaged) == expected


def test_the_real_object_goes_the_fast_way_the_second_time() -> None:
    raw = SAMPLE.read_bytes()
    value = read_object(raw)
    names = tuple(name for name, held in value.properties.items() if held is None or isinstance(held, str))
    assert len(names) > 180
    reader = ShapeReader(names)
    assert [reader.flatten(raw) for _ in range(3)] == [flatten(value, names)] * 3
    assert (reader.thorough, reader.fast) == (1, 2)


def test_a_listing_is_learnt_within_a_few_objects() -> None:
    reader = ShapeReader(("Guid", "State"))
    for number in range(1000):
        state = '<Nil N="State" />' if number % 7 == 0 else leaf("S", "State", "Allowed")
        raw = f'<Obj RefId="0"><MS>{leaf("G", "Guid", str(uuid.UUID(int=number)))}{state}</MS></Obj>'.encode()
        assert reader.flatten(raw)[0] == str(uuid.UUID(int=number))
    assert reader.thorough <= 3


def test_learning_has_an_end() -> None:
    """A server that never sends two objects alike costs time, not memory."""
    reader = ShapeReader(("A0",))
    for number in range(300):
        raw = f'<Obj RefId="0"><MS>{leaf("S", f"A{number}", "x")}</MS></Obj>'.encode()
        reader.flatten(raw)
    assert len(reader._shapes) <= SHAPES
    assert reader._compilations <= COMPILATIONS


@pytest.mark.parametrize("raw", [b"\xff\xfe", b"", b"<Obj><MS></Obj>", b"<S>a</S>"])
def test_what_is_no_object_is_refused(raw: bytes) -> None:
    with pytest.raises(ClixmlError):
        ShapeReader(WANTED).flatten(raw)
