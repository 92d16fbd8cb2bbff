"""Home and the tenants' list: what needs someone stands first, and nobody sees more than their own."""

from __future__ import annotations

import re

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from connectors.models import Connector
from tests.console.conftest import Scene
from tests.console.test_connectors import text_of
from tests.factories import ConnectorFactory, DeviceFactory, OrganizationFactory, RunFactory, TenantFactory, UserFactory

pytestmark = pytest.mark.django_db


def tiles(browser: Client) -> dict[str, str]:
    html = browser.get("/").content.decode()
    found = re.findall(r'<a class="tile.*?</a>', html, re.DOTALL)
    pairs = (re.fullmatch(r"\s*([\d,]+(?: / [\d,]+)?)\s+(.*?)\s*", text_of(tile)) for tile in found)
    return {pair[2]: pair[1] for pair in pairs if pair}


class TestHome:
    def test_the_figures_are_of_ones_own(self, scene: Scene) -> None:
        organization = scene.connector.organization
        ConnectorFactory(organization=OrganizationFactory(tenant=organization.tenant), status="disconnected")
        RunFactory(connector=scene.connector, running=True)
        DeviceFactory.create_batch(3, organization=organization)
        DeviceFactory(organization=organization, access_state="Quarantined")
        DeviceFactory(organization=organization, access_state="Quarantined", gone_at=timezone.now())
        DeviceFactory(organization=ConnectorFactory(status="disconnected").organization)
        assert tiles(scene.client("reader")) == {
            "connector needs attention": "1",
            "connectors connected and up to date": "1 / 2",
            "sync under way": "1",
            "devices in Exchange": "4",
            "device in quarantine": "1",
        }

    def test_what_needs_someone_stands_first_and_says_why(self, scene: Scene) -> None:
        organization = OrganizationFactory(tenant=scene.connector.organization.tenant, name="Zurich")
        ConnectorFactory(organization=organization, status="disconnected", last_error_code="connection_refused")
        html = scene.client("reader").get("/").content.decode()
        assert html.index(">Zurich</a>") < html.index(">Contoso mail</a>")
        assert "The server refuses the connection" in html

    def test_none_that_needs_someone_is_left_out(self, scene: Scene) -> None:
        tenant = scene.connector.organization.tenant
        for _number in range(25):
            ConnectorFactory(organization=OrganizationFactory(tenant=tenant), servers=[])
        browser = scene.client("reader")
        assert "6 more connectors are not shown here." in browser.get("/").content.decode()
        Connector.objects.update(status="disconnected")
        assert "not shown here" not in browser.get("/").content.decode()

    def test_someone_without_any_role_is_told_so(self, client: Client, scene: Scene) -> None:
        client.force_login(UserFactory())
        html = client.get("/").content.decode()
        assert "Nothing to show yet" in html
        assert "Contoso" not in html

    def test_it_renews_itself_often_while_something_runs_and_now_and_then_otherwise(self, scene: Scene) -> None:
        browser = scene.client("reader")
        assert 'hx-trigger="every 30s"' in browser.get("/").content.decode()
        RunFactory(connector=scene.connector, running=True)
        assert 'hx-get="/" hx-trigger="every 4s"' in browser.get("/").content.decode()
        assert "<html" not in browser.get("/", headers={"HX-Request": "true"}).content.decode()


class TestTenants:
    @pytest.mark.parametrize(
        ("who", "role"),
        [("reader", "Reader"), ("administrator", "Administrator"), ("superuser", "Administrator of every tenant")],
    )
    def test_each_with_ones_role_and_its_organizations(self, scene: Scene, who: str, role: str) -> None:
        words = text_of(scene.client(who).get(reverse("tenants")).content.decode())
        assert re.search(rf"Contoso\s+Europe/Berlin {role} Contoso mail\s+Connected", words)

    def test_only_ones_own(self, scene: Scene) -> None:
        TenantFactory(name="Hidden tenant")
        assert "Hidden tenant" not in scene.client("administrator").get(reverse("tenants")).content.decode()
        assert "Hidden tenant" in scene.client("superuser").get(reverse("tenants")).content.decode()

    @pytest.mark.parametrize(
        ("text", "shown"), [("CONT", True), ("", True), ("nothing like it", False)], ids=["found", "all", "none"]
    )
    def test_search(self, scene: Scene, text: str, shown: bool) -> None:
        html = scene.client("reader").get(reverse("tenants"), {"q": text}).content.decode()
        assert ("Europe/Berlin" in html) is shown
        assert ("No tenant matches" in html) is not shown

    def test_someone_without_any_role(self, client: Client, scene: Scene) -> None:
        client.force_login(UserFactory())
        assert "You have no role in any tenant" in client.get(reverse("tenants")).content.decode()

    def test_pages_keep_the_search(self, scene: Scene) -> None:
        for number in range(51):
            TenantFactory(name=f"Site {number:02}")
        html = scene.client("superuser").get(reverse("tenants"), {"q": "Site"}).content.decode()
        assert 'href="?q=Site&amp;page=2"' in html
