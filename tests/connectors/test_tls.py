"""Nowhere in the product is the other side's certificate, or its name, not looked at. (That it is refused is for the
wire tests of each connector.)"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(path for package in ("connectors", "sync", "console") for path in (ROOT / package).rglob("*.py"))
# What would switch it off, by the name it has in ssl, requests, urllib3, httpx, pypsrp and exchangelib.
SWITCHES = {"verify", "check_hostname", "cert_validation", "assert_hostname", "verify_ssl"}
NAMES = {
    "CERT_NONE", "CERT_OPTIONAL", "_create_unverified_context", "_create_stdlib_context", "disable_warnings",
    "NoVerifyHTTPAdapter", "InsecureRequestWarning",
}  # fmt: skip


def switched_off(tree: ast.AST) -> Iterator[int]:
    """Lines that set one of the switches to a constant that is false, or name what switches them."""
    for node in ast.walk(tree):
        match node:
            case ast.keyword(arg=name, value=ast.Constant(value=value)) if name in SWITCHES and not value:
                yield node.value.lineno
            case ast.Assign(targets=targets, value=ast.Constant(value=value)) if not value and any(
                isinstance(target, ast.Attribute) and target.attr in SWITCHES for target in targets
            ):
                yield node.lineno
            case ast.Attribute(attr=name) | ast.Name(id=name) if name in NAMES:
                yield node.lineno
            case ast.ImportFrom(names=names) if any(one.name in NAMES for one in names):
                yield node.lineno


def test_it_is_switched_off_nowhere() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in SOURCES
        for line in switched_off(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert found == []


@pytest.mark.parametrize(
    "text",
    [
        "get(url, verify=False)", "session.verify = False", "context.check_hostname = False",
        "context.verify_mode = ssl.CERT_NONE", "WSMan(host, cert_validation=False)", "pool(assert_hostname=None)",
        "from urllib3 import disable_warnings", "ssl._create_unverified_context()",
    ],
)  # fmt: skip
def test_the_search_finds_what_would_do_it(text: str) -> None:
    assert list(switched_off(ast.parse(text)))
