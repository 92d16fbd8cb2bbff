"""What the client relies on inside its libraries, private members above all. A new pypsrp that moves them fails here
and not in production; then read its source again and adapt transport.py, wsman.py, fragments.py and pool.py.
"""

from __future__ import annotations

import inspect
from importlib.metadata import version
from typing import Any

import pypsrp.messages
import pypsrp.negotiate
import pypsrp.powershell
import pypsrp.shell
import pypsrp.wsman
import pytest
import requests.adapters
import urllib3.connection
import urllib3.connectionpool
from pypsrp.powershell import Fragmenter, PowerShell, RunspacePool
from pypsrp.wsman import WSMan

from connectors.exchange.client import Account, Endpoint, Options
from connectors.exchange.fragments import FastFragmenter, RawMessage
from connectors.exchange.pool import FastPipeline, FastPool
from connectors.exchange.transport import Transport, Watch
from connectors.exchange.wsman import Connection

ENDPOINT = Endpoint("ex01.contoso.test", 80, use_tls=False)
ACCOUNT = Account("CONTOSO\\a", "b", "basic")


@pytest.fixture
def connection() -> Connection:
    return Connection(ENDPOINT, ACCOUNT, Options(), Watch(lambda: False))


def source(thing: Any) -> str:
    return inspect.getsource(thing)


def test_the_version_is_the_one_that_was_read() -> None:
    assert version("pypsrp") == "0.9.1"


@pytest.mark.parametrize(
    ("owner", "name", "parameters"),
    [
        (RunspacePool, "_receive", ["self", "id", "timeout"]),
        (RunspacePool, "_parse_responses", ["self", "responses", "pipeline"]),
        (RunspacePool, "_process_runspacepool_state", ["self", "message"]),
        (RunspacePool, "_process_runspacepool_warning", ["self", "message"]),
        (PowerShell, "_process_error_record", ["self", "message"]),
        (PowerShell, "_process_warning_record", ["self", "message"]),
        (PowerShell, "_process_pipeline_state", ["self", "message"]),
        (Fragmenter, "defragment", ["self", "data"]),
        (PowerShell, "_invoke", ["self", "msg"]),
        (WSMan, "_parse_wsman_fault", ["xml_text"]),
        (
            WSMan,
            "invoke",
            [
                *("self", "action", "resource_uri", "resource", "option_set", "selector_set", "timeout"),
                "retries_on_read_timeout",
            ],
        ),
        (WSMan, "_create_header", ["self", "action", "resource_uri", "option_set", "selector_set", "timeout"]),
        (pypsrp.wsman._TransportHTTP, "_build_session", ["self"]),
        (pypsrp.wsman._TransportHTTP, "_send_request", ["self", "request", "timeout"]),
        (pypsrp.wsman._TransportHTTP, "send", ["self", "message", "retries_on_read_timeout", "timeout"]),
    ],
)
def test_members_that_are_overridden_or_called(owner: type, name: str, parameters: list[str]) -> None:
    assert list(inspect.signature(getattr(owner, name)).parameters) == parameters


def test_a_pool_has_what_is_replaced(connection: Connection) -> None:
    pool = FastPool(connection, Options())
    assert isinstance(pool._fragmenter, FastFragmenter)
    stock = RunspacePool(WSMan("x"))
    assert isinstance(stock._fragmenter, Fragmenter)
    assert stock.shell._selector_set is None
    assert stock.pipelines == {}
    assert PowerShell(stock)._command_id is None


def test_the_transport_has_what_is_reset(connection: Connection) -> None:
    stock = WSMan("x").transport
    for name in ("session", "encryption", "connection_timeout", "read_timeout", "wrap_required"):
        assert hasattr(stock, name), name
    assert isinstance(connection.transport, Transport)
    session = connection.transport._build_session()
    assert session.trust_env is False
    assert session.headers["Host"] == "ex01.contoso.test"
    session.close()


def test_where_pypsrp_calls_our_hooks() -> None:
    assert "self._fragmenter.defragment(responses)" in source(RunspacePool._parse_responses)
    assert "pipeline._process_error_record" in source(RunspacePool._parse_responses)
    assert "self._receive()" in source(RunspacePool.open)
    assert "self.shell.close()" in source(RunspacePool.close)
    assert "self._send_request(" in source(pypsrp.wsman._TransportHTTP.send)
    assert "self._build_session()" in source(pypsrp.wsman._TransportHTTP.send)
    for asked in (WSMan.create, WSMan.command, WSMan.signal, WSMan.delete):
        assert "self.invoke(" in source(asked)
    # Bytes from the serialiser are sent as they are.
    assert "self.runspace_pool._fragmenter.fragment(msg," in source(PowerShell._invoke)
    assert "self._serializer.serialize(self.data)" in source(pypsrp.messages.Message.pack)
    assert "if not isinstance(msg, bytes)" in source(pypsrp.messages.Message.pack)


def test_pypsrps_dispatch_looks_at_the_type_alone(connection: Connection) -> None:
    """RawMessage has no other member that a Message has."""
    pool = FastPool(connection, Options())
    pipeline = FastPipeline(pool)
    error = b'<Obj RefId="0"><MS><S N="FullyQualifiedErrorId">A,B</S></MS></Obj>'
    state = b'<Obj RefId="0"><MS><I32 N="PipelineState">4</I32></MS></Obj>'
    kinds = pypsrp.messages.MessageType
    raw = [RawMessage(kinds.ERROR_RECORD, error), RawMessage(kinds.PIPELINE_STATE, state)]

    class Fixed(FastFragmenter):
        def defragment(self, data: bytes) -> list[pypsrp.messages.Message]:
            return list(raw)

    pool._fragmenter = Fixed(1000, pool._serializer)
    pool._parse_responses(b"", pipeline)
    assert [found.fq_error_id for found in pipeline.errors] == ["A,B"]
    assert pipeline.is_completed


def test_the_negotiate_hook_reads_where_we_stream() -> None:
    """Channel binding takes the certificate from the open socket of a streamed answer."""
    assert "response.raw.release_conn()" in source(pypsrp.negotiate.HTTPNegotiateAuth.handle_401)
    assert "raw_response._fp.fp.raw._sock" in source(pypsrp.negotiate.HTTPNegotiateAuth._get_cbt_data)
    assert "actual: '%s'" in source(pypsrp.negotiate.HTTPNegotiateAuth._check_auth_supported)


def test_requests_and_urllib3_have_the_places_we_subclass() -> None:
    assert "get_connection_with_tls_context(" in source(requests.adapters.HTTPAdapter.send)
    assert "self.cert_verify(conn, request.url, verify, cert)" in source(requests.adapters.HTTPAdapter.send)
    assert "build_connection_pool_key_attributes(" in source(
        requests.adapters.HTTPAdapter.get_connection_with_tls_context
    )
    assert "pool_classes_by_scheme" in source(urllib3.PoolManager)
    assert "self.ConnectionCls(" in source(urllib3.connectionpool.HTTPConnectionPool._new_conn)
    assert "self.sock.settimeout(self.timeout)" in source(urllib3.connection.HTTPConnection.getresponse)
    # A TimeoutError from getresponse() becomes a ReadTimeout.
    assert "conn.getresponse()" in source(urllib3.connectionpool.HTTPConnectionPool._make_request)
