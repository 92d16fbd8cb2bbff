"""A device's story in sentences: every code that is written anywhere, with what it names; what is unknown stays."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync.models import DeviceEvent
from sync.showing import device_story
from sync.showing.device_story import CODES, level, sentence

SYNC = Path(device_story.__file__).parents[1]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def said(code: str, **params: Any) -> str:
    return sentence(DeviceEvent(code=code, params=params), "Europe/Berlin")


@pytest.mark.parametrize(
    ("code", "params", "words"),
    [
        ("verdict", {"access": "block", "state": "blocked", "reason": "notEnrolled", "rule": "noRecord",
                     "before_access": "allow", "before_state": "allowed", "before_reason": "compliant",
                     "before_rule": "alwaysAllowed"},
         "Decided anew: Blocked (Not enrolled). Before: Allowed (Enrolled and compliant, always allowed)."),
        ("commandPlanned", {"entries": ["allowAdd", "blockRemove"], "because": "fullSync", "kind": "mailboxEntries"},
         "To be done in Exchange: add to the allowed list; take off the blocked list. Because of a full sync."),
        ("commandPlanned", {"entries": [], "because": "removeDevice", "kind": "removeDevice"},
         "To be done in Exchange: remove the partnership."),
        ("commandDone", {"entries": ["blockAdd"], "because": "override"},
         "Done in Exchange: add to the blocked list."),
        ("commandDone", {"entries": ["blockAdd"], "because": "override", "controller": "dc01.contoso.com"},
         "Done in Exchange, at dc01.contoso.com: add to the blocked list."),
        ("commandFailed", {"entries": ["blockAdd"], "error_code": "object_not_found", "server": "ex01"},
         "Could not be done in Exchange (add to the blocked list): Exchange does not have the object any more."),
        ("commandUnknown", {"entries": [], "kind": "wipe"},
         "Sent to Exchange, and no answer came (wipe the device); what became of it is being read."),
        ("overrideSet", {"level": "allow", "reason": "Travels 100%", "until": "2026-03-01T08:00:00+00:00"},
         "Allowed until 1 Mar 2026 09:00, whatever the policy says: “Travels 100%”."),
        ("overrideSet", {"level": "block", "reason": "Stolen", "until": ""},
         "Blocked with no end, whatever the policy says: “Stolen”."),
        ("overrideEnded", {"because": "cleared"},
         "The administrator's decision was taken back; the policy decides again."),
        ("overrideEnded", {"level": "allow", "expired": True},
         "The administrator's decision expired; the policy decides again."),
        ("linked", {"record": "Ada's iPhone", "id": "x"}, "Linked to the record “Ada's iPhone”."),
        ("entryChosen", {"choice": "adopt", "listed": "allowed", "reason": "Known"},
         "The entry that somebody else made on the allowed list was adopted: “Known”."),
        ("approved", {"approval": "x", "note": "Fine"}, "Its denial was approved. “Fine”"),
        ("wipeSent", {"account_only": True}, "The phone was told to wipe the account."),
        ("wipeRequested", {"kind": "wipe"}, "A wipe was ordered."),
        ("stateChanged", {"before": "", "before_reason": "", "state": "Allowed", "reason": "Individual"},
         "Exchange now shows Allowed (Individual); before: not told."),
        ("recordChanged", {"compliance": ["noncompliant", "compliant"], "registered": [None, True]},
         "Its record changed. compliance: Compliant (before: Not compliant); registration: yes (before: not told)."),
        ("recordChanged", {"presence": ["present", "gone"]}, "Its record is gone from the device-management system."),
        ("futureCode", {"x": 1}, "futureCode"),
    ],
)  # fmt: skip
def test_sentences(code: str, params: dict[str, Any], words: str) -> None:
    assert said(code, **params) == words


def test_every_code_that_is_written_has_words() -> None:
    written: set[str] = set()
    for path in SYNC.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if "DeviceEvent(" not in text and "_tell(" not in text and "_Line(" not in text:
            continue
        written.update(re.findall(r'_tell\(\s*(?:list\(\w+\), |\w+\(?[\w.]*\)?, |\[\w+\], )?"(\w+)"', text))
        written.update(re.findall(r'_Line\(\s*\w+,\s*"(\w+)"', text))
        written.update(re.findall(r'DeviceEvent[\w.]*\((?:[^()]|\([^()]*\))*?code="(\w+)"', text))
    assert {"held", "stateChanged", "back", "overrideSet", "recheck", "removed", "recordChanged"} <= written
    assert written - CODES == set()


@given(code=st.sampled_from(sorted(CODES)) | st.text(max_size=5), params=JSON)
def test_nothing_that_is_stored_breaks_a_page(code: str, params: Any) -> None:
    event = DeviceEvent(code=code, params=params)
    assert isinstance(sentence(event), str)
    assert level(event) in ("info", "warning", "error")
