"""The message that starts a pipeline against the bytes that pypsrp, whose serialiser it stands for, makes of it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pypsrp.powershell import Fragmenter, PowerShell
from pypsrp.serializer import Serializer

from connectors.exchange import cmdlets
from connectors.exchange.channel import _sent
from connectors.exchange.client import Account, Endpoint, Options
from connectors.exchange.cmdlets import Command, Family, Identity
from connectors.exchange.invocation import Invocation
from connectors.exchange.pool import FastPipeline, FastPool
from connectors.exchange.transport import Watch
from connectors.exchange.wsman import Connection

ENDPOINT = Endpoint("ex01.contoso.test", 80, use_tls=False)
ACCOUNT = Account("CONTOSO\\a", "b", "basic")
PROTOCOLS = ["2.1", "2.2", "2.3"]

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
VALUES = st.one_of(
    TEXT,
    st.booleans(),
    st.integers(-(2**31), 2**31 - 1),
    st.none(),
    st.lists(TEXT, max_size=3),
    st.dictionaries(st.sampled_from(["Add", "Remove"]), st.lists(TEXT, max_size=3), max_size=2),
)
COMMANDS = st.lists(
    st.tuples(st.sampled_from(["Get-CASMailbox", "Select-Object"]), st.dictionaries(TEXT, VALUES, max_size=4)),
    min_size=1,
    max_size=3,
)


def begun(pipeline: PowerShell, commands: list[tuple[str, dict[str, Any]]], protocol: str) -> bytes:
    """What the pipeline would send, put together again."""
    pool = pipeline.runspace_pool
    pool.protocol_version = protocol
    for name, parameters in commands:
        pipeline.add_cmdlet(name)
        for parameter, value in parameters.items():
            pipeline.add_parameter(parameter, value)
    sent: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "_invoke", sent.append)
        pipeline.begin_invoke()
    (fragment,) = pool._fragmenter.fragment(sent[0], pool.id, pipeline.id)
    return bytes(fragment)


def pool() -> FastPool:
    made = FastPool(Connection(ENDPOINT, ACCOUNT, Options(), Watch(lambda: False)), Options())
    made.id = "0F8FAD5B-D9CB-469F-A165-70867728950E"
    made.protocol_version = "2.3"
    return made


def pair(commands: list[tuple[str, dict[str, Any]]], protocol: str) -> tuple[bytes, bytes]:
    """What we send, and what pypsrp's own pipeline sends of the same."""
    ours = FastPipeline(pool())
    theirs_pool = pool()
    theirs_pool._serializer = Serializer()
    theirs_pool._fragmenter = Fragmenter(300_000, theirs_pool._serializer)
    theirs = PowerShell(theirs_pool)
    theirs.id = ours.id
    return begun(ours, commands, protocol), begun(theirs, commands, protocol)


@settings(max_examples=80, deadline=None)
@given(COMMANDS, st.sampled_from(PROTOCOLS))
@example([("Set-CASMailbox", {"Identity": "_x0041_ <&> \U0001f600 é\n", "A": {"Add": []}, "B": [], "C": ""})], "2.3")
def test_the_same_bytes_as_pypsrp(commands: list[tuple[str, dict[str, Any]]], protocol: str) -> None:
    ours, theirs = pair(commands, protocol)
    assert ours == theirs


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "command",
    [
        cmdlets.set_cas_mailbox(Identity("a"), allowed_add=("X", "Y"), blocked_remove=("X",)),
        cmdlets.get_command(cmdlets.PROBED),
        cmdlets.assign_mailbox_policy(Identity("a"), None),
        cmdlets.list_mobile_devices(Family.MOBILE, filter="A -eq 'b'"),
    ],
)
def test_commands_of_ours(command: Command, protocol: str) -> None:
    ours, theirs = pair([(command.name, {name: _sent(one) for name, one in command.parameters.items()})], protocol)
    assert ours == theirs


@pytest.mark.parametrize("value", [1.5, b"x", ("a",), {"Add": object()}])
def test_no_other_values(value: object) -> None:
    pipeline = FastPipeline(pool())
    pipeline.add_cmdlet("Get-CASMailbox").add_parameter("Identity", value)
    with pytest.raises(TypeError):
        Invocation(pipeline.commands, "2.3")


def test_no_scripts() -> None:
    pipeline = FastPipeline(pool())
    pipeline.add_script("Get-CASMailbox")
    with pytest.raises(TypeError):
        pipeline.begin_invoke()
