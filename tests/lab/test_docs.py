"""docs/lab.md names everything that the lab offers."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

import lab.exchange.cmdlets  # noqa: F401 - fills the registry
from lab.control_organizations import OrganizationControl
from lab.exchange.cmdlets.registry import CMDLETS
from lab.faults import KINDS
from tests.labs import ROOT, Lab

TEXT = Path(ROOT / "docs" / "lab.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_fault_is_described(kind: str) -> None:
    assert f"| `{kind}` |" in TEXT


@pytest.mark.parametrize("name", sorted(cmdlet.name for cmdlet in CMDLETS.values()))
def test_every_cmdlet_is_named(name: str) -> None:
    verb, _, noun = name.partition("-")
    assert name in TEXT or (f"{verb}-" in TEXT and f"-{noun}" in TEXT)


def test_every_route_of_an_organisation_is_described() -> None:
    for method, pattern, _ in OrganizationControl(cast(Any, SimpleNamespace())).routes():
        path = re.sub(r"/\(\[\^/\]\+\)", "/NAME", pattern, count=1).replace("([^/]+)", "")
        rest = path.removeprefix("organizations/NAME").split("/")[1:2]
        assert re.search(rf"`{method} (organizations/NAME|…)/?{rest[0] if rest else ''}", TEXT), (method, pattern)


def test_keys_of_the_state_file_are_described(lab: Lab) -> None:
    for key in set(lab.state) - {"pid"}:
        assert f"| `{key}` |" in TEXT
