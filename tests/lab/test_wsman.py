"""The lab's WS-Man: answers, fault codes, limits, the life of a shell. pypsrp as shipped is the client."""

from __future__ import annotations

import threading
import time
import uuid
import xml.etree.ElementTree as ET

import pytest
import requests
from pypsrp.complex_objects import PSInvocationState
from pypsrp.exceptions import InvalidPSRPOperation, WinRMTransportError, WSManFaultError
from pypsrp.powershell import RunspacePool
from pypsrp.shell import SignalCode
from pypsrp.wsman import NAMESPACES, SelectorSet, WSManAction

from lab.exchange import wsman_messages
from lab.exchange.wsman import Limits
from tests.lab.wire import CONNECTOR, OTHER, command, make_pool, run, serving

pytestmark = pytest.mark.wire

TIMED_OUT = 2150858793
NOT_FOUND = 2150858843


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("lab")) as site:
        yield site


@pytest.fixture
def site(running):
    yield running
    running.faults.clear()
    running.engine.gate.clear()
    running.server.powershell.close()


def selected(shell_id):
    selectors = SelectorSet()
    selectors.add_option("ShellId", str(shell_id))
    return selectors


# Answers


def test_create_answers_with_what_the_shell_is(site):
    with site.pool(idle_timeout=120) as pool:
        assert pool.shell.owner == CONNECTOR.user
        assert pool.shell.client_ip == "127.0.0.1"
        assert pool.shell.resource_uri == "http://schemas.microsoft.com/powershell/Microsoft.Exchange"
        assert pool.shell.idle_time_out == "PT120.000S"
        assert pool.shell.output_streams == "stdout"
        assert uuid.UUID(pool.shell.id) == uuid.UUID(pool.id)


def test_get_tells_config_and_state(site):
    with site.pool() as pool:
        assert pool.is_alive()
        pool.connection.update_max_payload_size()
        assert pool.connection.max_envelope_size == 500 * 1024
        site.server.powershell.close()
        assert not pool.is_alive()


def test_delete_ends_the_shell(site):
    with site.pool():
        assert site.server.powershell.open_shells == 1
    assert site.server.powershell.open_shells == 0


# Faults


def test_the_wrong_resource(site):
    with site.wsman() as wsman, pytest.raises(WSManFaultError) as caught, RunspacePool(wsman):
        pass
    assert caught.value.code == 2150858811
    assert "Microsoft.PowerShell" in caught.value.reason
    with site.wsman() as wsman, pytest.raises(WSManFaultError) as caught:
        wsman.get("http://schemas.microsoft.com/wbem/wsman/1/wmi/root")
    assert caught.value.code == 2150858811


def test_actions_that_are_not_offered(site):
    with site.pool() as pool, pytest.raises(WSManFaultError) as caught:
        pool.disconnect()
    assert caught.value.code == 2150858771


UNKNOWN = {
    "Receive": lambda pool: pool._receive(),
    "Command": lambda pool: command(pool, "Get-Thing").begin_invoke(),
    "Signal": lambda pool: pool.shell.signal(SignalCode.TERMINATE, str(uuid.uuid4())),
    "Send": lambda pool: pool.get_available_runspaces(),
    "Delete": lambda pool: pool.close(),
}


@pytest.mark.parametrize("act", UNKNOWN.values(), ids=UNKNOWN.keys())
@pytest.mark.parametrize("protocol", ["2.1", "2.3"])
def test_a_shell_that_is_gone(site, monkeypatch, act, protocol):
    monkeypatch.setattr(site.engine, "protocol", protocol)
    with site.wsman() as wsman:
        pool = make_pool(wsman)
        pool.open()
        site.server.powershell.close()
        with pytest.raises(WSManFaultError) as caught:
            act(pool)
    assert caught.value.code == NOT_FOUND
    assert f"ShellId {pool.id} failed because the shell was not found on the server" in caught.value.reason
    assert ("[FailureCategory=WSMan-InvalidShellID]" in caught.value.reason) == (protocol != "2.1")


def test_a_shell_of_another_server_is_not_found(site, tmp_path):
    with serving(tmp_path) as other, site.pool() as pool, other.wsman() as wsman:
        with pytest.raises(WSManFaultError) as caught:
            wsman.get(pool.shell.resource_uri, selector_set=selected(pool.id))
        assert caught.value.code == NOT_FOUND


def test_a_shell_of_another_account_is_denied(site):
    with site.pool() as pool, site.wsman(account=OTHER) as wsman:
        with pytest.raises(WSManFaultError) as caught:
            wsman.delete(pool.shell.resource_uri, selector_set=selected(pool.id))
        assert caught.value.code == 2150858819
        assert run(pool, "Get-Thing") == ["Get-Thing"]


def test_an_unknown_command(site):
    with site.pool() as pool:
        with pytest.raises(WSManFaultError) as caught:
            pool.shell.receive("stdout", str(uuid.uuid4()))
        assert caught.value.code == NOT_FOUND
        assert run(pool, "Get-Thing") == ["Get-Thing"]


RSP = NAMESPACES["rsp"]


def element(name, text=None, **attributes):
    made = ET.Element(f"{{{RSP}}}{name}", attributes)
    made.text = text
    return made


def nested(outer, inner):
    made = element(outer)
    made.append(inner)
    return made


NONSENSE = {
    "Create without content": (WSManAction.CREATE, element("Shell"), 400),
    "Create without a body": (WSManAction.CREATE, None, 400),
    "Command without a line": (WSManAction.COMMAND, None, 400),
    "Command of an id that is none": (WSManAction.COMMAND, element("CommandLine", CommandId="x"), 400),
    "Command that is no base64": (WSManAction.COMMAND, nested("CommandLine", element("Arguments", "!!")), 400),
    "Command of broken fragments": (WSManAction.COMMAND, nested("CommandLine", element("Arguments", "AAAA")), 500),
    "Send without a stream": (WSManAction.SEND, element("Send"), 400),
    "Send of nonsense": (WSManAction.SEND, nested("Send", element("Stream", "QUJDRA==", Name="stdin")), 500),
    "Receive of nothing": (WSManAction.RECEIVE, None, 400),
    "Signal without a code": (WSManAction.SIGNAL, element("Signal", CommandId=str(uuid.uuid4())), 400),
    "Signal without a command": (WSManAction.SIGNAL, element("Signal"), 400),
}


@pytest.mark.parametrize(("action", "body", "status"), NONSENSE.values(), ids=NONSENSE.keys())
def test_messages_that_make_no_sense_get_a_fault(site, action, body, status):
    with site.pool() as pool:
        uri = pool.shell.resource_uri
        with pytest.raises(WSManFaultError) as caught:
            pool.connection.invoke(action, uri, body, selector_set=selected(pool.id))
        assert isinstance(caught.value.__context__, WinRMTransportError)
        assert caught.value.__context__.code == status
        # The next shell is none the worse for it.
        with site.pool() as fresh:
            assert run(fresh, "Get-Thing") == ["Get-Thing"]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("PT20S", 20), ("PT0.5S", 0.5), ("PT1M5S", 65), ("P1DT1H", 90_000), (None, 60), ("20", None), ("PT", 0)],
)
def test_durations(text, seconds):
    if seconds is None:
        with pytest.raises(wsman_messages.EnvelopeError):
            wsman_messages.duration(text, 60)
    else:
        assert wsman_messages.duration(text, 60) == seconds


# Receive


def test_nothing_within_the_operation_timeout(site):
    with site.pool() as pool:
        begun = time.monotonic()
        with pytest.raises(WSManFaultError) as caught:
            pool.shell.receive("stdout", timeout=1)
        assert caught.value.code == TIMED_OUT
        assert 0.9 < time.monotonic() - begun < 3
        with command(pool, "Get-Slow") as shell:
            shell.begin_invoke()
            shell.poll_invoke(timeout=1)
            shell.poll_invoke(timeout=1)
            assert shell.output == ["first"]
            assert shell.state == PSInvocationState.RUNNING
            site.engine.gate.set()
            shell.end_invoke()
            assert shell.output == ["first", "second"]


def receive_message(pool, command_id):
    """The bytes of a Receive, as pypsrp would send them."""
    receive = element("Receive")
    receive.append(element("DesiredStream", "stdout", CommandId=command_id))
    _, header = pool.connection._create_header(
        WSManAction.RECEIVE, pool.shell.resource_uri, selector_set=selected(pool.id)
    )
    envelope = ET.Element(f"{{{NAMESPACES['s']}}}Envelope")
    envelope.append(header)
    body = ET.SubElement(envelope, f"{{{NAMESPACES['s']}}}Body")
    body.append(receive)
    return ET.tostring(envelope)


def test_the_same_receive_gets_the_same_answer(site):
    with site.pool() as pool, command(pool, "Get-Many", Count=500, Size=3000) as shell:
        shell.begin_invoke()
        message = receive_message(pool, shell.id)
        first = pool.connection.transport.send(message)
        assert pool.connection.transport.send(message) == first
        assert pool.connection.transport.send(receive_message(pool, shell.id)) != first
        shell.stop()


@pytest.mark.parametrize("options", [{}, {"auth": "ntlm"}, {"tls": True}], ids=["Basic", "NTLM", "TLS"])
def test_a_receive_repeated_after_a_read_timeout_loses_nothing(site, options):
    """pypsrp gives up reading before the server has something, and sends the same bytes on a new connection."""
    patience = {"read_timeout": 0.3, "reconnection_backoff": 0.01}
    with site.pool(**patience, **options) as pool, command(pool, "Get-Slow") as shell:
        shell.begin_invoke()
        opener = threading.Timer(1.0, site.engine.gate.set)
        opener.start()
        assert shell.end_invoke() == ["first", "second"]
        opener.join()


def test_an_answer_lost_on_its_way_is_given_again(site):
    """The connection breaks within the answer; the same message, sent anew, brings all of it."""
    with site.pool() as pool, command(pool, "Get-Many", Count=20) as shell:
        site.fault("drop_mid_stream", "5", times=1)
        shell.begin_invoke()
        message = receive_message(pool, shell.id)
        with pytest.raises(Exception, match=r"IncompleteRead|Connection|ended prematurely"):
            pool.connection.transport.send(message)
        answer = ET.fromstring(pool.connection.transport.send(message))
        assert answer.findtext("s:Body/rsp:ReceiveResponse/rsp:Stream", "", NAMESPACES)
        shell.stop()


def test_a_new_receive_takes_the_place_of_one_that_waits(site):
    """Else it would take the data, for somebody who no longer listens."""
    with site.pool() as pool, site.wsman() as abandoned, command(pool, "Get-Slow") as shell:
        shell.begin_invoke()
        shell.poll_invoke()
        faults = []

        def wait():
            try:
                abandoned.transport.send(receive_message(pool, shell.id))
            except WinRMTransportError as error:
                faults.append(error)

        waiting = threading.Thread(target=wait)
        before = site.server.stats["requests"]
        waiting.start()
        eventually(lambda: site.server.stats["requests"] > before)
        threading.Timer(0.2, site.engine.gate.set).start()
        assert shell.end_invoke() == ["first", "second"]
        waiting.join(5)
        assert str(TIMED_OUT) in faults[0].response_text


# Limits


@pytest.mark.parametrize(
    ("protocol", "code", "text"),
    [
        ("2.1", 2150859173, "This user is allowed a maximum of 18 concurrent shells, which has been exceeded."),
        ("2.2", 2150858819, "exceeded the maximum number of connections allowed : 18 for the policy party"),
        ("2.3", 2150858819, "exceeded the maximum number of connections allowed : 18 for the policy party"),
    ],
)
def test_eighteen_shells_a_user(site, monkeypatch, protocol, code, text):
    monkeypatch.setattr(site.engine, "protocol", protocol)
    opened = []
    for _ in range(18):
        opened.append(make_pool(site.wsman()))
        opened[-1].open()
    with pytest.raises(WSManFaultError) as caught, site.pool():
        pass
    assert caught.value.code == code
    assert text in caught.value.reason
    with site.pool(account=OTHER) as pool:
        assert run(pool, "Get-Thing") == ["Get-Thing"]
    opened.pop().close()
    with site.pool() as pool:
        assert run(pool, "Get-Thing") == ["Get-Thing"]


def test_a_shell_idle_for_too_long_is_gone(site):
    with site.wsman() as wsman:
        pool = make_pool(wsman, idle_timeout=1)
        pool.open()
        # A long poll is no idleness.
        with command(pool, "Get-Slow") as shell:
            shell.begin_invoke()
            shell.poll_invoke(timeout=2)
            shell.poll_invoke(timeout=2)
            site.engine.gate.set()
            shell.end_invoke()
            assert shell.output == ["first", "second"]
        eventually(lambda: site.server.powershell.open_shells == 0)
        with pytest.raises(WSManFaultError) as caught:
            run(pool, "Get-Thing")
        assert caught.value.code == NOT_FOUND


def test_commands_that_are_never_ended(tmp_path):
    with serving(tmp_path, limits=Limits(commands_per_shell=3)) as site, site.pool() as pool:
        left = [command(pool, "Get-Thing") for _ in range(3)]
        for shell in left:
            shell.invoke()
        with pytest.raises(WSManFaultError, match="maximum number of concurrent commands per shell"):
            run(pool, "Get-Thing")
        left[0].close()
        assert run(pool, "Get-Thing") == ["Get-Thing"]


def test_answers_keep_to_the_envelope_that_is_asked_for(site):
    for size in (20_000, 153_601, 400_000):
        with site.pool(max_envelope_size=size) as pool, command(pool, "Get-Many", Count=300, Size=2000) as shell:
            shell.begin_invoke()
            eventually(lambda: site.engine.running == 0)
            answer = pool.connection.transport.send(receive_message(pool, shell.id))
            assert size * 0.8 < len(answer) <= size
            shell.stop()


def test_an_object_larger_than_an_envelope_comes_in_fragments(site):
    with site.pool() as pool:
        large = run(pool, "Get-Many", Count=2, Size=700_000)
        assert large == [f"{number:0700000d}" for number in range(2)]


# Faults on demand


def test_fault_too_many_shells(site):
    site.fault("too_many_shells", times=1)
    with pytest.raises(WSManFaultError, match="exceeded the maximum number of connections"), site.pool():
        pass
    with site.pool() as pool:
        assert run(pool, "Get-Thing") == ["Get-Thing"]


@pytest.mark.parametrize("cmdlet", ["", "Get-Thing", "get-thing"])
def test_fault_shell_not_found(site, cmdlet):
    with site.wsman() as wsman:
        pool = make_pool(wsman)
        pool.open()
        assert run(pool, "Get-Other") == ["Get-Other"]
        site.fault("shell_not_found", cmdlet=cmdlet, times=1)
        if cmdlet:
            assert run(pool, "Get-Other") == ["Get-Other"]
        with pytest.raises(WSManFaultError) as caught:
            run(pool, "Get-Thing")
        assert caught.value.code == NOT_FOUND
        assert site.server.powershell.open_shells == 0


def test_fault_broken_pool(site):
    site.fault("broken_pool", times=1)
    with site.wsman() as wsman:
        pool = make_pool(wsman)
        pool.open()
        shell = command(pool, "Get-Many", Count=100_000)
        with pytest.raises(InvalidPSRPOperation, match="broken"):
            shell.invoke()
        assert site.server.powershell.open_shells == 0
        eventually(lambda: site.engine.running == 0)


def test_fault_drop_mid_stream(site):
    site.fault("drop_mid_stream", "250", cmdlet="Get-Many", times=1)
    with site.pool() as pool, command(pool, "Get-Many", Count=1000, Size=3000) as shell:
        shell.begin_invoke()
        with pytest.raises(Exception, match=r"IncompleteRead|Connection|ended prematurely"):
            shell.end_invoke()
        assert 100 <= len(shell.output) < 250
        shell.stop()
        assert run(pool, "Get-Thing") == ["Get-Thing"]


def test_fault_objects_per_receive(site):
    site.fault("objects_per_receive", "2", cmdlet="Get-Many")
    with site.pool() as pool, command(pool, "Get-Many", Count=7) as shell:
        shell.begin_invoke()
        counts = []
        while shell.state == PSInvocationState.RUNNING:
            shell.poll_invoke()
            counts.append(len(shell.output))
        assert counts[:4] == [2, 4, 6, 7]


def test_fault_malformed_clixml(site):
    """pypsrp hands out as text what it cannot parse."""
    site.fault("malformed_clixml", "3", times=1)
    with site.pool() as pool:
        spoilt = run(pool, "Get-Many", Count=5)
        assert [text.startswith("<S>") for text in spoilt] == [False, False, True, False, False]
        assert not spoilt[2].endswith("</S>")
        assert not any(text.startswith("<") for text in run(pool, "Get-Many", Count=5))


def test_fault_silent_end(site):
    site.fault("silent_end", times=1)
    with site.pool() as pool, command(pool, "Get-Many", Count=3) as shell:
        shell.begin_invoke()
        shell.poll_invoke(timeout=1)
        assert len(shell.output) == 3
        shell.poll_invoke(timeout=1)
        assert shell.state == PSInvocationState.RUNNING
        shell.stop()


def test_fault_outcome_lost(site):
    """The command runs, once; who asked for it learns nothing, and the session stands."""
    site.fault("outcome_lost", cmdlet="Get-Thing", times=1)
    before = len(site.engine.seen)
    with site.pool() as pool:
        lost = command(pool, "Get-Thing")
        with pytest.raises(requests.exceptions.ConnectionError):
            lost.invoke()
        assert [commands[0].name for commands in site.engine.seen[before:]] == ["Get-Thing"]
        assert run(pool, "Get-Thing") == ["Get-Thing"]


def eventually(condition):
    until = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)
