"""What a person sees: their tenants, and never another one's."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser
from pytest_django import DjangoAssertNumQueries

from connectors.models import Connector
from connectors.selectors import connectors_for, organizations_for, tenants_for
from console.accounts.models import Membership, Role, User
from tests.connectors import factories

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def two_tenants() -> None:
    factories.connector("Contoso", of="Contoso")
    factories.connector("Contoso Research", of="Contoso")
    factories.connector("Fabrikam", of="Fabrikam")


def person(*tenants: str, **fields: Any) -> User:
    user = User.objects.create_user("kim", **fields)
    for name in tenants:
        Membership.objects.create(user=user, tenant=factories.tenant(name), role=Role.READER)
    return user


def seen(user: User | AnonymousUser) -> tuple[list[str], list[str], list[str]]:
    return (
        [tenant.name for tenant in tenants_for(user)],
        [organization.name for organization in organizations_for(user)],
        [connector.organization.name for connector in connectors_for(user)],
    )


ALL = (["Contoso", "Fabrikam"], *[["Contoso", "Contoso Research", "Fabrikam"]] * 2)
CONTOSO = (["Contoso"], *[["Contoso", "Contoso Research"]] * 2)
FABRIKAM = (["Fabrikam"], ["Fabrikam"], ["Fabrikam"])
NOTHING: tuple[list[str], ...] = ([], [], [])


@pytest.mark.parametrize(
    ("tenants", "fields", "expected"),
    [
        (["Contoso"], {}, CONTOSO),
        (["Fabrikam"], {}, FABRIKAM),
        (["Contoso", "Fabrikam"], {}, ALL),
        ([], {}, NOTHING),
        ([], {"is_staff": True}, NOTHING),
        ([], {"is_superuser": True}, ALL),
        (["Fabrikam"], {"is_superuser": True}, ALL),
        (["Contoso"], {"is_active": False}, NOTHING),
        ([], {"is_active": False, "is_superuser": True}, NOTHING),
    ],
)
def test_scope(tenants: list[str], fields: dict[str, bool], expected: tuple[list[str], ...]) -> None:
    assert seen(person(*tenants, **fields)) == expected


def test_someone_not_signed_in_sees_nothing() -> None:
    assert seen(AnonymousUser()) == NOTHING


def test_a_user_that_was_never_saved_sees_nothing() -> None:
    assert seen(User(username="ghost", is_superuser=True)) == NOTHING


def test_another_tenants_connector_cannot_be_fetched_by_its_id() -> None:
    foreign = Connector.objects.get(organization__name="Contoso")
    user = person("Fabrikam")
    assert not connectors_for(user).filter(public_id=foreign.public_id).exists()
    assert not organizations_for(user).filter(public_id=foreign.organization.public_id).exists()
    assert not tenants_for(user).filter(public_id=foreign.organization.tenant.public_id).exists()


def test_a_list_costs_two_queries(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    user = person("Contoso", "Fabrikam")
    with django_assert_num_queries(2):
        for connector in connectors_for(user):
            assert connector.organization.tenant.name
            assert [server.fqdn for server in connector.servers.all()] == ["ex01.contoso.com", "ex02.contoso.com"]
