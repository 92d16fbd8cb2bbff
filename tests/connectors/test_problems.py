"""The catalogue of problems: whole, without leftovers, and never failing to render."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import Any

import pytest
from django.utils import translation
from django.utils.functional import Promise

from connectors.exchange import errors
from connectors.problems import PLACEHOLDERS, PROBLEMS, problem

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("title", "happened", "kept", "remedy")
PRODUCT = [
    path
    for package in ("connectors", "sync")
    for path in (ROOT / package).rglob("*.py")
    if "migrations" not in path.parts and "problems" not in path.parts and path.name != "validation.py"
]


def _error_classes() -> list[type[errors.ExchangeError]]:
    return [
        value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, errors.ExchangeError)
    ]


def _documented_codes() -> set[str]:
    """The codes that the docstrings of the error tree name, and every class's default."""
    codes = {error.default_code for error in _error_classes()}
    for error in _error_classes():
        if match := re.search(r"Codes?:(.*)", error.__doc__ or "", re.DOTALL):
            codes.update(re.findall(r"\b[a-z]+(?:_[a-z]+)*\b", re.sub(r"\([^)]*\)", "", match[1])))
    return codes


def _constants() -> set[str]:
    return {
        node.value
        for path in PRODUCT
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def _raised_codes() -> set[str]:
    """Every literal passed as code= to an error or as error_code= anywhere in connectors and sync."""
    found = set()
    for path in PRODUCT:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            wanted = {"error_code"} | ({"code"} if name.endswith("Error") and name != "ValidationError" else set())
            found |= {
                constant.value
                for keyword in node.keywords
                if keyword.arg in wanted
                for constant in ast.walk(keyword.value)
                if isinstance(constant, ast.Constant) and isinstance(constant.value, str) and constant.value
            }
    return found


def test_the_error_tree_names_codes_at_all() -> None:
    assert {"authentication_failed", "no_answer", "object_ambiguous", "too_many_shells"} <= _documented_codes()


def test_every_code_has_an_entry() -> None:
    assert _documented_codes() - PROBLEMS.keys() == set()
    assert _raised_codes() - PROBLEMS.keys() == set()


def test_no_entry_is_unused() -> None:
    assert PROBLEMS.keys() - _documented_codes() - _constants() == set()


@pytest.mark.parametrize("code", sorted(PROBLEMS))
def test_entry_names_only_what_can_be_filled_in(code: str) -> None:
    for part in PARTS:
        text = str(getattr(PROBLEMS[code], part))
        assert set(re.findall(r"%\((\w+)\)s", text)) <= PLACEHOLDERS.keys()
        assert "%" not in re.sub(r"%\(\w+\)s", "", text)
        assert text == text.strip()
        assert "  " not in text
        assert part == "title" or text.endswith(".")


@pytest.mark.parametrize("code", sorted(PROBLEMS))
@pytest.mark.parametrize(
    "params",
    [
        None,
        {},
        {"server": "ex01.contoso.com", "cmdlet": "Get-MobileDevice", "retry_after": 12.2, "attempts": 3},
        {"server": None, "retry_after": "soon", "unknown": object()},
        {"server": "100%(cmdlet)s", "remote_text": "50 % <b>", "retry_after": float("nan")},
    ],
    ids=["none", "empty", "whole", "odd", "hostile"],
)
def test_rendering_never_fails_and_leaves_no_placeholder(code: str, params: dict[str, object] | None) -> None:
    rendered = problem(code, params)
    assert rendered.code == code
    for part in PARTS:
        text = getattr(rendered, part).replace("100%(cmdlet)s", "")
        assert text
        assert "%(" not in text


def test_values_are_filled_in() -> None:
    rendered = problem("user_load_quota", {"server": "ex01.contoso.com", "retry_after": 12.2})
    assert "ex01.contoso.com" in rendered.happened
    assert "13 seconds" in rendered.happened


def test_missing_values_are_worded_around() -> None:
    rendered = problem("user_load_quota")
    assert "the exchange server" in rendered.happened.lower()
    assert "a pause of some time" in rendered.happened


@pytest.mark.parametrize("code", sorted(PROBLEMS))
def test_a_sentence_begins_with_a_capital_but_for_a_name(code: str) -> None:
    with translation.override("en"):
        rendered = problem(code)
        assert all(not getattr(rendered, part)[0].islower() for part in PARTS)
        named = problem(code, {"server": "ex01.contoso.com", "cmdlet": "Get-MobileDevice"})
        assert "Ex01.contoso.com" not in f"{named.happened}{named.remedy}"


def test_the_other_side_is_quoted_with_its_request() -> None:
    rendered = problem("command_failed", {"remote_text": "Database is dismounted", "request_id": "4f1e"})
    assert "“Database is dismounted”" in rendered.detail
    assert "4f1e" in rendered.detail
    assert problem("command_failed").detail == ""


def test_an_unknown_code_is_shown_with_an_entry_of_its_own() -> None:
    rendered = problem("from_a_newer_release")
    assert rendered.code == "from_a_newer_release"
    assert rendered.title == problem("internal_error").title


@pytest.mark.parametrize("error_class", _error_classes(), ids=lambda c: c.__name__)
def test_the_params_of_every_error_class_render(error_class: type[errors.ExchangeError]) -> None:
    more: dict[str, Any] = {"retry_after": 5.0} if issubclass(error_class, errors.ThrottledError) else {}
    error = error_class("x", server="ex01.contoso.com", cmdlet="Get-MobileDevice", remote_text="no", **more)
    rendered = problem(error.code, error.params)
    assert "ex01.contoso.com" in rendered.happened or "Get-MobileDevice" in rendered.happened
    assert rendered.detail == "Exchange said: “no”"


@pytest.mark.parametrize("code", sorted(PROBLEMS))
def test_sentences_wait_for_the_reader(code: str) -> None:
    """A sentence translated at import would be in the language of the process, not of the reader."""
    assert all(isinstance(getattr(PROBLEMS[code], part), Promise) for part in PARTS)


def test_the_manual_holds_every_problem() -> None:
    """docs/problems.md is made by tests/connectors/problems_manual.py; run it after changing a sentence."""
    from tests.connectors.problems_manual import manual

    assert (ROOT / "docs" / "problems.md").read_text(encoding="utf-8") == manual()
