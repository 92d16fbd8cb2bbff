"""A session command by command: complete or an error, in time, canceled when asked, and nothing left behind."""

from __future__ import annotations

import os
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from connectors.exchange import channel, transport
from connectors.exchange.client import Account, Endpoint, Options
from connectors.exchange.errors import CanceledError, ExchangeError, NotPermittedError, TransientError
from connectors.exchange.session import Session, connect
from tests.connectors.exchange.miniature import (
    FAILED,
    STOPPED,
    Answer,
    Message,
    Miniature,
    Sent,
    answer,
    device,
    error,
    failed,
    message_ids,
    miniature,
    named,
    output,
    state,
    warning,
)

ACCOUNT = Account("CONTOSO\\svc", "sesame", "basic")
QUICK = Options(connect_timeout=2, operation_timeout=1, read_timeout=2, silence=2, deadline=20)
MORE = "There are more results available than are currently displayed. To view them, increase the value for ResultSize."
MICRO = "Micro delay applied. Actual delayed: 400 msecs, Enforced: True"


def plays(*answers: Answer) -> Callable[[Sent], Iterator[Answer]]:
    return lambda sent: iter(answers)


def open_at(server: Miniature, options: Options = QUICK, **more: Any) -> Any:
    return connect(
        Endpoint("ex01.contoso.test", server.port, use_tls=False, address="127.0.0.1"), ACCOUNT, options, **more
    )


def listed(server: Miniature, options: Options = QUICK) -> list[str]:
    with open_at(server, options) as client:
        return [page.parse(wire).device_id for page in client.devices() for wire in page.objects]


def failure(server: Miniature, options: Options = QUICK) -> ExchangeError:
    with pytest.raises(ExchangeError) as caught:
        listed(server, options)
    return caught.value


@pytest.mark.parametrize(
    "answers",
    [
        [answer(device(1), device(2), device(3), state(), is_done=True)],
        [answer(device(1), device(2), device(3), state())],  # nobody promises that Done comes with it
        [answer(device(1)), answer(), answer(device(2)), answer(device(3)), answer(state())],
        [answer(device(1), warning("by the way"), device(2)), answer(device(3), warning(MICRO), state())],
    ],
    ids=["at once", "without Done", "one by one", "with warnings"],
)
def test_a_complete_listing(answers: list[Answer]) -> None:
    with miniature(plays(*answers)) as server:
        assert listed(server) == ["1", "2", "3"]
    assert server.actions[-2:] == ["Signal", "Delete"]


INCOMPLETE: dict[str, tuple[list[Answer], str]] = {
    "truncation warning": ([answer(device(1), warning(MORE), state())], "listing_incomplete"),
    "an error record": ([answer(device(1), error("odd"), device(2), state())], "listing_incomplete"),
    "a known error record": ([answer(device(1), error("AD", "ADTransientException"), state())], "exchange_transient"),
    "failed": ([answer(device(1), failed("AD", "ADTransientException"))], "exchange_transient"),
    "failed without a reason": ([answer(device(1), state(FAILED))], "listing_incomplete"),
    "stopped by somebody": ([answer(device(1), state(STOPPED))], "listing_incomplete"),
    "done without a last word": ([answer(device(1)), answer(is_done=True)], "listing_incomplete"),
    "done with the last objects": ([answer(device(1), is_done=True)], "listing_incomplete"),
    "silence": ([answer(device(1))], "no_answer"),
    "dropped": ([answer(device(1)), answer(drop=True)], "connection_dropped"),
    "not fragments": ([answer(device(1)), answer(payload=b"x" * 30)], "malformed_answer"),
    "a broken object": ([answer(device(1), output("<Obj><MS>"), state())], "malformed_answer"),
    "a broken state": ([answer((state()[0], b"<Obj"))], "malformed_answer"),
    "throttled": (
        [answer(failed("The user load quota of 9 requests per 2 seconds.", "ThrottlingException"))],
        "user_load_quota",
    ),
    "exactly a thousand and a warning we cannot read": (
        [answer(*[device(n) for n in range(1000)], warning("Es gibt weitere Ergebnisse"), state())],
        "listing_incomplete",
    ),
}


@pytest.mark.parametrize(("answers", "code"), INCOMPLETE.values(), ids=INCOMPLETE.keys())
def test_an_incomplete_listing_never_ends_normally(answers: list[Answer], code: str) -> None:
    with miniature(plays(*answers)) as server:
        found = failure(server)
    assert (found.code, found.server, found.cmdlet) == (code, "ex01.contoso.test", "Get-MobileDevice")
    assert server.actions[-1] == "Delete"  # the session is closed whatever happened


def test_what_came_before_the_error_was_given() -> None:
    with miniature(plays(answer(device(1), device(2), error("odd"), state()))) as server, open_at(server) as client:
        pages = client.devices()
        assert len(next(pages).objects) == 2
        with pytest.raises(TransientError):
            next(pages)


def test_a_thousand_without_a_warning_is_a_thousand() -> None:
    with miniature(plays(answer(*[device(n) for n in range(1000)], state()))) as server:
        assert len(listed(server)) == 1000


def test_an_error_ends_the_command_but_not_the_session() -> None:
    """Signal for the command that is left in mid-stream; the next command runs in the same session."""

    def script(sent: Sent) -> Iterator[Answer]:
        if sent.name == "Get-MobileDevice":
            yield answer(device(1), error("odd"))
        else:
            yield answer(output('<Obj RefId="0"><MS><S N="Name">Contoso</S></MS></Obj>'), state())

    with miniature(script) as server, open_at(server) as client:
        with pytest.raises(ExchangeError):
            list(client.devices())
        assert client.organization().name == "Contoso"
    codes = [b"ctrl_c" in body for _, body in server.requests if b"/Signal<" in body]
    assert codes.count(True) == 1
    assert server.actions.count("Create") == 1


def test_a_caller_that_has_enough_leaves_nothing_running() -> None:
    with miniature(plays(answer(device(1)), answer(device(2)))) as server, open_at(server) as client:
        for page in client.devices():
            assert len(page.objects) == 1
            break
    assert b"ctrl_c" in b"".join(body for _, body in server.requests)


def test_a_listing_left_for_another_command_is_ended_first() -> None:
    """Also when nobody closed its iterator; going on with it then is an error, never a short listing."""

    def script(sent: Sent) -> Iterator[Answer]:
        if sent.name == "Get-MobileDevice":
            yield answer(device(1))
            yield answer(device(2), state())
        else:
            yield answer(output('<Obj RefId="0"><MS><S N="Name">Contoso</S></MS></Obj>'), state())

    with miniature(script) as server, open_at(server) as client:
        pages = client.devices()
        next(pages)
        assert client.organization().name == "Contoso"
        with pytest.raises(TransientError) as caught:
            next(pages)
    assert caught.value.code == "listing_incomplete"
    assert [action for action in server.actions if action != "Receive"][-4:] == [
        "Signal",
        "Command",
        "Signal",
        "Delete",
    ]


def test_a_listing_dropped_after_its_session_sends_nothing() -> None:
    with miniature(plays(answer(device(1)), answer(state()))) as server:
        with open_at(server) as client:
            pages = client.devices()
            next(pages)
        count = len(server.requests)
        pages.close()
        assert len(server.requests) == count


def test_throttling_is_counted() -> None:
    with (
        miniature(plays(answer(warning(MICRO), device(1), warning(MICRO), state()))) as server,
        open_at(server) as client,
    ):
        list(client.devices())
        assert (client.throttling.events, client.throttling.seconds) == (2, pytest.approx(0.8))


# What is sent


def test_what_a_listing_sends() -> None:
    with miniature(plays(answer(state()))) as server:
        listed(server)
    assert [sent.name for sent in server.sent] == ["Get-Command", "Set-ADServerSettings", "Get-MobileDevice"]
    assert server.sent[1].commands[0][1] == {"ViewEntireForest": True}
    assert server.sent[2].commands == [("Get-MobileDevice", {"ResultSize": "Unlimited"})]


@pytest.mark.parametrize(
    ("commands", "is_allowed", "expected"),
    [
        (("Get-MobileDevice", "Select-Object", "Set-ADServerSettings"), True, ["Get-MobileDevice", "Select-Object"]),
        (("Get-MobileDevice", "Select-Object", "Set-ADServerSettings"), False, ["Get-MobileDevice"]),
        (("Get-MobileDevice", "Set-ADServerSettings"), True, ["Get-MobileDevice"]),
        (("Get-ActiveSyncDevice", "get-mobiledevice", "Set-ADServerSettings"), True, ["Get-MobileDevice"]),
        (("Get-ActiveSyncDevice", "Set-ADServerSettings"), True, ["Get-ActiveSyncDevice"]),
    ],
)
def test_only_what_was_seen_is_used(commands: tuple[str, ...], is_allowed: bool, expected: list[str]) -> None:
    options = Options(operation_timeout=1, read_timeout=2, select_properties=is_allowed)
    with miniature(plays(answer(state())), commands=commands) as server:
        listed(server, options)
    assert [name for name, _ in server.sent[-1].commands] == expected
    if expected[-1] == "Select-Object":
        assert "Guid" in server.sent[-1].commands[-1][1]["Property"]


@pytest.mark.parametrize("commands", [("Get-ExchangeServer",), ()])
def test_an_account_without_the_commands(commands: tuple[str, ...]) -> None:
    with miniature(commands=commands) as server:
        found = failure(server)
    assert isinstance(found, NotPermittedError)
    assert (found.code, found.cmdlet) == ("cmdlet_not_granted", "Get-MobileDevice")


NOT_THERE = ("is not recognized", "CommandNotFoundException", "CommandNotFoundException,X")


class Probed(Miniature):
    """Get-Command with its error records: one for each name, or for the first alone; or no Get-Command at all."""

    stops_at_first = False
    is_hidden = False

    def _run(self, sent: Sent) -> Iterator[Answer]:
        if sent.name != "Get-Command":
            yield from super()._run(sent)
            return
        if self.is_hidden:
            yield answer(failed(*NOT_THERE))
            return
        found: list[Message] = []
        for name in sent.commands[0][1]["Name"]:
            if name in self.commands:
                found.append(named(name))
            else:
                found.append(error(*NOT_THERE))
                if self.stops_at_first:
                    break
        yield answer(*found, state())


@pytest.mark.parametrize("stops_at_first", [False, True])
def test_a_missing_name_is_no_failure_of_the_probe(stops_at_first: bool) -> None:
    commands = ("Get-MobileDevice", "Set-ADServerSettings", "Select-Object")
    with miniature(plays(answer(device(1), state())), commands=commands) as server:
        server.__class__ = type("One", (Probed,), {"stops_at_first": stops_at_first})
        with open_at(server) as client:
            assert client.granted == set(commands)
    assert (server.actions.count("Command") == 2) is not stops_at_first


@pytest.mark.parametrize(
    ("version", "cmdlet"),
    [("Version 14.3 (Build 123.4)", "Get-ActiveSyncDevice"), ("Version 15.1 (Build 2507.6)", "Get-MobileDevice")],
)
def test_without_get_command_the_version_decides(version: str, cmdlet: str) -> None:
    exchange_server = output(
        '<Obj RefId="0"><MS><S N="Name">EX01</S><S N="Fqdn">ex01.contoso.test</S>'
        f'<S N="AdminDisplayVersion">{version}</S><B N="IsClientAccessServer">true</B></MS></Obj>'
    )

    def script(sent: Sent) -> Iterator[Answer]:
        yield answer(exchange_server if sent.name == "Get-ExchangeServer" else device(1), state())

    with miniature(script) as server:
        server.__class__ = type("One", (Probed,), {"is_hidden": True})
        assert listed(server) == ["1"]
    assert [name for name, _ in server.sent[-1].commands] == [cmdlet]


def test_a_filter_goes_out_as_a_parameter() -> None:
    with miniature(plays(answer(state()))) as server, open_at(server) as client:
        list(client.devices(filter="DeviceAccessState -eq 'Quarantined'"))
    assert server.sent[-1].commands[0][1]["Filter"] == "DeviceAccessState -eq 'Quarantined'"


# Time


def test_silence_ends_a_command_though_the_server_answers_politely() -> None:
    started = time.monotonic()
    with miniature(lambda sent: (answer(wait=0.3) for _ in iter(int, 1))) as server:
        assert failure(server, Options(operation_timeout=1, read_timeout=2, silence=1)).code == "no_answer"
    assert time.monotonic() - started < 5


def test_the_callers_own_time_is_no_silence() -> None:
    with (
        miniature(plays(answer(device(1)), answer(), answer(device(2)), answer(state()))) as server,
        open_at(server, Options(operation_timeout=1, read_timeout=2, silence=0.5)) as client,
    ):
        seen = 0
        for page in client.devices():
            seen += len(page.objects)
            time.sleep(0.7)
    assert seen == 2


def test_the_deadline_ends_a_command_that_never_falls_silent() -> None:
    with miniature(lambda sent: (answer(device(1), wait=0.05) for _ in iter(int, 1))) as server:
        found = failure(server, Options(operation_timeout=1, read_timeout=2, silence=5, deadline=0.5))
    assert found.code == "deadline_exceeded"


def test_a_receive_is_sent_again_byte_for_byte_after_a_read_timeout() -> None:
    """The server may have lost the answer with the connection; it must get the chance to give it again."""
    with miniature(plays(answer(device(1)), answer(wait=1.6), answer(device(2), state()))) as server:
        assert listed(server, Options(operation_timeout=1, read_timeout=1.2, silence=10)) == ["1", "2"]  # type: ignore[arg-type]
    ids = message_ids(server, "Receive")
    assert len(ids) == len(set(ids)) + 1


def test_a_hanging_receive_ends_at_the_limit_of_silence() -> None:
    started = time.monotonic()
    with miniature(plays(answer(device(1)), answer(wait=30))) as server:
        assert failure(server, Options(operation_timeout=1, read_timeout=2, silence=1.5)).code == "no_answer"
    assert time.monotonic() - started < 6


@pytest.mark.parametrize("wait", [0.0, 30.0], ids=["between polls", "while the server is silent"])
def test_cancel(wait: float) -> None:
    wants_stop = threading.Event()
    started = time.monotonic()
    with miniature(plays(answer(device(1)), *[answer(wait=wait) for _ in range(500)])) as server:
        with open_at(server, Options(), should_stop=wants_stop.is_set) as client:
            pages = client.devices()
            next(pages)
            threading.Timer(0.3, wants_stop.set).start()
            with pytest.raises(CanceledError):
                next(pages)
        assert time.monotonic() - started < 4
    assert server.actions[-1] == "Delete"  # a canceled session gives its shell back


def test_cancel_before_it_begins() -> None:
    with miniature() as server, pytest.raises(CanceledError), open_at(server, should_stop=lambda: True):
        pass
    assert server.actions == []


def test_a_pause_makes_a_fresh_connection_for_the_same_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "IDLE_RESET", 0.05)
    with miniature(plays(answer(device(1)), answer(state()))) as server, open_at(server) as client:
        for _ in client.devices():
            time.sleep(0.1)
    assert server.actions.count("Create") == 1
    assert len({connection for connection, _ in server.requests}) >= 2


# One thread, one process


def test_another_thread_is_refused() -> None:
    with miniature(plays(answer(state()))) as server, open_at(server) as client:
        caught: list[BaseException] = []

        def use() -> None:
            try:
                list(client.devices())
            except BaseException as found:
                caught.append(found)

        thread = threading.Thread(target=use)
        thread.start()
        thread.join(5)
        assert isinstance(caught[0], RuntimeError)
        assert list(client.devices()) == []  # its own thread may go on


def test_a_forked_child_is_refused() -> None:
    with miniature(plays(answer(state()))) as server, open_at(server) as client:
        child = os.fork()
        if child == 0:
            try:
                list(client.devices())
            except RuntimeError:
                os._exit(7)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert list(client.devices()) == []


# Opening and closing


def test_opening_fails_half_way_and_gives_the_shell_back() -> None:
    from psrpcore.types import PSRPMessageType

    broken = (PSRPMessageType.RunspacePoolState, b'<Obj RefId="0"><MS><I32 N="RunspaceState">5</I32></MS></Obj>')
    with miniature(on_open=[broken]) as server:
        found = failure(server)
    assert found.code == "pool_broken"
    assert server.actions[-1] == "Delete"


def test_closing_never_raises(caplog: pytest.LogCaptureFixture) -> None:
    with miniature(plays(answer(state()))) as server:
        opened = open_at(server)
        client = opened.__enter__()
        assert list(client.devices()) == []
        server.respond = lambda body: None  # type: ignore[method-assign] # from now on connections are dropped
        opened.__exit__(None, None, None)


def test_memory_stays_flat() -> None:
    """Twenty times the objects, the same peak: nothing that came is kept."""

    def peak(count: int) -> int:
        text = "x" * 2000
        guid = "00000000-0000-0000-0000-{:012}"
        objects = [
            output(f'<Obj RefId="0"><MS><G N="Guid">{guid.format(n)}</G><S N="Identity">{text}</S></MS></Obj>')
            for n in range(50)
        ]
        pages = plays(*[answer(*objects)] * count, answer(state()))
        with miniature(pages) as server, open_at(server) as client:
            tracemalloc.start()
            for page in client.devices():
                for wire in page.objects:
                    page.parse(wire)
            server.requests.clear()
            result = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        return result

    peak(2)
    assert peak(60) < peak(3) * 1.6


def test_a_session_shows_its_server_and_nothing_else() -> None:
    assert repr(Session(Endpoint("ex01", 80, use_tls=False), ACCOUNT, QUICK)) == "Session(ex01)"
    assert channel.LEAVE <= 5
