"""The text of a command: what PowerShell makes of it is the command again. The reader here follows PowerShell's own
rules for literals (about_Quoting_Rules, about_Special_Characters, the tokenizer's treatment of typographic quotes)."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.exchange import cmdlets, powershell
from connectors.exchange.cmdlets import NULL, Command, Family, Identity

SINGLE = "'\u2018\u2019\u201a\u201b"
DOUBLE = '"\u201c\u201d\u201e'
ESCAPED = {"0": "\0", "a": "\a", "b": "\b", "t": "\t", "n": "\n", "v": "\v", "f": "\f", "r": "\r"}


class Reader:
    """As much of PowerShell's language as a command's text uses."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0

    def peek(self, ahead: int = 0) -> str:
        return self.text[self.at + ahead : self.at + ahead + 1]

    def skip(self) -> None:
        while self.peek() == " ":
            self.at += 1

    def take(self, pattern: str) -> str:
        match = re.compile(pattern).match(self.text, self.at)
        assert match, f"{pattern} expected at {self.text[self.at :]!r}"
        self.at = match.end()
        return match[0]

    def command(self) -> tuple[str, dict[str, Any]]:
        name = self.take(r"[A-Za-z]+-[A-Za-z]+")
        parameters: dict[str, Any] = {}
        self.skip()
        while self.peek() == "-":
            parameter = self.take(r"-[A-Za-z]+")[1:]
            self.take(r":| ")
            parameters[parameter] = self.value()
            self.skip()
        return name, parameters

    def value(self) -> Any:
        first = self.scalar()
        if self.peek() != ",":
            return first
        found = [first]
        while self.peek() == ",":
            self.at += 1
            found.append(self.scalar())
        return found

    def scalar(self) -> Any:
        start = self.peek()
        if start in SINGLE:
            return self.single()
        if start in DOUBLE:
            return self.double()
        if start == "$":
            return {"$true": True, "$false": False, "$null": None}[self.take(r"\$[a-z]+")]
        if self.text.startswith("@()", self.at):
            self.at += 3
            return []
        if self.text.startswith("@{", self.at):
            return self.table()
        return int(self.take(r"-?\d+"))

    def table(self) -> dict[str, Any]:
        self.at += 2
        found: dict[str, Any] = {}
        while True:
            self.skip()
            key = self.take(r"[A-Za-z]+")
            self.take("=")
            found[key] = self.value()
            if self.take(r"; |\}") == "}":
                return found

    def single(self) -> str:
        self.at += 1
        found = ""
        while True:
            assert self.peek(), "a quote that nobody closes"
            if self.peek() in SINGLE:
                if self.peek(1) == "" or self.peek(1) not in SINGLE:
                    self.at += 1
                    return found
                self.at += 1
            found += self.peek()
            self.at += 1

    def double(self) -> str:
        self.at += 1
        found = ""
        while True:
            assert self.peek(), "a quote that nobody closes"
            if self.peek() in DOUBLE:
                assert self.peek(1) == "" or self.peek(1) not in DOUBLE
                self.at += 1
                return found
            if self.peek() == "`":
                found += ESCAPED.get(self.peek(1), self.peek(1))
                self.at += 2
            elif self.peek() == "$":
                found += chr(int(self.take(r"\$\(\[char\]\d+\)")[8:-1]))
            else:
                found += self.peek()
                self.at += 1


def read(text: str) -> Any:
    reader = Reader(text)
    value = reader.value()
    assert reader.at == len(text), f"more than a value: {text!r}"
    return value


ODD = st.text(
    st.sampled_from([*SINGLE, *DOUBLE, *"$`@{}();|&#,= \0\a\t\r\n\x07\x1b\u2028\x85ä手", "\U0001f4f1", "n", "0"])
)


@given(st.one_of(ODD, st.text(st.characters(exclude_categories=["Cs"]))))
def test_any_text_reads_back(text: str) -> None:
    written = powershell.literal(text)
    assert read(written) == text
    assert "\n" not in written  # one line, whatever a name holds
    assert "\r" not in written


@given(st.lists(ODD, min_size=2))
def test_any_list_reads_back(texts: list[str]) -> None:
    assert read(powershell.literal(texts)) == texts


@given(st.dictionaries(st.sampled_from(["Add", "Remove"]), st.lists(ODD, min_size=2), min_size=1))
def test_any_change_of_a_list_reads_back(change: dict[str, list[str]]) -> None:
    assert read(powershell.literal(change)) == change


@given(ODD.filter(lambda text: text.strip() and "*" not in text), st.lists(ODD.filter(str.strip), min_size=2))
def test_a_command_reads_back(name: str, ids: list[str]) -> None:
    command = cmdlets.set_cas_mailbox(Identity(name), allowed_add=tuple(ids), blocked_remove=tuple(ids))
    reader = Reader(powershell.text(command))
    assert reader.command() == (
        "Set-CASMailbox",
        {
            "Identity": name,
            "ActiveSyncAllowedDeviceIDs": {"Add": ids},
            "ActiveSyncBlockedDeviceIDs": {"Remove": ids},
            "Confirm": False,
        },
    )
    assert reader.at == len(reader.text)


TEXTS: dict[str, tuple[Command, str]] = {
    "entries": (
        cmdlets.set_cas_mailbox(Identity("carlos"), allowed_add=("A1", "B2"), allowed_remove=("C3",)),
        "Set-CASMailbox -Identity 'carlos' -ActiveSyncAllowedDeviceIDs @{Add='A1','B2'; Remove='C3'} -Confirm:$false",
    ),
    "quotes": (
        cmdlets.remove_active_sync_device_access_rule(Identity("Ada's \u2019phone\u2019 (DeviceModel)")),
        "Remove-ActiveSyncDeviceAccessRule -Identity 'Ada''s \u2019\u2019phone\u2019\u2019 (DeviceModel)'"
        " -Confirm:$false",
    ),
    "a switch": (
        cmdlets.clear_mobile_device(Family.MOBILE, Identity("x"), account_only=True, notify=("a@b.c",)),
        "Clear-MobileDevice -Identity 'x' -AccountOnly:$true -NotificationEmailAddresses 'a@b.c' -Confirm:$false",
    ),
    "null": (
        cmdlets.assign_mailbox_policy(Identity("x"), None),
        "Set-CASMailbox -Identity 'x' -ActiveSyncMailboxPolicy $null -Confirm:$false",
    ),
    "a line break": (
        cmdlets.set_active_sync_organization_settings(user_mail_insert="One\r\n$two"),
        'Set-ActiveSyncOrganizationSettings -UserMailInsert "One`r`n`$two" -Confirm:$false',
    ),
    "a number": (
        cmdlets.set_mailbox_policy(Family.ACTIVE_SYNC, Identity("x"), {"MinPasswordLength": 6}),
        "Set-ActiveSyncMailboxPolicy -Identity 'x' -MinDevicePasswordLength 6 -Confirm:$false",
    ),
}


@pytest.mark.parametrize(("command", "text"), TEXTS.values(), ids=TEXTS.keys())
def test_texts(command: Command, text: str) -> None:
    assert powershell.text(command) == text


def test_a_pipeline() -> None:
    listing = cmdlets.list_mobile_devices(Family.MOBILE)
    assert powershell.text(listing, cmdlets.select_object(("Guid", "DeviceId"))) == (
        "Get-MobileDevice -ResultSize 'Unlimited' | Select-Object -Property 'Guid','DeviceId'"
    )
    assert powershell.literal([]) == "@()"
    assert powershell.literal(NULL) == "$null"
