"""The commands add_connector, demo and sync: what they make, and that a mistake gets one clear line."""

from __future__ import annotations

import getpass
import io
import json
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from connectors.actors import SETUP
from connectors.models import Connector, ExchangeOrganization, Tenant
from connectors.notification_accounts import notification_account_of
from connectors.secrets import Secret
from connectors.sources import source_of
from console.management.commands import sync as sync_command
from sync.models import SyncRun
from sync.policies.policy import TenantPolicyValues
from sync.policies.policy_services import policy_current, tenant_policy_change
from sync.services import successor_start
from tests.connectors import factories

pytestmark = pytest.mark.django_db

CA, _CA_KEY = factories.authority()
PASSWORD = "Corr3ct horse"


def run(*arguments: str) -> str:
    out = io.StringIO()
    call_command(*arguments, stdout=out, stderr=out)
    return out.getvalue()


class TestAddConnector:
    @pytest.fixture
    def password_file(self, tmp_path: Path) -> str:
        path = tmp_path / "password"
        path.write_text(PASSWORD + "\n")
        return str(path)

    def add(
        self, password_file: str, *more: str, server: str = "ex01.contoso.com", user: str = "svc@contoso.com"
    ) -> str:
        given = ["--tenant", "Contoso", "--organization", "Contoso mail", "--server", server, "--user", user]
        return run("add_connector", *given, "--password-file", password_file, *more)

    def test_tenant_organisation_and_connector_are_made(self, password_file: str, tmp_path: Path) -> None:
        (tmp_path / "ca.pem").write_text(CA)
        out = self.add(
            password_file,
            *("--server", "ex02.contoso.com:8443", "--server", "ex03.contoso.com:444=127.0.0.1"),
            *("--auth", "negotiate", "--ca-file", str(tmp_path / "ca.pem")),
            *("--site", "berlin", "--time-zone", "Europe/Berlin"),
        )
        connector = Connector.objects.get()
        assert connector.organization.name == "Contoso mail"
        assert (connector.organization.tenant.name, connector.organization.tenant.time_zone) == (
            "Contoso",
            "Europe/Berlin",
        )
        assert (connector.username, connector.authentication, connector.site) == (
            "svc@contoso.com",
            "negotiate",
            "berlin",
        )
        assert connector.password == Secret(PASSWORD)
        assert connector.ca_certificates == CA
        assert list(connector.servers.values_list("fqdn", "port", "address", "use_tls")) == [
            ("ex01.contoso.com", 443, "", True),
            ("ex02.contoso.com", 8443, "", True),
            ("ex03.contoso.com", 444, "127.0.0.1", True),
        ]
        assert f"manage.py sync {connector.public_id} --wait" in out
        assert PASSWORD not in out
        assert not SyncRun.objects.exists()

    def test_without_tls_the_port_is_80(self, password_file: str) -> None:
        self.add(password_file, "--no-tls")
        assert Connector.objects.get().servers.get().port == 80

    def test_sync_requests_a_full_one(self, password_file: str) -> None:
        out = self.add(password_file, "--sync")
        requested = SyncRun.objects.get()
        assert (requested.kind, requested.trigger, requested.status) == ("fullSync", "setup", "queued")
        assert "site.default" in out

    def test_advice_is_given(self, password_file: str) -> None:
        assert "Kerberos reads the realm" in self.add(password_file, user="CONTOSO\\svc")
        assert Connector.objects.count() == 1

    def test_an_organisation_that_waits_for_its_connector_gets_it(self, password_file: str) -> None:
        organization = factories.organization("Contoso mail")
        self.add(password_file)
        assert Connector.objects.get().organization == organization

    def test_the_password_is_asked_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Terminal(io.StringIO):
            def isatty(self) -> bool:
                return True

        monkeypatch.setattr(sys, "stdin", Terminal())
        monkeypatch.setattr(getpass, "getpass", lambda prompt: PASSWORD)
        run("add_connector", "--tenant", "T", "--organization", "O", "--server", "ex01", "--user", "a@b.c")
        assert Connector.objects.get().password == Secret(PASSWORD)

    def test_the_password_is_read_from_standard_input(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "stdin", io.StringIO(f"{PASSWORD}\r\n"))
        self.add("-")
        assert Connector.objects.get().password == Secret(PASSWORD)

    def test_without_a_terminal_it_is_not_guessed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "stdin", io.StringIO())
        with pytest.raises(CommandError, match="no terminal"):
            run("add_connector", "--tenant", "T", "--organization", "O", "--server", "ex01", "--user", "a@b.c")

    def test_the_password_as_an_argument_is_refused_and_not_repeated(self, password_file: str) -> None:
        with pytest.raises(CommandError, match="not taken as an argument") as caught:
            self.add(password_file, "--password", "hunter2")
        assert "hunter2" not in str(caught.value)

    @pytest.mark.parametrize(
        ("more", "words"),
        [
            (["--server", "ex02.contoso.com:https"], "“https” in --server .* is not a port number"),
            (["--server", "ex02.contoso.com:"], "is not a port number"),
            (["--server", "ex02.contoso.com:5986"], "the machine's own remote management"),
            (["--server", "https://ex02.contoso.com"], "is not a port number|address of a page"),
            (["--server", "ex01.contoso.com"], "named twice"),
            (["--auth", "basic", "--no-tls"], "password readable over the network"),
            (["--ca-file", "/nonexistent/ca.pem"], "Cannot read /nonexistent/ca.pem: No such file"),
            (["--ca-file", __file__], "not a certificate in PEM form"),
            (["--site", "Berlin Mitte"], "lower-case letters"),
            (["--time-zone", "Berlin"], "is not a time zone name"),
            (["--auth", "digest"], "invalid choice"),
        ],
    )
    def test_a_mistake_gets_one_clear_line_and_leaves_nothing(
        self, password_file: str, more: list[str], words: str
    ) -> None:
        with pytest.raises(CommandError, match=words) as caught:
            self.add(password_file, *more)
        assert "\n" not in str(caught.value)
        assert not Connector.objects.exists()
        assert not Tenant.objects.exists()

    def test_a_second_connector_is_refused(self, password_file: str) -> None:
        self.add(password_file)
        with pytest.raises(CommandError, match="has a connector already"):
            self.add(password_file)

    def test_another_time_zone_of_a_tenant_that_exists_is_refused(self, password_file: str) -> None:
        factories.tenant("Contoso")
        with pytest.raises(CommandError, match="exists, in time zone UTC"):
            self.add(password_file, "--time-zone", "Europe/Berlin")


GROUPS = ("mobile users", "sales", "executives")


def lab_state(folder: Path, *, port: int = 40000, word: str = "lab1") -> Path:
    """A state file as the lab writes it, with the three organisations of its default scenario."""
    (folder / "ca.pem").write_text(CA)

    def one(name: str, tenant: str, version: str, count: int) -> dict[str, Any]:
        domain = name.lower().replace(" ", "-") + ".example"
        return {
            "name": name,
            "tenant": tenant,
            "domain": domain,
            "version": version,
            "authentications": ["kerberos", "negotiate", "ntlm", "basic"],
            "servers": [
                {"fqdn": f"ex{n}.{domain}", "host": "127.0.0.1", "http_port": port + n, "https_port": port + 100 + n}
                for n in range(1, count + 1)
            ],
            "accounts": [
                {"user": "LAB\\reader", "password": "x", "role": "viewer"},
                {"user": "LAB\\svc-gatehouse", "password": word, "role": "connector"},
                {"user": "LAB\\notify", "upn": f"notify@{domain}", "password": word, "role": "notification"},
            ],
        }

    def directory(name: str) -> dict[str, Any]:
        return {
            "name": name,
            "id": str(uuid.uuid5(uuid.NAMESPACE_DNS, name)),
            "client_id": str(uuid.uuid5(uuid.NAMESPACE_URL, name)),
            "client_secret": word,
            "groups": {f"{name} {group}": str(uuid.uuid5(uuid.NAMESPACE_OID, group)) for group in GROUPS},
        }

    root = f"http://127.0.0.1:{port + 200}"
    state = {
        "graph": {"login": root, "graph": root, "tenants": [directory("Contoso"), directory("Fabrikam")]},
        "ca": str(folder / "ca.pem"),
        "control": "http://127.0.0.1:1/token",
        "organizations": [
            one("Contoso", "Contoso", "SE", 3),
            one("Contoso Research", "Contoso", "2016", 2),
            one("Fabrikam", "Fabrikam", "2013", 1),
        ],
    }
    path = folder / "lab.json"
    path.write_text(json.dumps(state))
    return path


class TestDemo:
    def ways(self) -> list[tuple[str, str, bool, int, int]]:
        return [
            (c.organization.name, c.authentication, s.use_tls, s.port, c.servers.count())
            for c in Connector.objects.order_by("organization__name")
            for s in c.servers.all()[:1]
        ]

    def test_two_tenants_with_three_organisations_each_in_its_own_way(self, tmp_path: Path) -> None:
        out = run("demo", "--lab", str(lab_state(tmp_path)))
        assert out == "demo: 2 tenants, 3 organizations, 3 first syncs requested\n"
        assert [tenant.name for tenant in Tenant.objects.all()] == ["Contoso", "Fabrikam"]
        assert ExchangeOrganization.objects.filter(tenant__name="Contoso").count() == 2
        assert self.ways() == [
            ("Contoso", "negotiate", True, 40101, 3),
            ("Contoso Research", "ntlm", False, 40001, 2),
            ("Fabrikam", "basic", True, 40101, 1),
        ]
        connector = Connector.objects.get(organization__name="Fabrikam")
        assert (connector.username, connector.password) == ("LAB\\svc-gatehouse", Secret("lab1"))
        assert connector.ca_certificates == CA
        assert connector.servers.get().address == "127.0.0.1"
        assert SyncRun.objects.filter(kind="fullSync", trigger="setup", status="queued").count() == 3

    def test_what_decides_about_phones(self, tmp_path: Path) -> None:
        run("demo", "--lab", str(lab_state(tmp_path)))
        contoso, fabrikam = Tenant.objects.get(name="Contoso"), Tenant.objects.get(name="Fabrikam")
        assert (source_of(contoso).kind, source_of(fabrikam).kind) == ("graph", "pushed")
        assert source_of(contoso).client_secret == Secret("lab1")
        values, version = policy_current(contoso)
        assert version is not None
        assert (values.enabled, [group.name for group in values.included_groups]) == (True, ["Contoso sales"])
        assert [group.name for group in values.excluded_groups] == ["Contoso executives"]
        assert policy_current(fabrikam)[1] is None
        organization = ExchangeOrganization.objects.get(name="Contoso Research")
        assert notification_account_of(organization).sender == "notify@contoso-research.example"
        assert policy_current(organization)[0].notification.enrollment_link == "http://127.0.0.1:40200/enroll/Contoso"

    def test_a_new_lab_brings_its_secret_and_keeps_the_policy(self, tmp_path: Path) -> None:
        run("demo", "--lab", str(lab_state(tmp_path)))
        contoso = Tenant.objects.get(name="Contoso")
        tenant_policy_change(tenant=contoso, values=TenantPolicyValues(), reason="Off", actor=SETUP)
        run("demo", "--lab", str(lab_state(tmp_path, port=50000, word="lab2")))
        assert source_of(contoso).client_secret == Secret("lab2")
        assert policy_current(contoso)[0].enabled is False

    def test_the_same_again_changes_nothing(self, tmp_path: Path) -> None:
        path = str(lab_state(tmp_path))
        run("demo", "--lab", path)
        before = sorted(Connector.objects.values_list("pk", "generation", "servers__pk"))
        run("demo", "--lab", path)
        assert sorted(Connector.objects.values_list("pk", "generation", "servers__pk")) == before
        assert SyncRun.objects.count() == 3

    def test_a_new_lab_brings_ports_and_passwords(self, tmp_path: Path) -> None:
        run("demo", "--lab", str(lab_state(tmp_path)))
        run("demo", "--lab", str(lab_state(tmp_path, port=50000, word="lab2")))
        assert {c.password.reveal() for c in Connector.objects.all()} == {"lab2"}
        assert [port for _name, _auth, _tls, port, _count in self.ways()] == [50101, 50001, 50101]

    def test_how_someone_chose_to_sign_in_is_kept(self, tmp_path: Path) -> None:
        run("demo", "--lab", str(lab_state(tmp_path)))
        fabrikam = Connector.objects.get(organization__name="Fabrikam")
        Connector.objects.filter(pk=fabrikam.pk).update(authentication="ntlm")
        fabrikam.servers.update(use_tls=False)
        run("demo", "--lab", str(lab_state(tmp_path, port=50000)))
        assert ("Fabrikam", "ntlm", False, 50001, 1) in self.ways()

    def test_a_connector_that_had_a_full_sync_gets_no_other(self, tmp_path: Path) -> None:
        path = str(lab_state(tmp_path))
        run("demo", "--lab", path)
        SyncRun.objects.all().delete()
        Connector.objects.exclude(organization__name="Fabrikam").update(last_full_sync_at=timezone.now())
        assert "1 first syncs requested" in run("demo", "--lab", path)
        assert SyncRun.objects.get().connector.organization.name == "Fabrikam"

    def test_a_real_connector_of_that_name_is_left_alone(self, tmp_path: Path) -> None:
        connector = factories.connector("Contoso", of="Contoso")
        out = run("demo", "--lab", str(lab_state(tmp_path)))
        assert "Contoso has a connector that is not the lab's" in out
        connector.refresh_from_db()
        assert (connector.generation, connector.username) == (1, "svc-eas@contoso.com")
        assert not connector.runs.exists()
        assert policy_current(connector.organization.tenant)[1] is None
        assert source_of(connector.organization.tenant).kind == "none"

    def test_a_way_the_lab_does_not_offer_is_not_chosen(self, tmp_path: Path) -> None:
        path = lab_state(tmp_path)
        state = json.loads(path.read_text())
        for organization in state["organizations"]:
            organization["authentications"] = ["kerberos", "ntlm"]
        path.write_text(json.dumps(state))
        run("demo", "--lab", str(path))
        assert {way[1] for way in self.ways()} == {"ntlm"}

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            (None, "Is the lab started"),
            ("{", "is not JSON"),
            ("[]", "does not describe a lab"),
            ("{}", "does not describe a lab"),
            ('{"ca": "/nonexistent", "organizations": []}', "does not describe a lab"),
        ],
    )
    def test_a_file_that_is_no_lab_gets_one_clear_line(self, tmp_path: Path, text: str | None, words: str) -> None:
        path = tmp_path / "lab.json"
        if text is not None:
            path.write_text(text)
        with pytest.raises(CommandError, match=words):
            run("demo", "--lab", str(path))


class TestSync:
    @pytest.fixture
    def connector(self) -> Connector:
        return factories.connector()

    def finish_while_waiting(self, monkeypatch: pytest.MonkeyPatch, *steps: dict[str, Any]) -> None:
        """Let each wait between two looks at the run bring it one step further, as a worker would."""
        remaining = iter(steps)
        monkeypatch.setattr(
            sync_command,
            "sleep",
            lambda seconds: SyncRun.objects.filter(status__in=SyncRun.ACTIVE).update(**next(remaining)),
        )

    @pytest.mark.parametrize(("more", "kind"), [([], "fullSync"), (["--quick"], "deltaSync")])
    def test_requests_a_run(self, connector: Connector, more: list[str], kind: str) -> None:
        Connector.objects.update(last_full_sync_at=timezone.now())
        out = run("sync", "Contoso", *more)
        requested = SyncRun.objects.get()
        assert (requested.kind, requested.trigger) == (kind, "command")
        assert str(requested.public_id) in out

    def test_a_first_quick_sync_says_that_it_is_a_full_one(self, connector: Connector) -> None:
        assert run("sync", "Contoso", "--quick").startswith("Full sync of Contoso requested")

    def test_a_full_sync_behind_a_quick_one_is_followed_too(
        self, connector: Connector, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        Connector.objects.update(last_full_sync_at=timezone.now())
        run("sync", "Contoso", "--quick")
        quick = SyncRun.objects.get()

        def worker(seconds: float) -> None:
            quick.refresh_from_db()
            if quick.is_active:
                SyncRun.objects.update(status="failed", error_code="no_answer", finished_at=timezone.now())
            elif SyncRun.objects.count() == 1:
                successor_start(quick)
            else:
                SyncRun.objects.exclude(pk=quick.pk).update(status="succeeded", observed=12, finished_at=timezone.now())

        monkeypatch.setattr(sync_command, "sleep", worker)
        out = run("sync", "Contoso", "--wait")
        assert "the full one follows it" in out
        assert [(r.kind, r.status) for r in SyncRun.objects.order_by("pk")] == [
            ("deltaSync", "failed"),
            ("fullSync", "succeeded"),
        ]
        assert out.splitlines()[-1] == "Successful: 12 devices, 0 new, 0 changed, 0 gone."

    def test_a_full_sync_that_never_starts_is_told(self, connector: Connector, monkeypatch: pytest.MonkeyPatch) -> None:
        Connector.objects.update(last_full_sync_at=timezone.now())
        run("sync", "Contoso", "--quick")
        self.finish_while_waiting(monkeypatch, *[{"status": "succeeded", "finished_at": timezone.now()}] * 100)
        with pytest.raises(CommandError, match="did not start"):
            run("sync", "Contoso", "--wait")

    def test_a_second_request_joins(self, connector: Connector) -> None:
        run("sync", "Contoso")
        out = run("sync", "Contoso")
        assert str(SyncRun.objects.get().public_id) in out
        assert "joins" in out

    @pytest.mark.parametrize("of", ["connector", "organization"])
    def test_finds_by_id(self, connector: Connector, of: str) -> None:
        found = connector.public_id if of == "connector" else connector.organization.public_id
        run("sync", str(found))
        assert SyncRun.objects.get().connector == connector

    def test_an_unknown_name_gets_one_clear_line(self, connector: Connector) -> None:
        with pytest.raises(CommandError, match="no connector of an organization called “Tailspin”"):
            run("sync", "Tailspin")

    def test_a_name_of_two_tenants_needs_the_tenant(self, connector: Connector) -> None:
        other = factories.connector("Contoso", of="Fabrikam")
        with pytest.raises(CommandError, match="--tenant"):
            run("sync", "Contoso")
        run("sync", "Contoso", "--tenant", "Fabrikam")
        assert SyncRun.objects.get().connector == other

    def test_wait_prints_progress_and_ends_well(self, connector: Connector, monkeypatch: pytest.MonkeyPatch) -> None:
        self.finish_while_waiting(
            monkeypatch,
            {"status": "running", "phase": "connecting", "started_at": timezone.now()},
            {"phase": "devices", "observed": 100, "expected": 300},
            {"phase": "devices", "observed": 200},
            {
                "phase": "finished",
                "status": "succeeded",
                "observed": 300,
                "created": 300,
                "finished_at": timezone.now(),
            },
        )
        lines = run("sync", "Contoso", "--wait").splitlines()
        assert lines[1:] == [
            "Waiting for a worker",
            "Connecting to Exchange",
            "Reading devices: 100 / 300",
            "Reading devices: 200 / 300",
            "Finished",
            "Successful: 300 devices, 300 new, 0 changed, 0 gone.",
        ]

    def test_wait_ends_with_the_problem(self, connector: Connector, monkeypatch: pytest.MonkeyPatch) -> None:
        self.finish_while_waiting(
            monkeypatch,
            {
                "status": "failed",
                "error_code": "connection_refused",
                "error_params": {"server": "ex01.contoso.com"},
                "finished_at": timezone.now(),
            },
        )
        with pytest.raises(CommandError) as caught:
            run("sync", "Contoso", "--wait")
        assert caught.value.returncode == 1
        text = str(caught.value)
        assert "The server refuses the connection [connection_refused]" in text
        assert "ex01.contoso.com is reachable" in text
        assert "W3SVC" in text

    def test_wait_ends_when_it_is_canceled(self, connector: Connector, monkeypatch: pytest.MonkeyPatch) -> None:
        self.finish_while_waiting(
            monkeypatch, {"status": "canceled", "error_code": "run_canceled", "finished_at": timezone.now()}
        )
        with pytest.raises(CommandError, match="The run was canceled"):
            run("sync", "Contoso", "--wait")
