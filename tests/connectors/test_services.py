"""Services: what they refuse and in which words, what they write, and what a stale run may not."""

from __future__ import annotations

import dataclasses
import datetime

import pytest
from cryptography.fernet import Fernet
from django.core.exceptions import ValidationError
from django.utils import timezone
from pytest_django import Settings

from connectors.actors import SETUP
from connectors.exchange.records import ExchangeServerRecord
from connectors.models import ClientAccessServer, Connector, ConnectorStatus, ExchangeOrganization
from connectors.secrets import Secret
from connectors.services import (
    AccountSettings,
    ServerSettings,
    StaleFenceError,
    connector_create,
    connector_observed,
    connector_reconfigure,
    connector_status_set,
    organization_create,
    schedule_change,
    server_answered,
    server_failed,
    tenant_create,
)
from tests.connectors import factories
from tests.connectors.factories import ACCOUNT, E2016, E2019, E_NEXT, SERVERS, server_record

pytestmark = pytest.mark.django_db

CA, CA_KEY = factories.authority()


def servers_of(connector: Connector) -> list[tuple[str, int, bool]]:
    return list(connector.servers.values_list("fqdn", "port", "is_usable"))


class TestTenantAndOrganization:
    def test_a_name_is_taken_once(self) -> None:
        tenant_create(name="Contoso", actor=SETUP)
        with pytest.raises(ValidationError, match="already exists"):
            tenant_create(name=" Contoso ", actor=SETUP)

    def test_a_time_zone_must_exist(self) -> None:
        with pytest.raises(ValidationError, match="“Berlin” is not a time zone name such as Europe/Berlin"):
            tenant_create(name="Contoso", time_zone="Berlin", actor=SETUP)

    def test_an_organization_is_named_once_a_tenant(self) -> None:
        factories.organization("Mail", of="Contoso")
        factories.organization("Mail", of="Fabrikam")
        with pytest.raises(ValidationError):
            factories.organization("Mail", of="Contoso")

    @pytest.mark.parametrize("name", ["", "   "])
    def test_a_name_is_needed(self, name: str) -> None:
        with pytest.raises(ValidationError):
            tenant_create(name=name, actor=SETUP)
        with pytest.raises(ValidationError):
            organization_create(tenant=factories.tenant(), name=name, actor=SETUP)


class TestCreate:
    def test_a_connector_stands_as_it_was_asked_for(self) -> None:
        connector = connector_create(
            organization=factories.organization(),
            account=ACCOUNT,
            servers=[
                ServerSettings("EX01.Contoso.com.", address="127.0.0.1", port=8443),
                ServerSettings("ex02.contoso.com", port=80, use_tls=False),
            ],
            ca_certificates=f"subject=Test\n{CA}\ntrailing words",
            site="berlin-2",
            actor=SETUP,
        )
        connector = Connector.objects.get(pk=connector.pk)
        assert (connector.generation, connector.site, connector.status) == (1, "berlin-2", "connectionPending")
        assert (connector.username, connector.password, connector.authentication) == dataclasses.astuple(ACCOUNT)
        assert connector.ca_certificates == CA
        assert [(s.fqdn, s.address, s.port, s.use_tls, s.is_usable, s.source) for s in connector.servers.all()] == [
            ("ex01.contoso.com", "127.0.0.1", 8443, True, True, "configured"),
            ("ex02.contoso.com", "", 80, False, True, "configured"),
        ]

    def test_an_organization_has_one_connector(self) -> None:
        organization = factories.connector().organization
        with pytest.raises(ValidationError, match="Contoso has a connector already") as caught:
            connector_create(organization=organization, account=ACCOUNT, servers=SERVERS, actor=SETUP)
        assert list(caught.value.error_dict) == ["organization"]

    def test_everything_wrong_is_told_at_once_and_nothing_is_written(self) -> None:
        with pytest.raises(ValidationError) as caught:
            connector_create(
                organization=factories.organization(),
                account=AccountSettings("svc", Secret(""), "digest"),
                servers=[],
                ca_certificates="no certificate",
                site="Not A Site",
                actor=SETUP,
            )
        assert set(caught.value.error_dict) == {
            "username", "password", "authentication", "servers", "ca_certificates", "site",
        }  # fmt: skip
        assert not Connector.objects.exists()

    @pytest.mark.parametrize(
        ("server", "code"),
        [
            (ServerSettings(""), "host_malformed"),
            (ServerSettings("-ex.contoso.com"), "host_malformed"),
            (ServerSettings("ex..contoso.com"), "host_malformed"),
            (ServerSettings("ex 01.contoso.com"), "host_malformed"),
            (ServerSettings("ex01.contoso.com\n"), None),
            (ServerSettings("ex01\n.contoso.com"), "host_malformed"),
            (ServerSettings("bücher.contoso.com"), "host_malformed"),
            (ServerSettings("xn--bcher-kva.contoso.com"), None),
            (ServerSettings("a" * 64 + ".contoso.com"), "host_malformed"),
            (ServerSettings(".".join(["a" * 60] * 5)), "host_malformed"),
            (ServerSettings("1.2.3"), "host_malformed"),
            (ServerSettings("https://ex01.contoso.com/PowerShell"), "host_is_url"),
            (ServerSettings("ex01.contoso.com/PowerShell"), "host_is_url"),
            (ServerSettings("192.0.2.4"), "host_is_address"),
            (ServerSettings("[2001:db8::1]"), "host_is_address"),
            (ServerSettings("ex01"), None),
            (ServerSettings("ex01.contoso.com", address="192.0.2.4"), None),
            (ServerSettings("ex01.contoso.com", address="2001:db8::1"), None),
            (ServerSettings("ex01.contoso.com", address="a b"), "host_malformed"),
            (ServerSettings("ex01.contoso.com", port=0), "port_range"),
            (ServerSettings("ex01.contoso.com", port=65536), "port_range"),
            (ServerSettings("ex01.contoso.com", port=5985, use_tls=False), "port_winrm"),
            (ServerSettings("ex01.contoso.com", port=5986), "port_winrm"),
        ],
        ids=repr,
    )
    def test_servers(self, server: ServerSettings, code: str | None) -> None:
        organization = factories.organization()
        if code is None:
            connector_create(organization=organization, account=ACCOUNT, servers=[server], actor=SETUP)
            return
        with pytest.raises(ValidationError) as caught:
            connector_create(organization=organization, account=ACCOUNT, servers=[server], actor=SETUP)
        assert [error.code for error in caught.value.error_dict["servers"]] == [code]
        assert "%(" not in " ".join(caught.value.messages)

    def test_a_server_is_named_once(self) -> None:
        with pytest.raises(ValidationError, match="named twice"):
            factories.connector(servers=(ServerSettings("ex01.contoso.com"), ServerSettings("EX01.contoso.com")))

    @pytest.mark.parametrize(
        ("authentication", "use_tls", "is_allowed", "is_refused"),
        [
            ("basic", False, False, True),
            ("basic", False, True, False),
            ("basic", True, False, False),
            ("ntlm", False, False, False),
            ("negotiate", False, False, False),
            ("kerberos", False, False, False),
        ],
    )
    def test_clear_text_is_refused_unless_allowed(
        self, authentication: str, use_tls: bool, is_allowed: bool, is_refused: bool
    ) -> None:
        def create() -> Connector:
            return connector_create(
                organization=factories.organization(),
                account=dataclasses.replace(ACCOUNT, authentication=authentication),
                servers=[ServerSettings("ex01.contoso.com", use_tls=use_tls)],
                is_clear_text_allowed=is_allowed,
                actor=SETUP,
            )

        if is_refused:
            with pytest.raises(ValidationError, match=r"ex01\.contoso\.com without TLS would send the password"):
                create()
        else:
            assert create().is_clear_text_allowed is is_allowed

    @pytest.mark.parametrize(
        ("username", "is_good"),
        [
            ("svc-eas@contoso.com", True),
            ("svc-eas@CONTOSO.COM", True),
            ("CONTOSO\\svc-eas", True),
            ("contoso.com\\svc eas", True),
            ("svc-eas", False),
            ("", False),
            ("@contoso.com", False),
            ("svc@", False),
            ("svc@contoso@com", False),
            ("CONTOSO\\", False),
            ("\\svc", False),
            ("CONTOSO\\a\\b", False),
            ("CONTOSO/svc", False),
        ],
    )
    def test_user_names(self, username: str, is_good: bool) -> None:
        organization = factories.organization()
        account = dataclasses.replace(ACCOUNT, username=username)
        if is_good:
            connector_create(organization=organization, account=account, servers=SERVERS, actor=SETUP)
        else:
            with pytest.raises(ValidationError, match="is not an account name") as caught:
                connector_create(organization=organization, account=account, servers=SERVERS, actor=SETUP)
            assert list(caught.value.error_dict) == ["username"]

    @pytest.mark.parametrize(("authentication", "is_good"), [("kerberos", True), ("ntlm", False), ("basic", False)])
    def test_only_kerberos_goes_without_a_password(self, authentication: str, is_good: bool) -> None:
        organization = factories.organization()
        account = AccountSettings("svc@contoso.com", authentication=authentication)
        if is_good:
            connector_create(organization=organization, account=account, servers=SERVERS, actor=SETUP)
        else:
            with pytest.raises(ValidationError, match="A password is needed"):
                connector_create(organization=organization, account=account, servers=SERVERS, actor=SETUP)

    @pytest.mark.parametrize(
        ("pem", "words"),
        [
            (CA + CA_KEY, "private key"),
            ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "not a certificate"),
            ("\x00\x01", "not a certificate"),
            ("prüfung", "not a certificate"),
        ],
        ids=["key", "garbage", "binary", "text"],
    )
    def test_certificates(self, pem: str, words: str) -> None:
        with pytest.raises(ValidationError, match=words):
            connector_create(
                organization=factories.organization(),
                account=ACCOUNT,
                servers=SERVERS,
                ca_certificates=pem,
                actor=SETUP,
            )


class TestReconfigure:
    def test_the_same_again_changes_nothing(self) -> None:
        connector = factories.connector()
        assert not connector_reconfigure(connector=connector, account=ACCOUNT, servers=SERVERS, actor=SETUP)
        connector.refresh_from_db()
        assert connector.generation == 1

    @pytest.mark.parametrize(
        "changes",
        [
            {"account": dataclasses.replace(ACCOUNT, password=Secret("new"))},
            {"account": dataclasses.replace(ACCOUNT, username="other@contoso.com")},
            {"account": dataclasses.replace(ACCOUNT, authentication="ntlm")},
            {"servers": SERVERS[:1]},
            {"servers": SERVERS[::-1]},
            {"servers": [dataclasses.replace(SERVERS[0], port=8443), SERVERS[1]]},
            {"servers": [dataclasses.replace(SERVERS[0], address="127.0.0.1"), SERVERS[1]]},
            {"ca_certificates": CA},
            {"is_clear_text_allowed": True},
        ],
        ids=lambda changes: next(iter(changes)),
    )
    def test_any_difference_is_a_new_generation(self, changes: dict[str, object]) -> None:
        connector = factories.connector()
        arguments = {"account": ACCOUNT, "servers": SERVERS, **changes}
        assert connector_reconfigure(connector=connector, actor=SETUP, **arguments)  # type: ignore[arg-type]
        assert connector.generation == 2
        assert not connector_reconfigure(connector=connector, actor=SETUP, **arguments)  # type: ignore[arg-type]

    def test_a_new_password_lets_single_mailboxes_be_looked_at_at_once(self) -> None:
        connector = factories.connector()
        Connector.objects.filter(pk=connector.pk).update(checks_not_before=timezone.now())
        account = dataclasses.replace(ACCOUNT, password=Secret("new"))
        assert connector_reconfigure(connector=connector, account=account, servers=SERVERS, actor=SETUP)
        assert connector.checks_not_before is None

    def test_what_is_known_of_a_server_stays(self) -> None:
        connector = factories.connector()
        server_answered(server=connector.servers.get(fqdn="ex01.contoso.com"), actor=SETUP)
        moved = [dataclasses.replace(server, port=444) for server in SERVERS]
        connector_reconfigure(connector=connector, account=ACCOUNT, servers=moved, actor=SETUP)
        server = connector.servers.get(fqdn="ex01.contoso.com")
        assert server.port == 444
        assert server.last_answered_at is not None

    def test_a_discovered_server_that_is_named_becomes_usable_and_others_stay_listed(self) -> None:
        connector = factories.connector(servers=SERVERS[:1])
        observe(connector, server_record("ex02.contoso.com"), server_record("ex03.contoso.com"))
        connector_reconfigure(connector=connector, account=ACCOUNT, servers=SERVERS, actor=SETUP)
        assert servers_of(connector) == [
            ("ex01.contoso.com", 443, True),
            ("ex02.contoso.com", 443, True),
            ("ex03.contoso.com", 443, False),
        ]

    def test_a_refused_change_leaves_all_as_it_was(self) -> None:
        connector = factories.connector()
        with pytest.raises(ValidationError):
            connector_reconfigure(
                connector=connector,
                account=dataclasses.replace(ACCOUNT, username="x"),
                servers=SERVERS[:1],
                actor=SETUP,
            )
        assert len(servers_of(connector)) == 2
        assert Connector.objects.get().username == ACCOUNT.username

    def test_an_unreadable_password_can_be_entered_again(self, settings: Settings) -> None:
        connector = factories.connector()
        settings.FIELD_KEYS = [Fernet.generate_key().decode()]
        assert connector_reconfigure(connector=connector, account=ACCOUNT, servers=SERVERS, actor=SETUP)
        assert Connector.objects.get().password == ACCOUNT.password

    def test_what_runs_wrote_meanwhile_is_kept(self) -> None:
        connector = factories.connector()
        Connector.objects.filter(pk=connector.pk).update(fence=9, status="connected")
        account = dataclasses.replace(ACCOUNT, authentication="ntlm")
        connector_reconfigure(connector=connector, account=account, servers=SERVERS, actor=SETUP)
        assert (connector.fence, connector.status) == (9, "connected")


class TestSchedule:
    def test_due_times_are_forgotten(self) -> None:
        connector = factories.connector()
        now = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
        Connector.objects.update(next_quick_sync_at=now, next_full_sync_at=now)
        schedule_change(
            connector=connector,
            quick_sync_minutes=30,
            full_sync_time=datetime.time(4, 30),
            is_enabled=False,
            actor=SETUP,
        )
        stored = Connector.objects.get()
        assert (stored.quick_sync_minutes, stored.full_sync_time, stored.is_enabled) == (
            30,
            datetime.time(4, 30),
            False,
        )
        assert stored.next_quick_sync_at is None
        assert stored.next_full_sync_at is None

    @pytest.mark.parametrize("minutes", [0, 4, 24 * 60 + 1])
    def test_out_of_bounds_is_refused(self, minutes: int) -> None:
        connector = factories.connector()
        with pytest.raises(ValidationError) as caught:
            schedule_change(
                connector=connector,
                quick_sync_minutes=minutes,
                full_sync_time=datetime.time(2),
                is_enabled=True,
                actor=SETUP,
            )
        assert list(caught.value.error_dict) == ["quick_sync_minutes"]
        assert Connector.objects.get().quick_sync_minutes == 120


def observe(connector: Connector, *servers: ExchangeServerRecord, fence: int = 0) -> ExchangeOrganization:
    connector_observed(
        connector=connector,
        fence=fence,
        organization=factories.ORGANIZATION_RECORD,
        settings=factories.SETTINGS_RECORD,
        servers=servers,
        actor=SETUP,
    )
    return ExchangeOrganization.objects.get(pk=connector.organization_id)


class TestObserved:
    def test_what_exchange_said_is_kept(self) -> None:
        organization = observe(factories.connector(), server_record("ex01.contoso.com"))
        assert organization.name == "Contoso"
        assert organization.observed_name == "First Organization"
        assert organization.observed_guid == factories.ORGANIZATION_RECORD.guid
        assert organization.default_access_level == "Quarantine"
        assert organization.user_mail_insert == "Ask the desk"
        assert organization.admin_mail_recipients == ["desk@contoso.com"]
        assert organization.settings_observed_at is not None

    @pytest.mark.parametrize(
        ("versions", "product", "build"),
        [
            ([E2016, E2019], "2019", E2019.text),
            ([E2019, E2016], "2019", E2019.text),
            ([E2016], "2016", E2016.text),
            ([E2016, E_NEXT], "", E_NEXT.text),
        ],
    )
    def test_the_newest_server_gives_the_version(self, versions: list[object], product: str, build: str) -> None:
        servers = [server_record(f"ex{n}.contoso.com", found) for n, found in enumerate(versions)]  # type: ignore[arg-type]
        organization = observe(factories.connector(), *servers)
        assert (organization.version, organization.build) == (product, build)

    def test_no_server_listed_keeps_the_version(self) -> None:
        connector = factories.connector()
        observe(connector, server_record("ex01.contoso.com", E2016))
        assert observe(connector).version == "2016"

    def test_servers(self) -> None:
        """Configured ones keep how they are reached; others are listed; only those with Client Access; gone ones go."""
        connector = factories.connector(servers=(ServerSettings("ex01.contoso.com", 8443, address="127.0.0.1"),))
        observe(
            connector,
            server_record("EX01.contoso.com", E2016),
            server_record("ex02.contoso.com", E2019),
            server_record("mbx.contoso.com", is_client_access=False),
        )
        assert [(s.fqdn, s.port, s.address, s.source, s.is_usable, s.build) for s in connector.servers.all()] == [
            ("ex01.contoso.com", 8443, "127.0.0.1", "configured", True, E2016.text),
            ("ex02.contoso.com", 443, "", "discovered", False, E2019.text),
        ]
        observe(connector, server_record("ex03.contoso.com"))
        assert servers_of(connector) == [("ex01.contoso.com", 8443, True), ("ex03.contoso.com", 443, False)]

    def test_a_server_is_the_same_row_as_long_as_it_stands(self) -> None:
        connector = factories.connector()
        observe(connector, server_record("ex09.contoso.com"))
        before = connector.servers.get(fqdn="ex09.contoso.com").pk
        observe(connector, server_record("ex09.contoso.com", E2016))
        after = connector.servers.get(fqdn="ex09.contoso.com")
        assert (after.pk, after.build) == (before, E2016.text)

    def test_a_run_that_was_taken_over_writes_nothing(self) -> None:
        connector = factories.connector()
        Connector.objects.update(fence=5)
        with pytest.raises(StaleFenceError):
            observe(connector, server_record("ex09.contoso.com"), fence=4)
        assert ExchangeOrganization.objects.get().observed_name == ""
        assert len(servers_of(connector)) == 2

    def test_text_longer_than_its_column_is_cut(self) -> None:
        long = factories.version("Ver\0sion " + "9" * 300, "2019", 15, 2, 1, 1)
        build = observe(factories.connector(), server_record("ex01.contoso.com", long)).build
        assert build == "Version " + "9" * 56


class TestStatus:
    def test_the_time_of_change_moves_only_with_the_status(self) -> None:
        connector = factories.connector()
        old = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
        Connector.objects.update(status_changed_at=old)

        def set_status(status: str, error_code: str = "", server: str = "") -> Connector:
            connector_status_set(
                connector=connector,
                status=status,
                error_code=error_code,
                exchange_server=server,
                connector_server=server and "worker1",
                actor=SETUP,
            )
            return Connector.objects.get()

        assert set_status(ConnectorStatus.CONNECTION_PENDING).status_changed_at == old
        connected = set_status(ConnectorStatus.CONNECTED, server="ex01.contoso.com")
        assert connected.status_changed_at > old
        assert (connected.exchange_server, connected.connector_server) == ("ex01.contoso.com", "worker1")
        again = set_status(ConnectorStatus.CONNECTED)
        assert again.status_changed_at == connected.status_changed_at
        assert again.exchange_server == "ex01.contoso.com"
        failed = set_status(ConnectorStatus.DISCONNECTED, "no_answer")
        assert failed.status_changed_at > connected.status_changed_at
        assert (failed.last_error_code, failed.exchange_server) == ("no_answer", "ex01.contoso.com")
        assert set_status(ConnectorStatus.CONNECTED).last_error_code == ""
        assert connector.status == ConnectorStatus.CONNECTED

    def test_a_run_that_was_taken_over_says_nothing(self) -> None:
        connector = factories.connector()
        Connector.objects.update(fence=5)
        with pytest.raises(StaleFenceError):
            connector_status_set(connector=connector, status="connected", fence=4, actor=SETUP)
        assert Connector.objects.get().status == "connectionPending"

    def test_a_status_graph_does_not_know_is_refused(self) -> None:
        with pytest.raises(ValueError, match="sleeping"):
            connector_status_set(connector=factories.connector(), status="sleeping", actor=SETUP)


def test_a_server_remembers_answer_and_failure() -> None:
    connector = factories.connector()
    server = connector.servers.get(fqdn="ex01.contoso.com")
    server_failed(server=server, error_code="no_answer", actor=SETUP)
    stored = ClientAccessServer.objects.get(pk=server.pk)
    assert (stored.last_error_code, stored.last_answered_at) == ("no_answer", None)
    assert stored.last_error_at is not None
    server_answered(server=server, actor=SETUP)
    stored = ClientAccessServer.objects.get(pk=server.pk)
    assert stored.last_error_code == ""
    assert stored.last_answered_at is not None
    assert stored.last_answered_at >= stored.last_error_at  # type: ignore[operator]
