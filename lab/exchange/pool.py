"""psrpcore's server pool with what it lacks for our purpose: a protocol version of choice, and tolerance for case."""

from __future__ import annotations

from typing import Any

from psrpcore import ServerRunspacePool
from psrpcore.types import PSRPMessageType, PSVersion, SessionCapability


class ServerPool(ServerRunspacePool):
    """psrpcore's pool, speaking a given protocol version, and reading what pypsrp spells `CI`."""

    def __init__(self, protocol: str) -> None:
        versions = {"PSRemotingProtocolVersion": PSVersion(protocol)}
        versions["SerializationVersion"] = PSVersion("1.1.0.1")
        versions["PSVersion"] = PSVersion("2.0" if protocol == "2.1" else "5.1")
        super().__init__(application_private_data={"PSVersionTable": versions})
        self.our_capability = SessionCapability(
            PSVersion=PSVersion("2.0"),
            protocolversion=PSVersion(protocol),
            SerializationVersion=PSVersion("1.1.0.1"),
        )

    def next_object_id(self) -> int:
        """The number of the next message; to be called under the shell's lock, as all of psrpcore."""
        return int(self._fragment_counter)

    def _process_message(self, message: Any) -> Any:
        # Property names are case-insensitive to PowerShell but not to psrpcore; pypsrp sends CI here and ci elsewhere.
        if message.message_type in (PSRPMessageType.SetMaxRunspaces, PSRPMessageType.SetMinRunspaces):
            message._data = bytearray(message.data.replace(b'N="CI"', b'N="ci"'))
        return super()._process_message(message)
