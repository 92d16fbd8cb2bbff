"""Envelopes made of pieces against those that pypsrp builds as trees."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from typing import Any

import pytest
from pypsrp.exceptions import WinRMError
from pypsrp.wsman import NAMESPACES, OptionSet, SelectorSet, WSMan, WSManAction

from connectors.exchange.client import Account, Endpoint, Options
from connectors.exchange.transport import Watch, arguments
from connectors.exchange.wsman import Connection

ENDPOINT = Endpoint("ex01.contoso.test", 80, use_tls=False)
ACCOUNT = Account("CONTOSO\\a", "b", "basic")
URI = "http://schemas.microsoft.com/powershell/Microsoft.Exchange?a=1&b=2"
_ID = re.compile(rb"uuid:([0-9A-F-]{36})</wsa:MessageID>")


class Wire:
    """In place of a transport: keeps what is sent, and answers it, or another message."""

    endpoint = "http://ex01.contoso.test/PowerShell"

    def __init__(self, related: str = "") -> None:
        self.sent: list[bytes] = []
        self.waits: list[Any] = []
        self._related = related

    def send(self, message: bytes, *, timeout: Any = None, **_: Any) -> bytes:
        self.sent.append(message)
        self.waits.append(timeout)
        related = self._related or message_id(message)
        header = f'<a:RelatesTo xmlns:a="{NAMESPACES["wsa"]}">uuid:{related}</a:RelatesTo>'
        return f'<s:Envelope xmlns:s="{NAMESPACES["s"]}"><s:Header>{header}</s:Header><s:Body/></s:Envelope>'.encode()


def message_id(message: bytes) -> str:
    found = _ID.search(message)
    assert found is not None
    return found[1].decode()


def ours(wire: Wire) -> Connection:
    made = Connection(ENDPOINT, ACCOUNT, Options(), Watch(lambda: False))
    made.transport = wire  # type: ignore[assignment]
    return made


def theirs(wire: Wire) -> WSMan:
    made = WSMan(operation_timeout=Options().operation_timeout, **arguments(ENDPOINT, ACCOUNT, Options()))
    made.transport = wire  # type: ignore[assignment]
    return made


def same(message: bytes, number: str = "N") -> str:
    """In the one form that documents of the same meaning have, with the id left out."""
    return ET.canonicalize(message.replace(message_id(message).encode(), number.encode()), rewrite_prefixes=True)


def asked(connection: WSMan, command_id: str, timeout: int | None = None) -> None:
    options, selectors = OptionSet(), SelectorSet()
    options.add_option("WINRS_SKIP_CMD_SHELL", "False", {"MustComply": "true"})
    selectors.add_option("ShellId", "0F8FAD5B")
    resource = ET.Element(f"{{{NAMESPACES['rsp']}}}CommandLine", CommandId=command_id)
    ET.SubElement(resource, f"{{{NAMESPACES['rsp']}}}Arguments").text = "AAAA<&>§"
    connection.command(URI, resource, options, selectors, timeout)


def test_the_same_message_as_pypsrp() -> None:
    mine, stock = Wire(), Wire()
    connection, other = ours(mine), theirs(stock)
    other.session_id = connection.session_id
    for number, timeout in enumerate((None, 7, None)):
        asked(connection, f"C{number}", timeout)
        asked(other, f"C{number}", timeout)

    assert [same(message) for message in mine.sent] == [same(message) for message in stock.sent]
    assert mine.waits == stock.waits
    assert len({message_id(message) for message in mine.sent}) == 3


def test_a_larger_envelope_is_offered_once_it_is_agreed_on() -> None:
    wire = Wire()
    connection = ours(wire)
    asked(connection, "C1")
    connection.update_max_payload_size(512_000)
    asked(connection, "C1")

    assert b">153600</wsman:MaxEnvelopeSize>" in wire.sent[0]
    assert b">512000</wsman:MaxEnvelopeSize>" in wire.sent[1]


def test_the_receive_names_its_command() -> None:
    connection = ours(Wire())
    _, message = connection._receive_message(URI, None, 'C"<1>', 5)

    envelope = ET.fromstring(message)
    stream = envelope.find("s:Body/rsp:Receive/rsp:DesiredStream", NAMESPACES)
    assert stream is not None
    assert (stream.text, stream.get("CommandId")) == ("stdout", 'C"<1>')
    action = envelope.find("s:Header/wsa:Action", NAMESPACES)
    assert action is not None
    assert action.text == WSManAction.RECEIVE


def test_the_answer_to_another_message_is_refused() -> None:
    with pytest.raises(WinRMError):
        asked(ours(Wire("11111111-1111-1111-1111-111111111111")), "C1")
