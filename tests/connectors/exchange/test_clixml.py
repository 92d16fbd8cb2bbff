"""The thorough reader: every shape that MS-PSRP has, the real sample whole, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from connectors.exchange.clixml import CliObject, ClixmlError, display, flatten, items, read, read_object, unescape

SAMPLE = Path(__file__).parent / "samples" / "exchange2016-get-mailbox.clixml"

ENUM = (
    '<Obj RefId="0"><TN RefId="0"><T>X.DeviceAccessState</T><T>System.Enum</T></TN>'
    "<ToString>Quarantined</ToString><I32>3</I32></Obj>"
)
LIST = (
    '<Obj RefId="0"><TN RefId="0"><T>Microsoft.Exchange.Data.MultiValuedProperty`1[[System.String]]</T></TN>'
    "<LST><S>A1</S><Nil /><S>B2</S></LST></Obj>"
)
HASHTABLE = (
    '<Obj RefId="0"><TN RefId="0"><T>System.Collections.Hashtable</T></TN><DCT>'
    '<En><S N="Key">Add</S><Obj N="Value" RefId="1"><TN RefId="1"><T>System.Object[]</T></TN>'
    "<LST><S>A1</S></LST></Obj></En></DCT></Obj>"
)


@pytest.mark.parametrize(
    ("xml", "expected"),
    [
        ("<S>text</S>", "text"),
        ("<S></S>", ""),
        ("<S />", ""),
        ("<Nil />", None),
        ("<B>true</B>", "true"),
        ("<I32>-7</I32>", "-7"),
        ("<C>67</C>", "C"),
        ("<DT>2021-09-28T10:32:01-07:00</DT>", "2021-09-28T10:32:01-07:00"),
        ("<G>9b9387fe-e1b1-4695-97bd-b0a0bebe7ce2</G>", "9b9387fe-e1b1-4695-97bd-b0a0bebe7ce2"),
        ("<S>a &amp; b &lt;c&gt;</S>", "a & b <c>"),
        ("<S>line_x000A_feed</S>", "line\nfeed"),
        ("<S>_x005F_x000A_</S>", "_x000A_"),
        ("<S>_xD83D__xDCF1_</S>", "📱"),
        ("<S>iPhone§Appl 漢字 \u202e</S>", "iPhone§Appl 漢字 \u202e"),
        (ENUM, "Quarantined"),
        (LIST, "A1, , B2"),
    ],
)
def test_values_show_as_powershell_would_show_them(xml: str, expected: str | None) -> None:
    assert display(read(xml.encode())) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("_x0000_", "\ufffd"),  # no text column holds NUL
        ("_xD83D_", "\ufffd"),  # half a pair
        ("_xDCF1__xD83D_", "\ufffd\ufffd"),
        ("_x12_", "_x12_"),
        ("_xZZZZ_", "_xZZZZ_"),
        ("x_x0041_", "xA"),
    ],
)
def test_escapes(text: str, expected: str) -> None:
    assert unescape(text) == expected


def test_an_enum_keeps_label_number_and_types() -> None:
    value = read_object(ENUM.encode())
    assert (value.text, value.content, value.types) == ("Quarantined", "3", ("X.DeviceAccessState", "System.Enum"))


def test_a_list_and_a_hashtable_keep_their_members() -> None:
    assert items(read(LIST.encode())) == ("A1", "B2")
    table = read_object(HASHTABLE.encode()).content
    assert isinstance(table, dict)
    assert items(table["Add"]) == ("A1",)


@pytest.mark.parametrize(("value", "expected"), [(None, ()), ("one", ("one",)), (["a", None, "b"], ("a", "b"))])
def test_items(value: str | list[str | None] | None, expected: tuple[str, ...]) -> None:
    assert items(value) == expected  # type: ignore[arg-type] # list is invariant


def test_references_and_extended_properties() -> None:
    value = read_object(
        b'<Obj RefId="0"><TN RefId="0"><T>A</T></TN><Props>'
        b'<Obj N="Identity" RefId="1"><TN RefId="1"><T>ADObjectId</T></TN><ToString>Carl</ToString></Obj>'
        b'<Ref N="Id" RefId="1" /><Obj N="Other" RefId="2"><TNRef RefId="1" /><ToString>Eva</ToString></Obj>'
        b'<S N="Twice">adapted</S></Props><MS><S N="Twice">extended</S></MS></Obj>'
    )
    assert value.properties["Id"] is value.properties["Identity"]
    other = value.properties["Other"]
    assert isinstance(other, CliObject)
    assert other.types == ("ADObjectId",)
    assert flatten(value, ("Id", "Other", "Twice", "Missing")) == ("Carl", "Eva", "extended", None)


def test_an_object_that_holds_itself_still_shows() -> None:
    value = read_object(b'<Obj RefId="0"><LST><Ref RefId="0" /><S>a</S></LST></Obj>')
    assert "a" in (display(value) or "")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"<Obj",
        b"<S>a</S><S>b</S>",
        b"<S>\xff</S>",
        b'<!DOCTYPE x [<!ENTITY e "eee">]><S>&e;</S>',
        '<!DOCTYPE x [<!ENTITY e "eee">]><S>&e;</S>'.encode("utf-16"),
        b'<?xml version="1.0"?><S>a</S>',
        b"<S><![CDATA[a]]></S>",
        b'<Ref RefId="9" />',
        b"<S><B>true</B></S>",
        b"<LST>" * 60 + b"</LST>" * 60,
        b'<Obj RefId="0">&#0;</Obj>',
    ],
)
def test_what_is_not_clixml_is_refused(raw: bytes) -> None:
    with pytest.raises(ClixmlError):
        read(raw)


def test_a_primitive_is_no_object() -> None:
    with pytest.raises(ClixmlError):
        read_object(b"<S>a</S>")


def test_the_real_object_is_read_whole() -> None:
    value = read_object(SAMPLE.read_bytes())
    assert len(value.properties) == 228
    assert value.types[0] == "Microsoft.Exchange.Data.Directory.Management.Mailbox"
    assert flatten(
        value, ("AdminDisplayVersion", "WhenChanged", "WhenChangedUTC", "RetentionComment", "RetentionPolicy")
    ) == ("Version 15.1 (Build 2507.6)", "2022-10-30T18:01:36-07:00", "2022-10-31T01:01:36Z", "", None)
    assert items(value.properties["EmailAddresses"]) == ("SMTP:Administrator@test.com",)
    languages = value.properties["Languages"]
    assert isinstance(languages, CliObject)
    assert isinstance(languages.content, list)
    culture = languages.content[0]
    assert isinstance(culture, CliObject)
    assert (culture.text, culture.properties["LCID"]) == ("en-US", "1033")
