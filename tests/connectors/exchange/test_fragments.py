"""The fragment walk against bytes that psrpcore, another implementation, makes; and against damage."""

from __future__ import annotations

import struct
import uuid

import psrpcore
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psrpcore import _payload
from psrpcore.types import PSRPMessageType
from pypsrp.exceptions import FragmentError
from pypsrp.messages import MessageType
from pypsrp.powershell import Fragmenter
from pypsrp.serializer import Serializer

from connectors.exchange import fragments
from connectors.exchange.fragments import OUTPUT, FastFragmenter, RawMessage

POOL, PIPELINE = uuid.uuid4(), uuid.uuid4()
OBJECTS = [f'<Obj RefId="0"><MS><S N="Name">iPhone§{number}</S></MS></Obj>'.encode() for number in range(5)]


def message(xml: bytes, kind: PSRPMessageType = PSRPMessageType.PipelineOutput) -> bytes:
    return bytes(_payload.create_message(False, kind, xml, POOL, PIPELINE))


def fragment(object_id: int, data: bytes, size: int) -> list[bytes]:
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    return [
        bytes(_payload.create_fragment(object_id, number, piece, number == len(pieces) - 1))
        for number, piece in enumerate(pieces)
    ]


def fresh() -> FastFragmenter:
    return FastFragmenter(300_000, Serializer())


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 200), st.lists(st.integers(1, 500), max_size=8))
def test_objects_come_whole_however_they_are_cut(size: int, cuts: list[int]) -> None:
    """Any size of fragments, and any number of whole fragments in a Receive."""
    stream = [piece for number, xml in enumerate(OBJECTS, 1) for piece in fragment(number, message(xml), size)]
    fragmenter = fresh()
    found = []
    while stream:
        count = cuts.pop() if cuts else len(stream)
        found += fragmenter.defragment(b"".join(stream[:count]))
        stream = stream[count:]
    assert [(m.message_type, m.body) for m in found if isinstance(m, RawMessage)] == [(OUTPUT, x) for x in OBJECTS]


def test_interleaved_objects() -> None:
    first, second = (fragment(number, message(OBJECTS[number]), 60) for number in (1, 2))
    mixed = [piece for pair in zip(first, second, strict=True) for piece in pair]
    found = fresh().defragment(b"".join(mixed))
    assert [m.body for m in found if isinstance(m, RawMessage)] == OBJECTS[1:3]


def test_the_same_as_pypsrps_own_walk() -> None:
    data = b"".join(piece for n, xml in enumerate(OBJECTS, 1) for piece in fragment(n, message(xml), 70))
    stock = Fragmenter(300_000, Serializer()).defragment(data)
    ours = fresh().defragment(data)
    assert [m.message_type for m in ours] == [m.message_type for m in stock]


def test_a_byte_order_mark_is_left_out() -> None:
    (only,) = fresh().defragment(b"".join(fragment(1, message(b"\xef\xbb\xbf" + OBJECTS[0]), 1000)))
    assert isinstance(only, RawMessage)
    assert only.body == OBJECTS[0]


@pytest.mark.parametrize(
    ("kind", "is_raw"),
    [
        (PSRPMessageType.ErrorRecord, True),
        (PSRPMessageType.WarningRecord, True),
        (PSRPMessageType.PipelineState, True),
        (PSRPMessageType.ProgressRecord, False),
        (PSRPMessageType.VerboseRecord, False),
        (PSRPMessageType.DebugRecord, False),
    ],
)
def test_chatter_is_dropped_unread(kind: PSRPMessageType, is_raw: bool) -> None:
    found = fresh().defragment(b"".join(fragment(1, message(b"<not even xml", kind), 1000)))
    assert [m.message_type for m in found] == ([int(kind)] if is_raw else [])


def test_the_pools_own_messages_go_to_pypsrp() -> None:
    """The handshake as a real server side makes it."""
    server, client = psrpcore.ServerRunspacePool(), psrpcore.ClientRunspacePool()
    client.open()
    payload = client.data_to_send()
    assert payload is not None
    server.receive_data(payload)
    while server.next_event() is not None:
        pass
    answer = server.data_to_send()
    assert answer is not None
    kinds = [m.message_type for m in fresh().defragment(bytes(answer.data))]
    assert MessageType.SESSION_CAPABILITY in kinds
    assert MessageType.RUNSPACEPOOL_STATE in kinds


WHOLE = fragment(1, message(OBJECTS[0]), 10_000)[0]
PARTS = fragment(1, message(OBJECTS[0]), 30)


@pytest.mark.parametrize(
    "data",
    [
        WHOLE[:10],
        WHOLE[:-1],
        WHOLE + b"\0",
        PARTS[1],
        PARTS[0] + PARTS[2],
        PARTS[0] + PARTS[1] + PARTS[1],
        struct.pack(">QQBI", 1, 4, 3, len(WHOLE) - 21) + WHOLE[21:],
        struct.pack(">QQBI", 1, 0, 3, 12) + bytes(12),
    ],
    ids=["header cut", "body cut", "trailing byte", "no start", "gap", "twice", "late start", "no message"],
)
def test_damage_is_an_error(data: bytes) -> None:
    with pytest.raises(FragmentError):
        fresh().defragment(data)


def test_an_endless_object_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fragments, "OBJECT_LIMIT", 60)
    with pytest.raises(FragmentError):
        fresh().defragment(b"".join(PARTS))
