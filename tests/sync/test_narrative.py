"""Each event code that the sources emit has a sentence, and each sentence gets the values it names."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.utils import translation

from connectors.problems import PROBLEMS
from sync.events import storable
from sync.models import RunEvent, SyncRun
from sync.narrative import SENTENCES, sentence

ROOT = Path(__file__).parents[2]
_PLACEHOLDER = re.compile(r"%\((\w+)\)s")
# Named through a constant in the source.
CONSTANTS = {
    "HELD": "sweep_held",
    "MAILBOXES_HELD": "mailbox_sweep_held",
    "UNREACHABLE": "queue_unreachable",
}
# Told by connectors.parallel, whose callers hand on what it tells.
HANDED_ON = {"session_lost", "sessions_limited"}
# What error params bring along, whatever the call shows.
FROM_ERRORS = {"server", "error_code"}


def emitted() -> Iterator[tuple[str, str, set[str] | None]]:
    """(where, code, names of its params; None when they are handed on as a whole) of each call that tells something."""
    sources = [*(ROOT / "sync").rglob("*.py"), ROOT / "connectors" / "gateway.py"]
    for path in sources:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            if name not in ("note", "on_event", "_on_event"):
                continue
            is_method = isinstance(node.func, ast.Attribute) or name == "on_event"
            argument = node.args[0 if is_method else 1]
            where = f"{path.relative_to(ROOT)}:{node.lineno}"
            if isinstance(argument, ast.Constant):
                yield where, str(argument.value), _names(node)
            elif isinstance(argument, ast.Name) and argument.id in CONSTANTS:
                yield where, CONSTANTS[argument.id], _names(node)
            else:
                # Handing on what someone else named.
                assert isinstance(argument, ast.Name), where
                assert argument.id == "code", where


def _names(call: ast.Call) -> set[str] | None:
    if any(keyword.arg is None for keyword in call.keywords):
        return None
    if getattr(call.func, "id", getattr(call.func, "attr", "")) in ("on_event", "_on_event"):
        given = call.args[1]
        assert isinstance(given, ast.Dict)
        return {str(key.value) for key in given.keys if isinstance(key, ast.Constant)}
    return {keyword.arg for keyword in call.keywords if keyword.arg}


EMITTED = list(emitted())


def test_the_scan_finds_what_is_emitted() -> None:
    assert len(EMITTED) > 20
    assert {"claimed", "server_failed", "sweep_held", "succeeded"} <= {code for _, code, _ in EMITTED}


@pytest.mark.parametrize(("where", "code", "names"), EMITTED, ids=[f"{code} {where}" for where, code, _ in EMITTED])
def test_every_emitted_code_has_a_sentence_and_its_values(where: str, code: str, names: set[str] | None) -> None:
    if code == "phase":
        return
    assert code in SENTENCES
    wanted = set(_PLACEHOLDER.findall(str(SENTENCES[code])))
    if "problem" in wanted:
        wanted = wanted - {"problem"} | {"error_code"}
    if names is not None:
        assert wanted <= names, f"{where} does not give {wanted - names}"


def test_no_sentence_is_left_over() -> None:
    assert SENTENCES.keys() == {code for _, code, _ in EMITTED} - {"phase"} | HANDED_ON


@pytest.mark.parametrize(
    ("code", "params", "said"),
    [
        ("throttled", {"retry_after": 4.2, "in_flight": 2, "error_code": "user_quota"}, "waiting 5 s"),
        ("session_lost", {"server": "ex01", "error_code": "shell_lost"}, "A session with ex01 was lost"),
        ("sessions_limited", {"sessions": 3, "error_code": "too_many_shells"}, "Goes on with 3."),
    ],
)
def test_what_several_sessions_tell(code: str, params: dict[str, object], said: str) -> None:
    assert said in sentence(RunEvent(code=code, params=params))


def made(code: str, **params: Any) -> str:
    return sentence(RunEvent(code=code, params=params))


def test_sentences_are_whole() -> None:
    for code, text in SENTENCES.items():
        values = dict.fromkeys(_PLACEHOLDER.findall(str(text)), "X") | {"error_code": "connection_refused"}
        told = made(code, **values)
        assert told != code
        assert "%(" not in told
        assert told[0].isupper() or told.startswith("X"), told
        assert told.endswith((".", "?", "X")), told


def test_an_error_is_named_by_its_title() -> None:
    title = str(PROBLEMS["connection_refused"].title) % {"server": "ex01"}
    assert made("server_failed", server="ex01", error_code="connection_refused") == f"ex01 could not be used: {title}."


@pytest.mark.parametrize("phase", SyncRun.Phase.values)
def test_phases(phase: str) -> None:
    assert made("phase", phase=phase) == str(SyncRun.Phase(phase).label)


@pytest.mark.parametrize(
    ("code", "params", "told"),
    [
        ("something_newer", {}, "something_newer"),
        ("claimed", {}, "claimed"),
        ("phase", {}, "A new phase"),
        ("phase", {"phase": "dreaming"}, "A new phase"),
    ],
)
def test_what_another_version_wrote(code: str, params: dict[str, Any], told: str) -> None:
    assert made(code, **params) == told


def test_read_in_the_language_of_the_reader() -> None:
    with translation.override("zh-hant"):
        assert made("succeeded")
        assert made("phase", phase="devices")


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("plain é 電", "plain é 電"),
        ("a\0b\udc80", "a\ufffdb\ufffd"),
        (float("inf"), None),
        (1.5, 1.5),
        (True, True),
        ([1, "\0", {"\0": None}], [1, "\ufffd", {"\ufffd": None}]),
        (ValueError("odd\0"), "odd\ufffd"),
    ],
)
def test_storable(value: Any, kept: Any) -> None:
    assert storable(value) == kept
