"""PSRP fragments walked by offset: each object's bytes are copied once and not looked into.

A subclass of pypsrp's Fragmenter, as wire.md 8 draws it. Messages of a pipeline that we read ourselves come out as
RawMessage, chatter (progress, verbose, debug, information) not at all, everything else as pypsrp's own Message.
Source: MS-PSRP 2.2.1 (message), 2.2.4 (fragment).
"""

from __future__ import annotations

import struct
from typing import Any

from pypsrp.exceptions import FragmentError
from pypsrp.messages import Message, MessageType
from pypsrp.powershell import Fragmenter

# Object id, fragment id, start and end bits, length; then the data.
_FRAGMENT = struct.Struct(">QQBI")
_HEADER = _FRAGMENT.size
_START, _END = 1, 2
# Destination, message type (little endian), two GUIDs; then the CLIXML, perhaps after a byte order mark.
_TYPE = struct.Struct("<I")
_TYPE_OFFSET = 4
_BODY_OFFSET = 40
_BOM = b"\xef\xbb\xbf"

OUTPUT: int = MessageType.PIPELINE_OUTPUT
_RAW = frozenset(
    {OUTPUT, MessageType.ERROR_RECORD, MessageType.PIPELINE_STATE, MessageType.WARNING_RECORD},
)
_CHATTER = frozenset(
    {
        MessageType.DEBUG_RECORD,
        MessageType.VERBOSE_RECORD,
        MessageType.PROGRESS_RECORD,
        MessageType.INFORMATION_RECORD,
    }
)
# One object larger than this is no device; it would fill the memory before anything looked at it.
OBJECT_LIMIT = 64 * 1024 * 1024


class RawMessage(Message):
    """A message of a pipeline, its CLIXML unread. To pypsrp's dispatch, which looks at the type only, a Message."""

    def __init__(self, message_type: int, body: bytes) -> None:
        self.message_type = message_type
        self.body = body


class FastFragmenter(Fragmenter):
    """Raises FragmentError for anything that is not whole fragments in their order."""

    def __init__(self, max_size: int, serializer: Any) -> None:
        super().__init__(max_size, serializer)
        self._open: dict[int, tuple[int, bytearray]] = {}  # object id: next fragment's id, what came so far

    def defragment(self, data: bytes) -> list[Message]:
        messages: list[Message] = []
        unpack = _FRAGMENT.unpack_from
        end = len(data)
        offset = 0
        while offset < end:
            if end - offset < _HEADER:
                raise FragmentError("a fragment's header is cut off")
            object_id, fragment_id, bits, length = unpack(data, offset)
            start = offset + _HEADER
            offset = start + length
            if offset > end:
                raise FragmentError("a fragment is cut off")
            if bits & _START and bits & _END:
                if fragment_id:
                    raise FragmentError("a first fragment with another number than 0")
                self._add(messages, data, start, offset)
                continue
            whole = self._joined(object_id, fragment_id, bits, data[start:offset])
            if whole is not None:
                self._add(messages, whole, 0, len(whole))
        return messages

    def _joined(self, object_id: int, fragment_id: int, bits: int, piece: bytes) -> bytes | None:
        """The whole object when this was its last fragment."""
        if bits & _START:
            self._open[object_id] = (0, bytearray())
        expected, parts = self._open.get(object_id, (-1, bytearray()))
        if fragment_id != expected:
            raise FragmentError("fragments out of order")
        parts += piece
        if len(parts) > OBJECT_LIMIT:
            raise FragmentError("an object larger than any we know")
        if bits & _END:
            del self._open[object_id]
            return bytes(parts)
        self._open[object_id] = (expected + 1, parts)
        return None

    def _add(self, messages: list[Message], data: bytes, start: int, end: int) -> None:
        """Append the message that lies between start and end, if it is one we care for."""
        body = start + _BODY_OFFSET
        if body > end:
            raise FragmentError("a message's header is cut off")
        (kind,) = _TYPE.unpack_from(data, start + _TYPE_OFFSET)
        if kind in _RAW:
            if data.startswith(_BOM, body, end):
                body += len(_BOM)
            messages.append(RawMessage(kind, data[body:end]))
        elif kind not in _CHATTER:
            messages.append(Message.unpack(data[start:end], self.serializer))
