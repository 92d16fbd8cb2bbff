"""Programs with a token of each role, of one tenant whose records are pushed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.core.cache import cache
from django.test import Client

from connectors.actors import SETUP
from connectors.models import DeviceSource
from console.accounts.models import Role
from console.accounts.tokens import token_make
from tests.factories import TenantFactory


class Program:
    """Speaks JSON with one token; call("PUT", "managedDevices/r1", {...})."""

    def __init__(self, token: str) -> None:
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.client = Client(enforce_csrf_checks=True)

    def __call__(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        address = path if path.startswith(("/", "http")) else f"/api/v1/{path}"
        content = {} if body is None else {"data": body, "content_type": "application/json"}
        return getattr(self.client, method.lower())(address, headers=self.headers, **content, **more)


@pytest.fixture
def tenant(db: None) -> Any:
    cache.clear()
    made = TenantFactory(name="Contoso")
    DeviceSource.objects.create(tenant=made, kind=DeviceSource.Kind.PUSHED)
    return made


@pytest.fixture
def program(tenant: Any) -> Callable[[str], Program]:
    """who: reader, operator, administrator; stranger (administrator of another tenant); nobody (no token)."""

    def made(who: str = "operator") -> Program:
        if who == "nobody":
            return Program("")
        home, role = tenant, who
        if who == "stranger":
            home, role = TenantFactory(), Role.ADMINISTRATOR
            DeviceSource.objects.create(tenant=home, kind=DeviceSource.Kind.PUSHED)
        _token, text = token_make(tenant=home, name=who, role=role, expires_at=None, actor=SETUP)
        return Program(text)

    return made
