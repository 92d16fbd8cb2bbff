"""Secrets that cannot be mistaken for anything else, entered everywhere, used and refused; then looked for everywhere.

Each way of signing in is taken once with the right secret and once with a wrong one, over the wire. Afterwards none of
them stands in a log (at DEBUG), a page, an answer of the API, what lies in the broker, or the database.
"""

from __future__ import annotations

import base64
import datetime
import logging
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import redis
from django.conf import settings as configured
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.urls import reverse

from connectors import gateway
from connectors.actors import SETUP
from connectors.exchange import session
from connectors.mail.client import MailAccount, MailOptions
from connectors.mail.opening import open_mailer
from connectors.models import Connector, DeviceSource
from connectors.notification_accounts import notification_account_of, notification_account_test
from connectors.secrets import Secret
from connectors.services import AccountSettings, ServerSettings, connector_reconfigure
from console.accounts.models import Role
from sync.models import SyncRun
from sync.records.sources import records_refresh
from sync.runs import run_execute
from sync.services import sync_request
from tests.connectors.test_sources import pem
from tests.console.conftest import Scene
from tests.console.test_permissions import BODY
from tests.console.test_walk import addresses
from tests.factories import MembershipFactory, UserFactory
from tests.integration.worlds import connector_to
from tests.labs import Lab, Organization

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.wire, pytest.mark.timeout(120)]

WRONG = {
    "exchange": "canary-exchange~7Qd1",
    "graph": "canary-graph~7Qd2",
    "ews": "canary-ews~7Qd3",
    "smtp": "canary-smtp~7Qd4",
    "token": "gatehouse_canary-token-7Qd5",
    "person": "canary-person~7Qd6",
    "proxy": "canary-proxy~7Qd7",
}


def spellings(secret: str) -> Iterator[str]:
    """As it is, as a form sends it, and as Base64 shows it wherever in a longer text it begins."""
    yield secret
    yield quote(secret, safe="")
    for before in range(3):
        encoded = base64.b64encode(b"x" * before + secret.encode()).decode()
        # The first and the last signs are of their neighbours too.
        yield encoded[(0, 2, 3)[before] : len(encoded.rstrip("=")) - 1]


def stored() -> str:
    """Every table, as the database has it."""
    with connection.cursor() as cursor:
        tables = connection.introspection.table_names(cursor)
        found = []
        for table in tables:
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")  # noqa: S608 - a table of ours
            found += [table, *(str(value) for row in cursor.fetchall() for value in row)]
    return "\n".join(found)


def queued() -> str:
    """All that lies in the broker and the cache."""
    url = f"{configured.REDIS_URL}?db=" if configured.REDIS_URL.startswith("unix://") else ""
    one: Any
    found: list[bytes] = []
    for one in map(redis.Redis.from_url, [f"{url}{number}" for number in (0, 1)] if url else [configured.REDIS_URL]):
        for key in one.scan_iter():
            found.append(key)
            kind = one.type(key)
            if kind == b"list":
                found += one.lrange(key, 0, -1)
            elif kind == b"hash":
                found += chain.from_iterable(one.hgetall(key).items())
            elif kind == b"zset":
                found += one.zrange(key, 0, -1)
            elif kind == b"set":
                found += one.smembers(key)
            else:
                found.append(one.get(key) or b"")
    text = b"\n".join(found).decode("utf-8", "replace")
    # Messages carry their arguments in Base64.
    bodies = [base64.b64decode(body).decode("utf-8", "replace") for body in re.findall(r'"body": ?"([^"]+)"', text)]
    return "\n".join([text, *bodies])


class Walker:
    """A browser that keeps every answer."""

    def __init__(self, client: Client) -> None:
        self.client, self.seen = client, ""

    def keep(self, answer: Any) -> Any:
        body = b"".join(answer.streaming_content) if answer.streaming else answer.content
        self.seen += f"{answer.headers}\n{body.decode()}\n"
        return answer

    def get(self, address: str, **more: Any) -> Any:
        return self.keep(self.client.get(address, **more))

    def post(self, address: str, body: dict[str, Any], **more: Any) -> Any:
        return self.keep(self.client.post(address, body, **more))


def synced(connector: Connector) -> SyncRun:
    """A run that was asked for through the broker, and is done here."""
    run = sync_request(connector=connector, kind="fullSync", trigger="button", actor=SETUP).run
    run_execute(run.pk, open_exchange=partial(gateway.open_exchange, connect=session.connect))
    run.refresh_from_db()
    return run


def exchange(walk: Walker, connector: Connector, organization: Organization) -> str:
    """Refused with the wrong password, then in with the right one, which is returned."""
    account = organization.account()
    servers = [ServerSettings(one.fqdn, one.http_port, False, one.host) for one in organization.servers]
    authority = Path(organization.lab.ca).read_text(encoding="ascii")
    for password, outcome in ((WRONG["exchange"], "authentication_failed"), (account.password, "")):
        connector_reconfigure(
            connector=connector, account=AccountSettings(account.user, Secret(password), "ntlm"), servers=servers,
            ca_certificates=authority, is_clear_text_allowed=True, actor=SETUP,
        )  # fmt: skip
        run = synced(connector)
        assert run.error_code == outcome
        walk.get(reverse("run", args=[run.public_id]))
    return account.password


def graph(walk: Walker, connector: Connector, lab: Lab, settings: Any) -> tuple[str, str]:
    """A wrong secret, a certificate that nobody registered, a proxy that is none, and the right secret. Returns that,
    and a line out of the certificate's key."""
    tenant, where = connector.organization.tenant, lab.state["graph"]
    row = where["tenants"][0]
    form = {
        "kind": "graph", "cloud": "global", "directory_id": row["id"], "client_id": row["client_id"],
        "login_root": where["login"], "graph_root": where["graph"],
    }  # fmt: skip
    certificate = pem()
    right = {"credential": "secret", "client_secret": row["client_secret"]}

    def tried(values: dict[str, str], code: str) -> None:
        walk.post(reverse("source_configure", args=[tenant.public_id]), form | values)
        page = walk.post(reverse("source_verify", args=[tenant.public_id]), {})
        report = records_refresh(tenant.pk, full=True)
        assert report.error_code == code
        assert code in page.content.decode()

    tried({"credential": "secret", "client_secret": WRONG["graph"]}, "graph_secret_wrong")
    tried({"credential": "certificate", "certificate": certificate}, "graph_certificate_refused")
    settings.GRAPH_PROXY = f"http://ada:{WRONG['proxy']}@127.0.0.1:9"
    tried(right, "graph_unreachable")
    settings.GRAPH_PROXY = ""
    tried(right, "")
    # What cannot be used comes back with the form, without the secret.
    walk.post(reverse("source_configure", args=[tenant.public_id]), form | right | {"directory_id": "x y"})
    return row["client_secret"], certificate.split("PRIVATE KEY-----\n")[1][:60]


def mail(walk: Walker, connector: Connector, organization: Organization) -> str:
    """EWS and SMTP, each refused and then in. Returns the right password."""
    account, smtp = organization.account("notification"), organization.row["smtp"]
    address = reverse("notification_account", args=[connector.organization.public_id])
    trying = reverse("notification_account_test", args=[connector.organization.public_id])
    common = {
        "sender": account.upn, "username": account.user, "authentication": "basic", "smtp_port": smtp["port"],
        "smtp_security": "starttls", "ca_certificates": Path(organization.lab.ca).read_text(encoding="ascii"),
    }  # fmt: skip
    ews = {"channel": "ews", "ews_url": f"https://127.0.0.1:{organization.servers[0].https_port}/EWS/Exchange.asmx"}
    by_smtp = {"channel": "smtp", "smtp_host": smtp["fqdn"]}

    def opened(given: MailAccount, options: MailOptions) -> Any:
        return open_mailer(replace(given, address=smtp["host"] if given.kind == "smtp" else ""), options)

    for way, password, code in (
        (ews, WRONG["ews"], "mail_sign_in_failed"), (ews, account.password, ""),
        (by_smtp, WRONG["smtp"], "mail_sign_in_failed"), (by_smtp, account.password, ""),
    ):  # fmt: skip
        assert walk.post(address, common | way | {"password": password}).status_code == 302
        walk.post(trying, {})
        notification_account_test(connector.organization, open_with=opened)
        row = notification_account_of(connector.organization)
        assert row.last_error_code == code
        sent = BODY | {"test_address": account.upn, "test_language": "en", "body_en": "{{enrollment_link}}"}
        walk.post(reverse("notification_test", args=[connector.organization.public_id]), sent)
        walk.get(address)
    return account.password


def program(walk: Walker, connector: Connector) -> str:
    """A token made, used and revoked, and one that nobody made. Returns its text, which one page alone shows."""
    tenant = connector.organization.tenant
    tokens = reverse("api_tokens", args=[tenant.public_id])
    shown = walk.client.post(tokens, {"name": "MDM", "role": "operator"}).content.decode()
    text = shown.split('readonly value="')[1].split('"')[0]
    body = {"complianceState": "compliant"}
    for token in (text, WRONG["token"], text):
        headers = {"Authorization": f"Bearer {token}"}
        for path in ("managedDevices", "devices", "connectors", f"runs/{tenant.public_id}"):
            walk.get(f"/api/v1/{path}", headers=headers)
        walk.keep(walk.client.put("/api/v1/managedDevices/r1", body, "application/json", headers=headers))
        walk.keep(walk.client.put("/api/v1/managedDevices/r1", "{", "application/json", headers=headers))
        tenant.api_tokens.update(revoked_at=datetime.datetime.now(datetime.UTC))
    walk.get(tokens)
    return text


def test_no_secret_is_anywhere(
    lab: Lab, settings: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr("connectors.graph.client.FIRST_WAIT", 0.01)
    cache.clear()
    organization = lab.organization("2016")
    connector = connector_to(organization)
    tenant = connector.organization.tenant
    ada = UserFactory(username="ada")
    ada.set_password(person := "canary-right-person~7Qd8")
    ada.save()
    MembershipFactory(user=ada, tenant=tenant, role=Role.ADMINISTRATOR)
    walk = Walker(Client())
    for password in (WRONG["person"], person):
        walk.post(reverse("account_login"), {"login": "ada", "password": password})

    secrets = {**WRONG, "right person": person, "right exchange": exchange(walk, connector, organization)}
    secrets["right graph"], secrets["certificate"] = graph(walk, connector, lab, settings)
    secrets["right mail"] = mail(walk, connector, organization)
    secrets["right token"] = program(walk, connector)
    DeviceSource.objects.update(kind="none")
    scene = Scene(connector, lambda who: walk.client)
    for name, address in addresses(scene):
        walk.get(address, headers={"HX-Request": "true"} if name.endswith("_live") else {})

    places = {"log": caplog.text, "pages": walk.seen, "database": stored(), "broker": queued()}
    # It was looked where something is.
    user = organization.account().user.rpartition("\\")[2]
    for place, sign in {"log": "ada", "pages": tenant.name, "database": user, "broker": "sync.run"}.items():
        assert sign in places[place], place
    found = [
        (name, place)
        for name, secret in secrets.items()
        for place, text in places.items()
        if any(spelling in text for spelling in spellings(secret))
    ]
    assert found == []


def test_the_search_finds_a_secret_however_it_is_written() -> None:
    secret = "canary~7Qd"
    for text in (
        secret, f"client_secret={quote(secret)}&x=1", base64.b64encode(f"svc:{secret}".encode()).decode(),
        base64.b64encode(f"\0user\0{secret}".encode()).decode(), base64.b64encode(f"ab{secret}cd".encode()).decode(),
    ):  # fmt: skip
        assert any(spelling in text for spelling in spellings(secret)), text
