"""Records from objects: every form a property may take, and what is an error instead of a guess."""

from __future__ import annotations

import datetime
import uuid
from pathlib import Path

import pytest

from connectors.exchange import rows
from connectors.exchange.clixml import read_object
from connectors.exchange.records import RecordError
from connectors.exchange.rows import DEVICE_PROPERTIES, RawObject, digest_key

SAMPLE = Path(__file__).parent / "samples" / "exchange2016-get-mailbox.clixml"
UTC = datetime.UTC
GUID = uuid.UUID("00000000-0000-0000-0000-000000000001")


def enum(name: str, label: str, number: int) -> str:
    types = f'<TN RefId="1"><T>X.{name}</T></TN>'
    return f'<Obj N="{name}" RefId="1">{types}<ToString>{label}</ToString><I32>{number}</I32></Obj>'


def identity(text: str) -> str:
    return (
        f'<Obj N="Identity" RefId="7"><TN RefId="7"><T>Microsoft.Exchange.Data.Directory.ADObjectId</T></TN>'
        f'<ToString>{text}</ToString><Props><S N="Name">x</S></Props></Obj>'
    )


def device_xml(**changes: str) -> bytes:
    properties = {
        "Guid": f'<G N="Guid">{GUID}</G>',
        "Identity": '<S N="Identity">Carlos\\ExchangeActiveSyncDevices\\iPhone§ApplDLX</S>',
        "DeviceId": '<S N="DeviceId">ApplDLX</S>',
        "DeviceAccessState": '<S N="DeviceAccessState">Quarantined</S>',
        "FirstSyncTime": '<DT N="FirstSyncTime">2026-01-05T08:12:44Z</DT>',
        "DeviceAccessControlRule": '<Nil N="DeviceAccessControlRule" />',
        "FriendlyName": '<S N="FriendlyName"></S>',
    } | changes
    return f'<Obj RefId="0"><Props>{"".join(properties.values())}</Props></Obj>'.encode()


def test_a_device_at_the_default_level() -> None:
    device = rows.device_reader().read(device_xml())
    assert (device.guid, device.device_id, device.access_state) == (GUID, "ApplDLX", "Quarantined")
    assert (device.mailbox, device.friendly_name, device.access_control_rule) == ("Carlos", "", "")
    assert device.first_sync_time == datetime.datetime(2026, 1, 5, 8, 12, 44, tzinfo=UTC)
    assert device.when_changed is None


def test_a_device_at_the_full_level() -> None:
    device = rows.device_reader().read(
        device_xml(
            Identity=identity("contoso.com/Users/Carlos\\ExchangeActiveSyncDevices\\iPhone§ApplDLX"),
            DeviceAccessState=enum("DeviceAccessState", "DeviceDiscovery", 4),
        )
    )
    assert device.access_state == "DeviceDiscovery"
    assert device.mailbox == "contoso.com/Users/Carlos"


def test_an_unknown_label_survives() -> None:
    reader = rows.device_reader()
    assert (
        reader.read(device_xml(DeviceAccessState=enum("DeviceAccessState", "Pondering", 9))).access_state == "Pondering"
    )
    number_only = '<Obj N="DeviceAccessState" RefId="1"><I32>9</I32></Obj>'
    assert reader.read(device_xml(DeviceAccessState=number_only)).access_state == "9"


def test_exchange_2010_tells_the_version_by_another_name() -> None:
    version = '<S N="DeviceActiveSyncVersion">14.1</S>'
    assert rows.device_reader().read(device_xml(DeviceActiveSyncVersion=version)).client_version == "14.1"


@pytest.mark.parametrize(
    ("text", "mailbox"),
    [
        ("Carlos\\ExchangeActiveSyncDevices\\iPhone§X", "Carlos"),
        ("contoso.com/Users/Carlos/ExchangeActiveSyncDevices/iPhone§X", "contoso.com/Users/Carlos"),
        ("a\\b\\ExchangeActiveSyncDevices\\iPhone§X", "a\\b"),
        ("CN=iPhone,CN=ExchangeActiveSyncDevices,CN=Carlos", ""),
        ("iPhone§X", ""),
        ("ExchangeActiveSyncDevices", ""),
    ],
)
def test_the_mailbox_in_an_identity(text: str, mailbox: str) -> None:
    assert rows.mailbox_of(text) == mailbox


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, None),
        ("", None),
        ("0001-01-01T00:00:00", None),
        ("0001-01-01T00:00:00-08:00", None),
        ("2021-09-28T10:32:01-07:00", datetime.datetime(2021, 9, 28, 17, 32, 1, tzinfo=UTC)),
        ("2021-09-28T17:32:01Z", datetime.datetime(2021, 9, 28, 17, 32, 1, tzinfo=UTC)),
        ("2021-09-28T17:32:01.1234567Z", datetime.datetime(2021, 9, 28, 17, 32, 1, 123456, tzinfo=UTC)),
        ("2021-09-28T17:32:01", datetime.datetime(2021, 9, 28, 17, 32, 1, tzinfo=UTC)),
    ],
)
def test_times(text: str | None, expected: datetime.datetime | None) -> None:
    assert rows.read_time(text, "When") == expected


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"Guid": ""}, "Guid"),
        ({"Guid": '<Nil N="Guid" />'}, "Guid"),
        ({"Guid": '<S N="Guid">secret</S>'}, "Guid"),
        ({"Identity": '<S N="Identity"></S>'}, "Identity"),
        ({"FirstSyncTime": '<S N="FirstSyncTime">secret</S>'}, "FirstSyncTime"),
        ({"FirstSyncTime": '<DT N="FirstSyncTime">9999-12-31T23:59:59-07:00</DT>'}, "FirstSyncTime"),
    ],
)
def test_what_cannot_be_read_is_named_but_not_shown(changes: dict[str, str], named: str) -> None:
    with pytest.raises(RecordError, match=named) as caught:
        rows.device_reader().read(device_xml(**changes))
    assert "secret" not in str(caught.value)


def test_a_digest_changes_with_bytes_and_properties() -> None:
    raw = device_xml()
    digest = RawObject(raw, digest_key(DEVICE_PROPERTIES)).digest
    assert len(digest) == 16
    assert digest == RawObject(bytes(raw), digest_key(DEVICE_PROPERTIES)).digest
    assert digest != RawObject(raw + b" ", digest_key(DEVICE_PROPERTIES)).digest
    assert digest != RawObject(raw, digest_key(DEVICE_PROPERTIES[:-1])).digest


def test_a_digest_changes_with_the_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    before = digest_key(DEVICE_PROPERTIES)
    monkeypatch.setattr(rows, "READER_VERSION", rows.READER_VERSION + 1)
    assert digest_key(DEVICE_PROPERTIES) != before


def test_a_server() -> None:
    xml = (
        '<Obj RefId="0"><Props><S N="Name">EX01</S><S N="Fqdn">ex01.contoso.com</S>'
        '<Obj N="AdminDisplayVersion" RefId="1"><ToString>Version 15.2 (Build 2562.17)</ToString></Obj>'
        '<B N="IsClientAccessServer">true</B><S N="IsMailboxServer">True</S><S N="Site">contoso.com/Sites/A</S>'
        '<Obj N="Edition" RefId="2"><ToString>Enterprise</ToString><I32>1</I32></Obj></Props></Obj>'
    )
    server = rows.exchange_server(read_object(xml.encode()))
    assert (server.fqdn, server.version.product, server.edition) == ("ex01.contoso.com", "SE", "Enterprise")
    assert server.is_client_access_server
    assert server.is_mailbox_server


def test_organization_settings_with_a_list_of_objects() -> None:
    xml = (
        '<Obj RefId="0"><Props><S N="DefaultAccessLevel">Quarantine</S><Nil N="UserMailInsert" />'
        '<Obj N="AdminMailRecipients" RefId="1"><LST><Obj RefId="2"><ToString>a@contoso.com</ToString></Obj>'
        "<S>b@contoso.com</S></LST></Obj></Props></Obj>"
    )
    record = rows.organization_settings(read_object(xml.encode()))
    assert record.admin_mail_recipients == ("a@contoso.com", "b@contoso.com")
    assert (record.default_access_level, record.user_mail_insert) == ("Quarantine", "")


def test_a_truth_value_that_is_none() -> None:
    with pytest.raises(RecordError, match="IsClientAccessServer"):
        rows.exchange_server(
            read_object(
                b'<Obj RefId="0"><MS><S N="Name">A</S><S N="Fqdn">a</S><S N="IsClientAccessServer">Ja</S></MS></Obj>'
            )
        )


def test_the_real_mailbox_reads_as_a_recipient() -> None:
    record = rows.recipient(read_object(SAMPLE.read_bytes()))
    assert (record.email_addresses, record.sam_account_name) == (("SMTP:Administrator@test.com",), "Administrator")
    assert record.recipient_type_details == "UserMailbox"


def mailbox_xml(**changes: str) -> bytes:
    properties = {
        "Guid": f'<G N="Guid">{GUID}</G>',
        "Identity": '<S N="Identity">contoso.com/Users/Carlos</S>',
        "DistinguishedName": '<S N="DistinguishedName">CN=Carlos,CN=Users,DC=contoso,DC=com</S>',
        "ActiveSyncEnabled": '<B N="ActiveSyncEnabled">true</B>',
    } | changes
    return f'<Obj RefId="0"><Props>{"".join(properties.values())}</Props></Obj>'.encode()


ENTRIES: dict[str, tuple[str, tuple[str, ...]]] = {
    "missing": ("", ()),
    "null": ('<Nil N="ActiveSyncAllowedDeviceIDs" />', ()),
    "empty": ('<Obj N="ActiveSyncAllowedDeviceIDs" RefId="1"><LST /></Obj>', ()),
    "a list": ('<Obj N="ActiveSyncAllowedDeviceIDs" RefId="1"><LST><S>A</S><S>B</S></LST></Obj>', ("A", "B")),
    "a list with a ToString": (
        '<Obj N="ActiveSyncAllowedDeviceIDs" RefId="1"><ToString>A, B</ToString><LST><S>A</S><S>B</S></LST></Obj>',
        ("A", "B"),
    ),
    "objects": (
        '<Obj N="ActiveSyncAllowedDeviceIDs" RefId="1"><LST><Obj RefId="2"><ToString>A</ToString></Obj></LST></Obj>',
        ("A",),
    ),
    "one text": ('<S N="ActiveSyncAllowedDeviceIDs">A</S>', ("A",)),
    "blanks": ('<S N="ActiveSyncAllowedDeviceIDs"> </S>', ()),
}


@pytest.mark.parametrize(("xml", "expected"), ENTRIES.values(), ids=ENTRIES.keys())
def test_personal_entries_in_every_form(xml: str, expected: tuple[str, ...]) -> None:
    record = rows.cas_mailbox(read_object(mailbox_xml(ActiveSyncAllowedDeviceIDs=xml)))
    assert record.allowed_device_ids == expected
    assert record.blocked_device_ids == ()


def test_a_list_that_came_as_one_text_is_no_entry() -> None:
    """Taken for one id it would be removed, or kept, as such."""
    text = '<S N="ActiveSyncAllowedDeviceIDs">A, B</S>'
    with pytest.raises(RecordError, match="ActiveSyncAllowedDeviceIDs"):
        rows.cas_mailbox(read_object(mailbox_xml(ActiveSyncAllowedDeviceIDs=text)))


@pytest.mark.parametrize(
    ("dn", "server", "expected"),
    [
        ("CN=C,CN=Users,DC=contoso,DC=com", "DC01.contoso.com", "DC01.contoso.com"),
        ("CN=C,CN=Users,DC=Contoso,DC=COM", "dc01.contoso.com", "dc01.contoso.com"),
        ("CN=C,CN=Users,DC=emea,DC=contoso,DC=com", "dc01.contoso.com", ""),
        ("CN=C,CN=Users,DC=contoso,DC=com", "dc01.emea.contoso.com", ""),
        ("CN=C\\,DC=emea,CN=Users,DC=contoso,DC=com", "dc01.contoso.com", "dc01.contoso.com"),
        ("CN=C,CN=Users,DC=contoso,DC=com", "dc01", ""),
        ("CN=C,CN=Users,DC=contoso,DC=com", "", ""),
        ("", "dc01.contoso.com", ""),
    ],
)
def test_the_domain_controller_to_write_to(dn: str, server: str, expected: str) -> None:
    record = rows.cas_mailbox(
        read_object(
            mailbox_xml(
                DistinguishedName=f'<S N="DistinguishedName">{dn}</S>',
                OriginatingServer=f'<S N="OriginatingServer">{server}</S>',
            )
        )
    )
    assert record.domain_controller == expected


def test_a_policy_in_whole_objects() -> None:
    xml = (
        f'<Obj RefId="0"><Props><S N="Identity">Strict</S><S N="Name">Strict</S><G N="Guid">{GUID}</G>'
        '<B N="IsDefault">true</B><B N="PasswordEnabled">true</B><I32 N="MinPasswordLength">6</I32>'
        '<Obj N="MaxPasswordFailedAttempts" RefId="1"><ToString>8</ToString></Obj>'
        '<Obj N="AllowBluetooth" RefId="2"><ToString>HandsfreeOnly</ToString><I32>1</I32></Obj>'
        '<Obj N="ApprovedApplicationList" RefId="3"><LST><S>a</S></LST></Obj>'
        '<Nil N="MaxEmailAgeFilter" /><S N="PasswordHistory">many</S><S N="NobodyKnows">x</S></Props></Obj>'
    )
    policy = rows.mailbox_policy(read_object(xml.encode()))
    assert (policy.name, policy.guid, policy.is_default) == ("Strict", GUID, True)
    assert policy.settings == {
        "PasswordEnabled": True,
        "MinPasswordLength": 6,
        "MaxPasswordFailedAttempts": "8",
        "AllowBluetooth": "HandsfreeOnly",
        "ApprovedApplicationList": ("a",),
        "PasswordHistory": "many",
    }


def test_a_policy_under_the_old_names() -> None:
    xml = (
        '<Obj RefId="0"><Props><S N="Identity">Default</S><B N="IsDefaultPolicy">true</B>'
        '<B N="DevicePasswordEnabled">false</B><S N="MaxInactivityTimeDeviceLock">00:15:00</S></Props></Obj>'
    )
    policy = rows.mailbox_policy(read_object(xml.encode()))
    assert (policy.is_default, policy.guid) == (True, None)
    assert policy.settings == {"PasswordEnabled": False, "MaxInactivityTimeLock": "00:15:00"}


def test_a_user_has_the_one_address_or_the_other() -> None:
    xml = mailbox_xml(WindowsEmailAddress='<S N="WindowsEmailAddress">c@contoso.com</S>', Sid='<S N="Sid">S-1-5</S>')
    user = rows.user(read_object(xml))
    assert (user.primary_smtp_address, user.sid, user.user_principal_name) == ("c@contoso.com", "S-1-5", "")


def test_statistics_of_a_wipe() -> None:
    xml = (
        '<Obj RefId="0"><Props><S N="Identity">x</S><DT N="DeviceWipeRequestTime">2026-01-05T08:12:44Z</DT>'
        '<Nil N="DeviceWipeSentTime" /><Obj N="Status" RefId="1"><ToString>DeviceSomethingNew</ToString></Obj>'
        "</Props></Obj>"
    )
    record = rows.device_statistics(read_object(xml.encode()))
    assert record.wipe_requested_at == datetime.datetime(2026, 1, 5, 8, 12, 44, tzinfo=UTC)
    assert (record.wipe_sent_at, record.account_only_wipe_requested_at) == (None, None)
    assert record.status == "DeviceSomethingNew"
