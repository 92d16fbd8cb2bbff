"""Objects on the wire: their shape, against what a real Exchange 2016 object showed, and that any text survives."""

from __future__ import annotations

import datetime
import re
import uuid
from typing import Any
from xml.etree import ElementTree

import pytest
from psrpcore._crypto import PSRemotingCrypto
from psrpcore.types import deserialize, serialize

from lab.exchange import people
from lab.exchange.render import Enum, LocalTime, Multi, ObjectId, ServerVersion, Writer, text
from tests.lab.sessions import VERSIONS, session, unescaped, value_of

CIPHER = PSRemotingCrypto()
UTC = datetime.datetime(2022, 10, 20, 3, 31, 31, tzinfo=datetime.UTC)
IDENTITY = ObjectId("a.test/Users/Zoë", "CN=Zoë,CN=Users,DC=a,DC=test", uuid.UUID(int=7))
STRINGS = (
    '<Obj N="x" RefId="0"><TN RefId="0"><T>Microsoft.Exchange.Data.MultiValuedProperty`1[[System.String, mscorlib, '
    "Version=4.0.0.0, Culture=neutral, PublicKeyToken=b77a5c561934e089]]</T><T>Microsoft.Exchange.Data."
    "MultiValuedPropertyBase</T><T>System.Object</T></TN>{content}</Obj>"
)
# How a real Exchange 2016 wrote each kind of value at the default level.
DEFAULT_LEVEL: dict[str, tuple[Any, str]] = {
    "text": ("Ex2016-DB2", '<S N="x">Ex2016-DB2</S>'),
    "empty text": ("", '<S N="x"></S>'),
    "null": (None, '<Nil N="x" />'),
    "false": (False, '<B N="x">false</B>'),
    "number": (1033, '<I32 N="x">1033</I32>'),
    "large number": (2**31, '<I64 N="x">2147483648</I64>'),
    "GUID": (uuid.UUID("9b9387fe-e1b1-4695-97bd-b0a0bebe7ce2"), '<G N="x">9b9387fe-e1b1-4695-97bd-b0a0bebe7ce2</G>'),
    "time in the server's zone": (LocalTime(UTC), '<DT N="x">2022-10-19T20:31:31-07:00</DT>'),
    "time in UTC": (UTC, '<DT N="x">2022-10-20T03:31:31Z</DT>'),
    "enum": (Enum("A.B", "External", 2), '<S N="x">External</S>'),
    "version": (ServerVersion("Version 15.1 (Build 2507.6)"), '<S N="x">Version 15.1 (Build 2507.6)</S>'),
    "identity": (IDENTITY, '<S N="x">a.test/Users/Zoë</S>'),
    "empty list": ([], STRINGS.format(content="<LST />")),
    "list": (["RemotePowerShell§1"], STRINGS.format(content="<LST><S>RemotePowerShell§1</S></LST>")),
}


@pytest.mark.parametrize("case", DEFAULT_LEVEL.values(), ids=DEFAULT_LEVEL.keys())
def test_values_at_the_default_level(case: tuple[Any, str]) -> None:
    value, xml = case
    assert Writer().value(value, "x") == xml


def test_addresses_have_their_own_collection() -> None:
    element = ElementTree.fromstring(Writer().value(Multi(("SMTP:a@b.test",), "proxy"), "x"))
    types = [node.text or "" for node in element.iterfind("TN/T")]
    assert types[0] == "Microsoft.Exchange.Data.ProxyAddressCollection"
    assert types[-2:] == ["Microsoft.Exchange.Data.MultiValuedPropertyBase", "System.Object"]
    assert value_of(element) == ["SMTP:a@b.test"]


def test_enums_at_the_full_level() -> None:
    assert Writer(full=True).value(Enum("A.Level", "Block", 1), "x") == (
        '<Obj N="x" RefId="0"><TN RefId="0"><T>A.Level</T><T>System.Enum</T><T>System.ValueType</T><T>System.Object</T>'
        "</TN><ToString>Block</ToString><I32>1</I32></Obj>"
    )


def test_identities_at_the_full_level() -> None:
    writer = Writer(full=True)
    first = ElementTree.fromstring(writer.value(IDENTITY, "Identity"))
    assert first.findtext("ToString") == "a.test/Users/Zoë"
    props = {node.get("N"): node for node in first.find("Props") or ()}
    assert set(props) == {
        "Rdn", "Parent", "Depth", "DistinguishedName", "IsRelativeDn", "DomainId", "PartitionGuid", "PartitionFQDN",
        "ObjectGuid", "Name", "IsDeleted", "SerializationData",
    }  # fmt: skip
    assert (props["Rdn"].text, props["Depth"].text) == ("CN=Zoë", "4")
    assert props["SerializationData"].tag == "BA"
    # The same again, as Id is Identity's, is a reference.
    assert writer.value(IDENTITY, "Id") == '<Ref N="Id" RefId="0" />'


def test_versions_at_the_full_level() -> None:
    element = ElementTree.fromstring(Writer(full=True).value(ServerVersion("Version 15.2 (Build 986.5)"), "x"))
    props = element.find("Props")
    assert props is not None
    assert [node.text for node in props][:4] == ["15", "2", "986", "5"]
    assert props[4].attrib == {"N": "FilePatchLevelDescription"}


# --- whole objects ----------------------------------------------------------------------------------------------

# The real object's outline: the head, then Props and nothing else. Every property is one of these elements.
CHILDREN = ["TN", "ToString", "Props"]
KINDS = {"S", "B", "I32", "I64", "G", "DT", "Nil", "Obj"}
# What stands behind N, and what else an element may have, in the real object.
ATTRIBUTES = {kind: {"N", "RefId"} if kind == "Obj" else {"N"} for kind in KINDS}
LISTINGS = (
    "Get-ActiveSyncDevice", "Get-CASMailbox", "Get-Mailbox", "Get-Recipient", "Get-ExchangeServer",
    "Get-ActiveSyncOrganizationSettings", "Get-ActiveSyncDeviceAccessRule", "Get-ActiveSyncMailboxPolicy",
    "Get-OrganizationConfig", "Get-ActiveSyncDeviceClass", "Get-ThrottlingPolicy",
)  # fmt: skip


@pytest.mark.parametrize("name", LISTINGS)
def test_objects_are_written_as_the_real_one(name: str) -> None:
    for element in session("2016", devices=30).entire_forest().run(name).elements:
        assert [child.tag for child in element] == CHILDREN
        types = [node.text or "" for node in element.iterfind("TN/T")]
        assert types[0].startswith("Microsoft.Exchange.Data.Directory.")
        assert types[-1] == "System.Object"
        assert "Microsoft.Exchange.Data.ConfigurableObject" in types
        assert not any(one.startswith("Deserialized.") for one in types)
        props = element.find("Props")
        assert props is not None
        names = [child.get("N") for child in props]
        assert len(names) == len(set(names))
        for child in props:
            assert child.tag in KINDS
            assert set(child.attrib) == ATTRIBUTES[child.tag]
            if child.tag == "Obj":
                assert [part.tag for part in child] in (["TN", "LST"], ["TNRef", "LST"])
        _check_references(element)
        _check_base(element)


def _check_references(element: ElementTree.Element) -> None:
    """RefIds and those of type names count from 0 for each object, and a TNRef names a TN that was before it."""
    assert [node.get("RefId") for node in element.iter("Obj")] == [
        str(n) for n in range(len(list(element.iter("Obj"))))
    ]
    defined = [node.get("RefId") for node in element.iter("TN")]
    assert defined == [str(number) for number in range(len(defined))]
    assert {node.get("RefId") for node in element.iter("TNRef")} <= set(defined)


def _check_base(element: ElementTree.Element) -> None:
    """What the real object has of the directory's base properties, in its types."""
    kinds = {child.get("N"): child for child in element.find("Props") or ()}
    for name, pattern in {
        "WhenChanged": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d-07:00",
        "WhenCreated": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d-07:00",
        "WhenChangedUTC": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ",
        "WhenCreatedUTC": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ",
    }.items():
        assert kinds[name].tag == "DT"
        assert re.fullmatch(pattern, kinds[name].text or "")
    for name in (
        "Identity",
        "Id",
        "DistinguishedName",
        "ExchangeVersion",
        "OrganizationId",
        "OriginatingServer",
        "Name",
    ):
        assert kinds[name].tag == "S"
    assert (kinds["Guid"].tag, kinds["IsValid"].tag) == ("G", "B")
    assert kinds["ObjectState"].text == "Unchanged"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("level", ["default", "full"])
def test_psrpcore_reads_every_device(version: str, level: str) -> None:
    """A reader that is not ours, made by those who made pypsrp."""
    one = session(version, devices=40).entire_forest()
    one.state.serialization_level = level
    for element, row in zip((result := one.run("Get-ActiveSyncDevice")).elements, result.rows, strict=True):
        read: Any = deserialize(element, CIPHER)
        assert read.DeviceId == row["DeviceId"]
        assert read.FriendlyName == row["FriendlyName"]
        assert str(read.DeviceAccessState) == row["DeviceAccessState"]
        assert read.PSObject.type_names[0].endswith("SystemConfiguration.ActiveSyncDevice")


# --- texts ------------------------------------------------------------------------------------------------------

TEXTS = (
    *people.ODD,
    "",
    " ",
    "a\nb\r\nc",
    "\x00\x1f\x7f\x9f",
    "]]>",
    "_X0041_",
    "_x",
    "\ufffe\uffff",
    "👩🏽‍💻",
    "\U0010ffff",
)


@pytest.mark.parametrize("value", TEXTS, ids=[ascii(value) for value in TEXTS])
def test_any_text_survives(value: str) -> None:
    xml = f'<S N="{text(value)}">{text(value)}</S>'
    element = ElementTree.fromstring(xml)
    assert unescaped(element.text or "") == value == unescaped(element.get("N", ""))
    assert str(deserialize(element, CIPHER)) == value


def test_characters_are_escaped_as_powershell_does() -> None:
    assert text("Bell\x07 <_x41> 📱") == "Bell_x0007_ &lt;_x005F_x41&gt; _xD83D__xDCF1_"
    element: Any = serialize("Bell\x07 <_x41> 📱", CIPHER)
    assert element.text == "Bell_x0007_ <_x005F_x41> _xD83D__xDCF1_"


def test_a_changed_device_is_rendered_anew() -> None:
    one = session(devices=1).entire_forest()
    device = next(iter(one.store.devices.values()))
    before = one.run("Get-MobileDevice").row
    assert one.run("Get-MobileDevice").row == before
    one.store.set_state(device, "Blocked", "Individual")
    assert one.run("Get-MobileDevice").row["DeviceAccessState"] == "Blocked"
