"""Changing things in Exchange, over the wire against the lab: each version, and what is raised when it goes wrong."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from connectors.exchange import cmdlets, opath, transport
from connectors.exchange.client import Account, Endpoint, ExchangeClient, Options, never
from connectors.exchange.cmdlets import Command, Family, Identity
from connectors.exchange.errors import (
    AlreadyExistsError,
    AmbiguousError,
    BadRequestError,
    CanceledError,
    ExchangeError,
    NotFoundError,
    NotPermittedError,
    ObserveOnlyError,
    OutcomeUnknownError,
    ThrottledError,
    TransientError,
)
from connectors.exchange.pool import FastPipeline
from connectors.exchange.session import Session, connect
from lab.exchange.access import Claim, phone_request
from lab.exchange.objects import Device, Mailbox
from lab.phone import Phone
from tests.connectors.exchange.miniature import Answer, Miniature, Sent, answer, error, miniature, state
from tests.connectors.exchange.organizations import PASSWORD, Organization, organization

pytestmark = pytest.mark.wire
VERSIONS = ("2010", "2013", "2016", "2019", "SE")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("authority")


@pytest.fixture(scope="module", params=VERSIONS)
def versioned(folder: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Organization, Session]]:
    """An organisation of each version, and a session with it; tests change it in places of their own."""
    with organization(folder, request.param, devices=60) as found, session_with(found) as client:
        yield found, client


@pytest.fixture(scope="module")
def shared(folder: Path) -> Iterator[Organization]:
    with organization(folder, "2016", devices=60) as found:
        yield found


@pytest.fixture
def exchange(shared: Organization) -> Iterator[Organization]:
    yield shared
    if shared.faults.all():
        shared.settle()


@contextmanager
def session_with(exchange: Organization, **options: Any) -> Iterator[Session]:
    should_stop = options.pop("should_stop", never)
    role = options.pop("role", "connector")
    wanted = Options(**{**vars_of(exchange.options), **options})
    with connect(exchange.endpoint(), exchange.account(role=role), wanted, should_stop=should_stop) as client:
        assert isinstance(client, Session)
        yield client


def vars_of(options: Options) -> dict[str, Any]:
    return {name: getattr(options, name) for name in Options.__dataclass_fields__}


def people(exchange: Organization) -> Iterator[Mailbox]:
    """Mailboxes with a phone and without personal entries."""
    for mailbox in list(exchange.store.mailboxes.values()):
        if exchange.store.devices_of(mailbox) and not mailbox.allowed and not mailbox.blocked:
            yield mailbox


def person(exchange: Organization) -> Mailbox:
    return next(people(exchange))


def me(mailbox: Mailbox) -> Identity:
    return Identity(str(mailbox.guid))


def writes(exchange: Organization, since: int = 0) -> list[str]:
    return [one.cmdlet for one in exchange.store.executed(since) if not cmdlets.is_reading(one.cmdlet)]


# Personal entries


def test_entries(versioned: tuple[Organization, Session]) -> None:
    exchange, client = versioned
    mailbox = person(exchange)
    odd = "§ü手機<&>'\u2019📱"
    client.set_mailbox_entries(me(mailbox), allowed_add=("A1", odd), blocked_add=("B1",))
    assert (mailbox.allowed, mailbox.blocked) == (["A1", odd], ["B1"])
    found = client.cas_mailbox(me(mailbox))
    assert (found.allowed_device_ids, found.blocked_device_ids) == (("A1", odd), ("B1",))
    # One move, in one command.
    client.set_mailbox_entries(me(mailbox), allowed_add=("B1",), allowed_remove=("A1",), blocked_remove=("B1",))
    assert (mailbox.allowed, mailbox.blocked) == ([odd, "B1"], [])
    # What is there already and what is not there any more are no errors: a command may be repeated.
    client.set_mailbox_entries(me(mailbox), allowed_add=("B1",), allowed_remove=("A1",), blocked_remove=("B1",))
    assert (mailbox.allowed, mailbox.blocked) == ([odd, "B1"], [])
    client.set_mailbox_entries(me(mailbox), allowed_remove=(odd, "B1"))
    assert client.cas_mailbox(me(mailbox)).allowed_device_ids == ()


def test_one_command_each(exchange: Organization) -> None:
    with session_with(exchange) as client:
        number = exchange.store.executed()[-1].number
        client.set_mailbox_entries(me(person(exchange)), allowed_add=("X",), domain_controller="dc01.e2016.test")
        client.set_mailbox_entries(me(exchange.store.find_mailbox(person(exchange).upn)), allowed_remove=("X",))  # type: ignore[arg-type]
    assert [one.cmdlet for one in exchange.store.executed(number)] == ["Set-CASMailbox"] * 2
    assert exchange.store.executed(number)[0].parameters["DomainController"] == "dc01.e2016.test"


def test_what_is_read_of_a_mailbox(versioned: tuple[Organization, Session]) -> None:
    exchange, client = versioned
    mailbox = person(exchange)
    found = client.cas_mailbox(me(mailbox))
    assert (found.guid, found.sam_account_name, found.primary_smtp_address) == (mailbox.guid, mailbox.sam, mailbox.smtp)
    assert found.distinguished_name == mailbox.dn
    assert found.email_addresses[0] == f"SMTP:{mailbox.smtp}"
    assert found.is_policy_defaulted
    assert found.active_sync_mailbox_policy == ""
    assert found.when_changed is not None
    assert found.originating_server == f"dc01.{exchange.store.domain}"
    # The controller of the forest's root cannot write a child domain's mailbox.
    is_child = mailbox.domain != exchange.store.domain
    assert found.domain_controller == ("" if is_child else found.originating_server)


# Listings


def test_mailboxes_are_listed(versioned: tuple[Organization, Session]) -> None:
    exchange, client = versioned
    store = exchange.store
    lonely = next(m for m in store.mailboxes.values() if not store.devices_of(m))
    lonely.allowed = ["LONELY"]
    found = {record.guid: record for page in client.cas_mailboxes() for record in page}
    wanted = {
        m.guid
        for m in store.mailboxes.values()
        if m.allowed or m.blocked or any(d.client_type == "EAS" for d in store.devices_of(m))
    }
    assert set(found) == wanted
    assert lonely.guid in wanted
    assert found[lonely.guid].allowed_device_ids == ("LONELY",)
    assert not found[lonely.guid].has_active_sync_device_partnership
    chosen = opath.compare("ActiveSyncAllowedDeviceIDs", "eq", "LONELY")
    assert [record.guid for page in client.cas_mailboxes(filter=chosen) for record in page] == [lonely.guid]
    lonely.allowed = []


def test_listings_by_guid(versioned: tuple[Organization, Session], monkeypatch: pytest.MonkeyPatch) -> None:
    exchange, client = versioned
    monkeypatch.setattr("connectors.exchange.session.GUIDS_AT_ONCE", 7)
    wanted = list(exchange.store.mailboxes)[:20]
    gone = uuid.uuid4()
    number = exchange.store.executed()[-1].number
    for listing in (client.cas_mailboxes_by_guid, client.users_by_guid, client.recipients_by_guid):
        found = [record.guid for page in listing([*wanted, gone]) for record in page]
        assert sorted(found) == sorted(wanted)
    assert len(exchange.store.executed(number)) == 9
    assert list(client.cas_mailboxes_by_guid([])) == []


def test_users(versioned: tuple[Organization, Session]) -> None:
    exchange, client = versioned
    found = {record.guid: record for page in client.users() for record in page}
    assert set(found) == set(exchange.store.mailboxes)
    for guid, mailbox in exchange.store.mailboxes.items():
        user = found[guid]
        assert (user.sid, user.user_principal_name, user.sam_account_name) == (mailbox.sid, mailbox.upn, mailbox.sam)
        assert (user.primary_smtp_address, user.distinguished_name) == (mailbox.smtp, mailbox.dn)
    assert {record.guid for page in client.recipients() for record in page} == set(exchange.store.mailboxes)


def test_users_where_get_user_is_not_granted(folder: Path) -> None:
    with organization(folder, "2016", devices=3) as exchange:
        exchange.servers[0].powershell._engine.hidden = frozenset({"get-user"})  # type: ignore[attr-defined]
        with session_with(exchange) as client:
            number = exchange.store.executed()[-1].number
            with pytest.raises(NotPermittedError) as caught:
                list(client.users())
            assert (caught.value.code, caught.value.cmdlet) == ("cmdlet_not_granted", "Get-User")
            assert exchange.store.executed(number) == []


def test_a_cut_off_listing_of_mailboxes_never_ends_normally(exchange: Organization) -> None:
    exchange.fault("truncated", 5, cmdlet="Get-CASMailbox", times=1)
    with session_with(exchange) as client, pytest.raises(TransientError) as caught:
        list(client.cas_mailboxes())
    assert caught.value.code == "listing_incomplete"


# The organisation


def test_settings(versioned: tuple[Organization, Session]) -> None:
    exchange, client = versioned
    settings = exchange.store.settings
    client.set_organization_settings(
        default_access_level="Quarantine", user_mail_insert="手" * 256, admin_recipients_add=("a@b.test", "c@d.test")
    )
    found = client.organization_settings()
    assert (found.default_access_level, found.user_mail_insert) == ("Quarantine", "手" * 256)
    assert found.admin_mail_recipients == ("a@b.test", "c@d.test")
    client.set_organization_settings(user_mail_insert="", admin_recipients_remove=("a@b.test",))
    assert (settings.user_mail_insert, settings.admin_mail_recipients) == ("", ["c@d.test"])
    assert settings.default_access_level == "Quarantine"
    client.set_organization_settings(admin_recipients=(), default_access_level="Allow")
    assert client.organization_settings().admin_mail_recipients == ()
    with pytest.raises(BadRequestError):
        client.set_organization_settings(admin_recipients_add=("nobody",))


def test_rules(versioned: tuple[Organization, Session]) -> None:
    _, client = versioned
    rule = {"characteristic": "DeviceModel", "query_string": "Ada's <Pixel> 8", "access_level": "Block"}
    made = client.device_access_rule_create(**rule)
    assert (made.characteristic, made.query_string, made.access_level) == tuple(rule.values())
    assert made in client.device_access_rules()
    with pytest.raises(AlreadyExistsError):
        client.device_access_rule_create(**rule)
    client.device_access_rule_set(Identity(made.identity), access_level="Allow")
    assert [one.access_level for one in client.device_access_rules() if one.identity == made.identity] == ["Allow"]
    client.device_access_rule_remove(Identity(made.identity))
    assert made.identity not in [one.identity for one in client.device_access_rules()]
    with pytest.raises(NotFoundError):
        client.device_access_rule_remove(Identity(made.identity))


def test_classes(versioned: tuple[Organization, Session]) -> None:
    exchange, client = versioned
    known = {(one.device_type, one.device_model) for one in client.device_classes()}
    assert known == set(exchange.store.classes)


def test_policies(versioned: tuple[Organization, Session]) -> None:
    exchange, client = versioned
    is_old = exchange.store.version.label == "2010"
    assert client.policy_family is (Family.ACTIVE_SYNC if is_old else Family.MOBILE)
    (default,) = [policy for policy in client.mailbox_policies() if policy.is_default]
    assert default.settings["PasswordEnabled"] is False
    assert default.settings["MinPasswordLength"] == 4
    assert default.settings["MaxInactivityTimeLock"] == "00:15:00"
    assert default.settings["ApprovedApplicationList"] == ()
    made = client.mailbox_policy_create(
        "Strict & <手>", {"PasswordEnabled": True, "MinPasswordLength": 8, "ApprovedApplicationList": ("a", "b")}
    )
    assert (made.name, made.is_default) == ("Strict & <手>", False)
    assert made.settings["MinPasswordLength"] == 8
    assert made.settings["ApprovedApplicationList"] == ("a", "b")
    with pytest.raises(AlreadyExistsError):
        client.mailbox_policy_create("strict & <手>", {})
    strict = Identity(made.identity)
    client.mailbox_policy_set(strict, {"MaxInactivityTimeLock": "00:05:00", "PasswordHistory": 5}, make_default=True)
    found = {policy.name: policy for policy in client.mailbox_policies()}
    assert found[made.name].is_default
    assert not found[default.name].is_default
    changed = {name: value for name, value in found[made.name].settings.items() if default.settings[name] != value}
    assert changed == {
        "PasswordEnabled": True,
        "MinPasswordLength": 8,
        "PasswordHistory": 5,
        "MaxInactivityTimeLock": "00:05:00",
        "ApprovedApplicationList": ("a", "b"),
    }
    with pytest.raises(BadRequestError):
        client.mailbox_policy_set(strict, {"MinPasswordLength": 17})
    mailbox = person(exchange)
    client.mailbox_policy_assign(me(mailbox), strict)
    assigned = client.cas_mailbox(me(mailbox))
    assert (assigned.active_sync_mailbox_policy, assigned.is_policy_defaulted) == (made.name, False)
    client.mailbox_policy_assign(me(mailbox), None)
    assert client.cas_mailbox(me(mailbox)).is_policy_defaulted
    with pytest.raises(BadRequestError):
        client.mailbox_policy_remove(strict)  # the default one, without force
    client.mailbox_policy_set(Identity(default.identity), {}, make_default=True)
    client.mailbox_policy_remove(strict)
    assert [policy.name for policy in client.mailbox_policies()] == [default.name]


# Wipe and removal


def active_phone(exchange: Organization, **fields: Any) -> Device:
    wanted = {"client_type": "EAS", "state": "Allowed", "wipe_requested": None, **fields}
    return next(
        device
        for device in exchange.store.devices.values()
        if all(getattr(device, name) == value for name, value in wanted.items())
        and not device.mailbox.allowed
        and device.device_type != "BlackBerry"
    )


def comes_again(exchange: Organization, device: Device, times: int = 1) -> list[str]:
    """Requests of that phone, over HTTP; the ActiveSync status of each answer."""
    device.mailbox.password = PASSWORD
    port = exchange.servers[0].http_port
    phone = Phone(
        f"http://127.0.0.1:{port}", device.mailbox.upn, device.mailbox.password, device.device_id, device.device_type
    )
    return [phone.sync().eas_status for _ in range(times)]


def statistics(client: Session, device: Device) -> Any:
    return next(one for one in client.device_statistics(me(device.mailbox)) if one.device_id == device.device_id)


def test_a_wipe_from_order_to_confirmation(versioned: tuple[Organization, Session]) -> None:
    exchange, client = versioned
    device = active_phone(exchange, client_version=exchange.store.version.phones[-1])
    witness = next(m for m in exchange.store.mailboxes.values() if m is not device.mailbox)
    before = statistics(client, device)
    assert (before.status, before.wipe_requested_at, before.is_remote_wipe_supported) == ("DeviceOk", None, True)
    client.device_wipe(Identity(str(device.guid)), notify=(witness.smtp,))
    ordered = statistics(client, device)
    assert ordered.wipe_requested_at is not None
    assert ordered.wipe_sent_at is ordered.wipe_acknowledged_at is None
    assert ordered.wipe_requestor == f"svc-connector@{exchange.store.domain}"
    comes_again(exchange, device)
    sent = statistics(client, device)
    assert sent.wipe_sent_at is not None
    assert sent.wipe_acknowledged_at is None
    comes_again(exchange, device)
    done = statistics(client, device)
    assert done.wipe_acknowledged_at is not None
    assert done.status == "DeviceWipeSucceeded"
    assert done.account_only_wipe_requested_at is None
    assert any("Wipe Confirmation" in message.subject for message in witness.messages)
    # Nobody takes back what has been done; and the device is wiped again until its partnership is removed.
    client.device_wipe_cancel(Identity(str(device.guid)))
    assert statistics(client, device).wipe_acknowledged_at is not None
    client.device_remove(Identity(str(device.guid)))
    comes_again(exchange, device)
    assert statistics(client, device).wipe_requested_at is None


def test_a_wipe_taken_back(versioned: tuple[Organization, Session]) -> None:
    exchange, client = versioned
    device = active_phone(exchange)
    identity = Identity(exchange.store.identity_of(device))
    client.device_wipe(identity)
    client.device_wipe_cancel(identity)
    assert statistics(client, device).wipe_requested_at is None
    assert comes_again(exchange, device) == ["1"]


def test_a_wipe_of_the_account_alone(versioned: tuple[Organization, Session]) -> None:
    exchange, client = versioned
    device = active_phone(exchange)
    identity = Identity(str(device.guid))
    label = exchange.store.version.label
    if label == "2010":
        with pytest.raises(ValueError, match="alone"):
            client.device_wipe(identity, account_only=True)
        return
    if label == "2013":
        with pytest.raises(NotPermittedError) as caught:
            client.device_wipe(identity, account_only=True)
        assert caught.value.code == "parameter_not_granted"
        assert device.wipe_requested is None
        return
    device.client_version = "14.1"
    with pytest.raises(BadRequestError):
        client.device_wipe(identity, account_only=True)
    device.client_version = "16.1"
    client.device_wipe(identity, account_only=True)
    found = statistics(client, device)
    assert found.account_only_wipe_requested_at is not None
    assert found.account_only_wipe_requestor == f"svc-connector@{exchange.store.domain}"
    assert (found.wipe_requested_at, found.wipe_requestor) == (None, "")
    comes_again(exchange, device, times=2)
    assert statistics(client, device).account_only_wipe_acknowledged_at is not None


def test_removal_leaves_the_lists_and_the_phone_comes_back_by_them(versioned: tuple[Organization, Session]) -> None:
    exchange, client = versioned
    device = active_phone(exchange)
    identity = Identity(exchange.store.identity_of(device))
    assert client.device(identity).device_id == device.device_id
    client.set_mailbox_entries(me(device.mailbox), allowed_add=(device.device_id,))
    client.device_remove(identity)
    with pytest.raises(NotFoundError):
        client.device(identity)
    with pytest.raises(NotFoundError):
        client.device_remove(identity)
    assert client.cas_mailbox(me(device.mailbox)).allowed_device_ids == (device.device_id,)
    comes_again(exchange, device)
    returned = client.device(identity)
    assert (returned.access_state, returned.access_state_reason) == ("Allowed", "Individual")
    client.set_mailbox_entries(me(device.mailbox), allowed_remove=(device.device_id,))


# Refusals: nothing was done, and it is known


def test_who_is_not_there(exchange: Organization) -> None:
    with session_with(exchange) as client, pytest.raises(NotFoundError):
        client.set_mailbox_entries(Identity(str(uuid.uuid4())), allowed_add=("X",))


def test_who_is_there_twice(exchange: Organization) -> None:
    one, other = list(people(exchange))[:2]
    twin = Mailbox(
        guid=uuid.uuid4(), sam="twin", display_name=one.display_name, domain=one.domain, upn="twin@x.test",
        smtp="twin@x.test", sid=other.sid, cn="Twin",
    )  # fmt: skip
    exchange.store.add_mailbox(twin)
    with session_with(exchange) as client, pytest.raises(AmbiguousError):
        client.set_mailbox_entries(Identity(one.display_name), allowed_add=("X",))
    assert "X" not in one.allowed


def test_an_account_that_may_only_read(exchange: Organization) -> None:
    with session_with(exchange, role="viewer") as client, pytest.raises(NotPermittedError) as caught:
        client.set_mailbox_entries(me(person(exchange)), allowed_add=("X",))
    assert (caught.value.code, caught.value.cmdlet) == ("cmdlet_not_granted", "Set-CASMailbox")


REFUSALS = {"throttle": (5000, ThrottledError), "transient": ("", TransientError)}


@pytest.mark.parametrize("kind", REFUSALS)
def test_a_refused_command_was_not_carried_out(exchange: Organization, kind: str) -> None:
    value, wanted = REFUSALS[kind]
    mailbox = person(exchange)
    exchange.fault(kind, value, cmdlet="Set-CASMailbox", times=1)
    with session_with(exchange) as client:
        with pytest.raises(wanted) as caught:
            client.set_mailbox_entries(me(mailbox), allowed_add=("X",))
        assert not isinstance(caught.value, OutcomeUnknownError)
        assert mailbox.allowed == []
        # The session goes on.
        client.set_mailbox_entries(me(mailbox), allowed_add=("X",))
        client.set_mailbox_entries(me(mailbox), allowed_remove=("X",))


# Outcomes that are not known

LOST: dict[str, tuple[str, object, bool | None]] = {
    # The fault, its value, and whether the command is carried out all the same (None: by chance).
    "connection_dropped": ("outcome_lost", "", True),
    "shell_lost": ("shell_not_found", "", None),
    "no_answer": ("slow_command", 8, True),
    "malformed_answer": ("silent_end", "", True),
    "cmdlet_proxy_failed": ("proxy_error", "", False),
}


@pytest.mark.parametrize("because", LOST)
def test_an_outcome_that_is_lost(exchange: Organization, because: str) -> None:
    kind, value, is_done = LOST[because]
    mailbox = person(exchange)
    number = exchange.store.executed()[-1].number if exchange.store.executed() else 0
    with session_with(exchange, silence=2.0, read_timeout=2) as client:
        exchange.fault(kind, value, cmdlet="Set-CASMailbox", times=1)
        with pytest.raises(OutcomeUnknownError) as caught:
            client.set_mailbox_entries(me(mailbox), allowed_add=("LOST",))
    found = caught.value
    assert found.because == because
    assert not found.is_accepted
    assert found.command.startswith(f"Set-CASMailbox -Identity '{mailbox.guid}' -ActiveSyncAllowedDeviceIDs")
    assert found.__cause__ is not None
    assert not isinstance(found, TransientError)
    end = time.monotonic() + 10
    while is_done is not None and ("LOST" in mailbox.allowed) is not is_done and time.monotonic() < end:
        time.sleep(0.05)
    assert is_done in (None, "LOST" in mailbox.allowed)
    sent = len(writes(exchange, number))
    # Never a second time. Where it is by chance, the shell may go before the command begins.
    assert sent == 1 or (sent == 0 and is_done is None)
    with session_with(exchange) as client:
        client.set_mailbox_entries(me(mailbox), allowed_remove=("LOST",))


def test_what_never_left_is_known_not_to_be_done(exchange: Organization) -> None:
    with session_with(exchange) as client:
        client.organization()
        exchange.refuse()
        client._channel._connection.transport.reset()  # as after a pause: the next request makes a connection
        with pytest.raises(TransientError) as caught:
            client.set_mailbox_entries(me(person(exchange)), allowed_add=("X",))
    assert caught.value.code == "connection_refused"


def test_a_stop_lets_a_command_under_way_come_to_its_end(exchange: Organization) -> None:
    wants_stop = threading.Event()
    mailbox = person(exchange)
    with session_with(exchange, should_stop=wants_stop.is_set) as client:
        exchange.fault("slow_command", 2, cmdlet="Set-CASMailbox", times=1)
        threading.Timer(0.3, wants_stop.set).start()
        client.set_mailbox_entries(me(mailbox), allowed_add=("SLOW",))
        assert mailbox.allowed == ["SLOW"]
        with pytest.raises(CanceledError):
            client.set_mailbox_entries(me(mailbox), allowed_remove=("SLOW",))
    assert mailbox.allowed == ["SLOW"]
    mailbox.allowed = []


def test_a_stop_does_not_wait_for_ever(exchange: Organization, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "WRITE_GRACE", 1.2)
    wants_stop = threading.Event()
    mailbox = person(exchange)
    started = time.monotonic()
    with session_with(exchange, should_stop=wants_stop.is_set) as client:
        exchange.fault("hold", "", cmdlet="Set-CASMailbox")
        threading.Timer(0.3, wants_stop.set).start()
        with pytest.raises(OutcomeUnknownError) as caught:
            client.set_mailbox_entries(me(mailbox), allowed_add=("HELD",))
        assert isinstance(caught.value.__cause__, CanceledError)
    assert caught.value.because == "canceled"
    assert time.monotonic() - started < 6
    exchange.settle()
    assert "HELD" not in mailbox.allowed  # its session was closed before it was begun


def test_a_created_object_that_cannot_be_read_was_created() -> None:
    def script(sent: Sent) -> Iterator[Answer]:
        yield answer(state())

    with (
        miniature(script, commands=("Get-MobileDevice", "Set-ADServerSettings")) as server,
        session_at(server) as client,
        pytest.raises(OutcomeUnknownError) as caught,
    ):
        client.device_access_rule_create(characteristic="DeviceType", query_string="x", access_level="Block")
    assert caught.value.is_accepted
    assert caught.value.because == "malformed_answer"


ANSWERS: dict[str, tuple[list[Answer], type[ExchangeError]]] = {
    "done": ([answer(state())], type(None)),  # type: ignore[dict-item]
    "an error of the command": ([answer(error("odd"), state())], BadRequestError),
    "the way inside is lost": (
        [answer(error("gone", "PSRemotingTransportException"), state())],
        OutcomeUnknownError,
    ),
    "no last word": ([answer(is_done=True)], OutcomeUnknownError),
    "dropped at once": ([answer(drop=True)], OutcomeUnknownError),
}


@contextmanager
def session_at(server: Miniature) -> Iterator[ExchangeClient]:
    endpoint = Endpoint("ex01.contoso.test", server.port, use_tls=False, address="127.0.0.1")
    options = Options(connect_timeout=2, operation_timeout=1, read_timeout=2, silence=2, deadline=20)
    with connect(endpoint, Account("CONTOSO\\svc", "sesame", "basic"), options) as client:
        yield client


@pytest.mark.parametrize(("answers", "wanted"), ANSWERS.values(), ids=ANSWERS.keys())
def test_how_a_command_can_end(answers: list[Answer], wanted: type[ExchangeError]) -> None:
    caught: ExchangeError | None = None
    with miniature(lambda sent: iter(answers)) as server, session_at(server) as client:
        try:
            client.set_mailbox_entries(Identity("carlos"), allowed_add=("X",))
        except ExchangeError as found:
            caught = found
    assert type(caught) is wanted
    assert [sent.name for sent in server.sent].count("Set-CASMailbox") == 1


# Only observing

CHANGES: dict[str, Callable[[Session], object]] = {
    "entries": lambda c: c.set_mailbox_entries(Identity("x"), allowed_add=("A",)),
    "settings": lambda c: c.set_organization_settings(default_access_level="Block"),
    "new rule": lambda c: c.device_access_rule_create(
        characteristic="DeviceType", query_string="x", access_level="Block"
    ),
    "rule": lambda c: c.device_access_rule_set(Identity("x"), access_level="Block"),
    "no rule": lambda c: c.device_access_rule_remove(Identity("x")),
    "new policy": lambda c: c.mailbox_policy_create("x", {}),
    "policy": lambda c: c.mailbox_policy_set(Identity("x"), {}, make_default=True),
    "no policy": lambda c: c.mailbox_policy_remove(Identity("x")),
    "assign": lambda c: c.mailbox_policy_assign(Identity("x"), None),
    "wipe": lambda c: c.device_wipe(Identity("x")),
    "no wipe": lambda c: c.device_wipe_cancel(Identity("x")),
    "remove": lambda c: c.device_remove(Identity("x")),
    "anything": lambda c: c.execute(Command("Disable-Mailbox", {"Identity": Identity("x")})),
    # Also where somebody takes the way of a reading, or puts it behind one.
    "as a reading": lambda c: list(c._channel.stream(cmdlets.remove_mobile_device(Family.MOBILE, Identity("x")))),
    "behind a reading": lambda c: list(
        c._channel.stream(
            cmdlets.list_mobile_devices(Family.MOBILE), cmdlets.remove_mobile_device(Family.MOBILE, Identity("x"))
        )
    ),
}


def test_an_observing_session_changes_nothing_whatever_is_asked(exchange: Organization) -> None:
    with session_with(exchange, observe_only=True) as client:
        assert client.is_observe_only
        number = exchange.store.executed()[-1].number
        for name, change in CHANGES.items():
            with pytest.raises(ObserveOnlyError) as caught:
                change(client)
            assert caught.value.command, name
            assert caught.value.cmdlet in caught.value.command, name
        assert exchange.store.executed(number) == []
        # Reading goes on in the same session.
        assert client.organization().name == exchange.store.name
        assert list(client.cas_mailboxes())


def test_a_script_is_refused_too(exchange: Organization) -> None:
    with session_with(exchange, observe_only=True) as client:
        pipeline = FastPipeline(client._channel._pool)
        pipeline.add_script("Get-MobileDevice")
        with pytest.raises(ObserveOnlyError):
            pipeline.begin_invoke()


def test_the_command_that_is_not_sent_is_shown(exchange: Organization) -> None:
    with session_with(exchange, observe_only=True) as client, pytest.raises(ObserveOnlyError) as caught:
        client.set_mailbox_entries(Identity("carlos"), allowed_add=("A1", "B2"), blocked_remove=("A1",))
    assert caught.value.command == (
        "Set-CASMailbox -Identity 'carlos' -ActiveSyncAllowedDeviceIDs @{Add='A1','B2'} "
        "-ActiveSyncBlockedDeviceIDs @{Remove='A1'} -Confirm:$false"
    )
    assert caught.value.params["command"] == caught.value.command


# What is written is what Exchange goes by


def test_exchange_decides_by_what_was_written(versioned: tuple[Organization, Session]) -> None:
    exchange, client = versioned
    device = active_phone(exchange)
    claim = Claim(device.device_id, device.device_type, device.model, device.os)
    client.set_mailbox_entries(me(device.mailbox), blocked_add=(device.device_id,))
    decision, _ = phone_request(exchange.store, device.mailbox, claim)
    assert (decision.state, decision.reason) == ("Blocked", "Individual")
    client.set_mailbox_entries(me(device.mailbox), allowed_add=(device.device_id,), blocked_remove=(device.device_id,))
    decision, _ = phone_request(exchange.store, device.mailbox, claim)
    assert (decision.state, decision.reason) == ("Allowed", "Individual")
    client.set_mailbox_entries(me(device.mailbox), allowed_remove=(device.device_id,))
