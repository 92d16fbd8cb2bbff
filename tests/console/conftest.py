"""People of each role in one tenant, and one from another, each with a browser of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from django.conf import settings
from django.test import Client
from django.utils import translation

from connectors.models import Connector
from console.accounts.models import Role
from tests.factories import ConnectorFactory, MembershipFactory, OrganizationFactory, TenantFactory, UserFactory

ROLES = {"administrator": Role.ADMINISTRATOR, "operator": Role.OPERATOR, "reader": Role.READER}


@dataclass(frozen=True)
class Scene:
    """One tenant with one connector; `client(who)` is a browser in which that person is signed in."""

    connector: Connector
    client: Callable[[str], Client]


@pytest.fixture(autouse=True)
def _english_again() -> Iterator[None]:
    """A request leaves its language switched on in this thread."""
    yield
    translation.activate(settings.LANGUAGE_CODE)


@pytest.fixture
def scene(db: None) -> Scene:
    """who: administrator, operator, reader (of the tenant), stranger (administrator of another), superuser, disabled
    (administrator whose account is switched off since), nobody (not signed in)."""
    tenant = TenantFactory(name="Contoso")
    connector = ConnectorFactory(organization=OrganizationFactory(tenant=tenant, name="Contoso mail"))

    def client(who: str) -> Client:
        browser = Client()
        if who == "nobody":
            return browser
        if who == "superuser":
            user = UserFactory(is_superuser=True)
        else:
            home = TenantFactory() if who == "stranger" else tenant
            user = UserFactory(username=who)
            MembershipFactory(user=user, tenant=home, role=ROLES.get(who, Role.ADMINISTRATOR))
        browser.force_login(user)
        if who == "disabled":
            user.is_active = False
            user.save()
        return browser

    return Scene(connector, client)
