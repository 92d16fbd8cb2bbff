"""The lab's runspace pools: commands, streams, stopping, back-pressure, many at once. The client is stock pypsrp."""

from __future__ import annotations

import threading
import time
import uuid

import pytest
from pypsrp.complex_objects import PSInvocationState
from pypsrp.exceptions import WSManFaultError
from pypsrp.powershell import PowerShell

from lab.exchange.contract import Command
from lab.exchange.streams import OutputQueue
from lab.exchange.wsman import Limits
from tests.lab.wire import CONNECTOR, command, make_pool, run, serving

pytestmark = pytest.mark.wire


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("lab"), limits=Limits(shells_per_user=100)) as site:
        yield site


@pytest.fixture
def site(running, monkeypatch):
    monkeypatch.setattr(running.engine, "protocol", "2.3")
    running.engine.gate.clear()
    yield running
    running.engine.gate.set()
    running.faults.clear()
    running.server.powershell.close()
    eventually(lambda: running.engine.running == 0)


def eventually(condition):
    until = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)


def message(error):
    return error.exception.adapted_properties["Message"]


def names(error):
    return error.exception.types


# Versions


@pytest.mark.parametrize(
    ("protocol", "envelope"), [("2.1", 153_600), ("2.2", 512_000), ("2.3", 512_000)], ids=["2010", "2013", "2016"]
)
def test_protocol_versions(site, monkeypatch, protocol, envelope):
    monkeypatch.setattr(site.engine, "protocol", protocol)
    with site.pool() as pool:
        assert pool.protocol_version == protocol
        assert pool.connection.max_envelope_size == envelope
        with command(pool, "Get-Streams") as shell:
            assert shell.invoke() == ["last"]
            assert shell.streams.warning[0].message == "By default, only the first 1000 items are returned."
        versions = pool.application_private_data.data["PSVersionTable"]
        assert str(versions["PSRemotingProtocolVersion"]) == protocol


def test_powershell_2_runs_the_first_statement_alone(site, monkeypatch):
    for protocol, expected in (("2.1", ["Get-One"]), ("2.3", ["Get-One", "Get-Two"])):
        monkeypatch.setattr(site.engine, "protocol", protocol)
        with site.pool() as pool, PowerShell(pool) as shell:
            shell.add_cmdlet("Get-One").add_statement().add_cmdlet("Get-Two")
            assert shell.invoke() == expected


# What the engine gets


VALUES = {
    "text": ("Ünïcode 例 <&>'\" \u2028", "Ünïcode 例 <&>'\" \u2028"),
    "empty text": ("", ""),
    "number": (42, 42),
    "negative number": (-(2**31), -(2**31)),
    "true": (True, True),
    "false": (False, False),
    "nothing": (None, None),
    "list": (["a", "b"], ["a", "b"]),
    "empty list": ([], []),
    "hashtable": ({"Add": ["x", "y"], "Remove": "z"}, {"Add": ["x", "y"], "Remove": "z"}),
    "guid": (uuid.UUID(int=7), uuid.UUID(int=7)),
    "bytes": (b"\x00\xff", b"\x00\xff"),
    "fraction": (1.5, 1.5),
}


@pytest.mark.parametrize(("sent", "expected"), VALUES.values(), ids=VALUES.keys())
def test_parameter_values_come_as_plain_python(site, sent, expected):
    with site.pool() as pool:
        run(pool, "Get-Thing", Value=sent)
    ((name, value),) = site.engine.seen[-1][0].parameters
    assert name == "Value"
    assert value == expected
    assert type(value) is type(expected)


def test_commands_of_a_pipeline(site):
    with site.pool() as pool, PowerShell(pool) as shell:
        shell.add_cmdlet("Get-Thing").add_parameter("-Identity:", "a").add_argument("positional")
        shell.add_cmdlet("Select-Object").add_parameter("Property", ["Name", "Id"])
        shell.invoke()
    assert site.engine.seen[-1] == (
        Command("Get-Thing", (("Identity", "a"), (None, "positional"))),
        Command("Select-Object", (("Property", ["Name", "Id"]),), end_of_statement=True),
    )


def test_the_session_is_told_who_and_where(site):
    with site.pool(path="powershell?serializationLevel=Full") as pool:
        run(pool, "Get-Thing")
        run(pool, "Get-Thing")
    state = site.engine.states[-1]
    assert (state.account, state.server, state.serialization_level) == (CONNECTOR, "ex01.lab.test", "full")
    assert state is site.engine.states[-2]
    with site.pool() as pool:
        run(pool, "Get-Thing")
    assert site.engine.states[-1] is not state


def test_a_command_larger_than_a_fragment(site):
    large = "x" * 600_000
    with site.pool() as pool:
        run(pool, "Get-Thing", Value=large)
    assert site.engine.seen[-1][0].parameters == (("Value", large),)


# What the client gets


def test_streams(site):
    with site.pool() as pool, command(pool, "Get-Streams") as shell:
        assert shell.invoke() == ["last"]
        assert shell.state == PSInvocationState.COMPLETED
        assert not shell.had_errors
        assert [one.activity for one in shell.streams.progress] == ["Reading"]
        (error,) = shell.streams.error
    assert error.fq_error == "[FailureCategory=Cmdlet-ManagementObjectNotFoundException] 4C9,Get-Thing"
    assert (error.reason, error.activity, error.category) == ("ManagementObjectNotFoundException", "Get-Thing", 0)
    assert error.message == "NotSpecified: (:) [Get-Thing], ManagementObjectNotFoundException"
    assert "object 'nobody' couldn't be found" in message(error)
    assert names(error)[0] == "Microsoft.Exchange.Configuration.Tasks.ManagementObjectNotFoundException"


def test_a_failure_ends_the_pipeline(site):
    with site.pool() as pool:
        with command(pool, "Get-Failure") as shell:
            assert shell.invoke() == ["before"]
            assert shell.had_errors
            assert shell.state == PSInvocationState.FAILED
            assert shell.streams.error[0].reason == "ManagementObjectNotFoundException"
        assert run(pool, "Get-Thing") == ["Get-Thing"]


def test_a_defect_of_the_lab_fails_the_command_alone(site, caplog):
    with site.pool() as pool:
        with command(pool, "Get-Bug") as shell:
            shell.invoke()
            assert shell.streams.error[0].fq_error == "LabInternalError"
        assert run(pool, "Get-Thing") == ["Get-Thing"]
    assert "LookupError: a bug" in caplog.text


def script(pool):
    return PowerShell(pool).add_script("Get-Thing | Where-Object { $_.Name }")


def hidden_in_a_pipeline(pool):
    return PowerShell(pool).add_cmdlet("Get-Thing").add_script("$_")


@pytest.mark.parametrize("protocol", ["2.1", "2.2", "2.3"])
@pytest.mark.parametrize("make", [script, hidden_in_a_pipeline])
def test_scripts_are_refused(site, monkeypatch, make, protocol):
    monkeypatch.setattr(site.engine, "protocol", protocol)
    before = len(site.engine.seen)
    with site.pool() as pool, make(pool) as shell:
        assert shell.invoke() == []
        assert shell.state == PSInvocationState.FAILED
        (error,) = shell.streams.error
    assert error.fq_error == "ScriptsNotAllowed"
    assert error.message == "ParserError: (:) [], ParseException"
    assert "no-language mode" in message(error)
    assert len(site.engine.seen) == before


def test_command_metadata_is_refused(site):
    with site.pool() as pool:
        with pytest.raises(IndexError):
            pool.get_command_metadata("Get-*")
        assert run(pool, "Get-Thing") == ["Get-Thing"]


def test_many_objects_come_in_order_and_full_envelopes(site):
    with site.pool() as pool, command(pool, "Get-Many", Count=3000, Size=1000) as shell:
        shell.begin_invoke()
        polls = 0
        while shell.state == PSInvocationState.RUNNING:
            shell.poll_invoke()
            polls += 1
        assert [int(text) for text in shell.output] == list(range(3000))
        assert polls <= 3000 * 1400 // 512_000 + 4


# Stopping


@pytest.mark.parametrize("options", [{}, {"tls": True}, {"auth": "ntlm"}], ids=["http", "https", "encrypted"])
def test_stop_in_mid_stream(site, options):
    with site.pool(**options) as pool:
        with command(pool, "Get-Many", Count=1_000_000, Size=3000) as shell:
            shell.begin_invoke()
            shell.poll_invoke()
            assert shell.output
            begun = time.monotonic()
            shell.stop()
            assert time.monotonic() - begun < 0.5
            eventually(lambda: site.engine.running == 0)
        assert run(pool, "Get-Thing") == ["Get-Thing"]


def test_a_stopped_command_says_so(site):
    with site.pool() as pool, command(pool, "Wait-Stop") as shell:
        shell.begin_invoke()
        shell.poll_invoke()
        pool.shell.signal("powershell/signal/ctrl_c", shell.id)
        shell.end_invoke()
        assert shell.state == PSInvocationState.STOPPED
        assert shell.streams.error[0].fq_error == "PipelineStopped"


def test_terminate_and_delete_stop_what_runs(site):
    with site.wsman() as wsman:
        pool = make_pool(wsman)
        pool.open()
        first, second = command(pool, "Wait-Stop"), command(pool, "Wait-Stop")
        first.begin_invoke()
        eventually(lambda: site.engine.running == 1)
        second.begin_invoke()  # waits for the pool's only runspace
        pool.shell.signal("http://schemas.microsoft.com/wbem/wsman/1/windows/shell/signal/Terminate", first.id)
        second.poll_invoke()
        assert second.output == ["begun"]
        pool.close()
        eventually(lambda: site.engine.running == 0)


def test_a_command_that_waits_for_a_runspace_can_be_stopped(site):
    with site.pool() as pool:
        first, second = command(pool, "Wait-Stop"), command(pool, "Get-Thing")
        first.begin_invoke()
        eventually(lambda: site.engine.running == 1)
        second.begin_invoke()
        pool.shell.signal("powershell/signal/ctrl_c", second.id)
        second.end_invoke()
        assert (second.state, second.output) == (PSInvocationState.STOPPED, [])
        first.stop()


# Back-pressure, runspaces, many at once


def test_a_client_that_does_not_fetch_holds_the_engine_back(site):
    site.engine.made = 0
    with site.pool() as pool, command(pool, "Get-Many", Count=100_000, Size=3000) as shell:
        shell.begin_invoke()
        eventually(lambda: site.engine.made > 600)
        held = None
        while held != site.engine.made:
            held = site.engine.made
            time.sleep(0.1)
        assert held * 3000 < 4 * 1024 * 1024
        shell.poll_invoke()
        eventually(lambda: site.engine.made > held)
        shell.stop()


def test_one_command_does_not_wait_for_the_output_of_another(site):
    with site.pool(max_runspaces=2) as pool:
        large = command(pool, "Get-Many", Count=100_000, Size=3000)
        large.begin_invoke()
        assert run(pool, "Get-Thing") == ["Get-Thing"]
        large.stop()


@pytest.mark.parametrize("runspaces", [1, 3])
def test_no_more_commands_at_once_than_runspaces(site, runspaces):
    site.engine.most_running = 0
    with site.pool(max_runspaces=runspaces) as pool:
        shells = [command(pool, "Get-Slow") for _ in range(6)]
        for shell in shells:
            shell.begin_invoke()
        eventually(lambda: site.engine.running == runspaces)
        assert pool.get_available_runspaces() == 0
        site.engine.gate.set()
        for shell in shells:
            assert shell.end_invoke() == ["first", "second"]
            shell.close()
    assert site.engine.most_running == runspaces


def test_the_pool_answers_what_pypsrp_may_ask(site):
    with site.pool() as pool:
        assert pool.get_available_runspaces() == 1
        pool.max_runspaces = 4
        pool.min_runspaces = 2
        assert pool.get_available_runspaces() == 4
        pool.reset_runspace_state()
        pool.exchange_keys()
        assert run(pool, "Get-Thing") == ["Get-Thing"]


def test_sixty_pools_at_once(site):
    failures: list[object] = []
    ready = threading.Barrier(60)

    def work():
        try:
            with site.pool(tls=False) as pool, command(pool, "Get-Slow") as shell:
                shell.begin_invoke()
                ready.wait(20)
                if shell.end_invoke() != ["first", "second"]:
                    failures.append(shell.output)
        except Exception as error:
            failures.append(error)
            ready.abort()

    threads = [threading.Thread(target=work) for _ in range(60)]
    for thread in threads:
        thread.start()
    eventually(lambda: site.engine.running == 60 or failures)
    assert site.server.powershell.open_shells == 60
    site.engine.gate.set()
    for thread in threads:
        thread.join(20)
    assert failures == []
    assert site.server.powershell.open_shells == 0


def test_closing_the_server_ends_who_waits(site):
    with site.wsman() as wsman:
        pool = make_pool(wsman)
        pool.open()
        shell = command(pool, "Wait-Stop")
        shell.begin_invoke()
        shell.poll_invoke()
        threading.Timer(0.1, site.server.powershell.close).start()
        with pytest.raises(WSManFaultError):
            shell.end_invoke()


# The queue by itself


def fetch(queue, message_id, *, timeout=1.0, room=100):
    return queue.fetch(message_id, timeout, room, lambda batch: batch.data)


def test_queue_keeps_order_and_room():
    queue = OutputQueue(gather=0)
    for number in range(10):
        queue.put(bytes([number]) * 10, 1)
    queue.end()
    answers = [fetch(queue, str(number), room=35) for number in range(4)]
    assert [len(one.answer) for one in answers] == [30, 30, 30, 10]
    assert b"".join(one.answer for one in answers) == b"".join(bytes([number]) * 10 for number in range(10))
    assert [one.batch.is_done for one in answers] == [False, False, False, True]


def test_queue_takes_one_fragment_even_where_none_fits():
    queue = OutputQueue(gather=0)
    queue.put(b"x" * 100, 1)
    assert fetch(queue, "a", room=10).answer == b"x" * 100


def test_queue_tells_the_end_once():
    queue = OutputQueue()
    queue.end()
    assert fetch(queue, "a", room=10).batch.is_done
    assert fetch(queue, "b", timeout=0.01).answer is None


def test_queue_gathers_what_comes_soon():
    queue = OutputQueue(gather=0.5)
    queue.put(b"a", 1)
    threading.Timer(0.05, lambda: queue.put(b"b", 1)).start()
    threading.Timer(0.1, queue.end).start()
    begun = time.monotonic()
    assert fetch(queue, "a", timeout=5).answer == b"ab"
    assert time.monotonic() - begun < 0.4


def test_queue_drops_objects_once_released_but_not_the_last_word():
    queue = OutputQueue(gather=0)
    queue.put(b"object", 1)
    queue.release()
    queue.put(b"object", 1)
    queue.put(b"state")
    assert fetch(queue, "a").answer == b"state"
