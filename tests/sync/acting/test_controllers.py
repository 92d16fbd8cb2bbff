"""One domain controller for writing and reading back, in a forest of two that lag behind each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from connectors.exchange.client import Endpoint, ExchangeClient
from connectors.exchange.errors import (
    BadRequestError,
    ExchangeError,
    NotFoundError,
    NotPermittedError,
    OutcomeUnknownError,
    TransientError,
)
from connectors.exchange.records import ActiveSyncOrganizationSettingsRecord
from sync.acting.controllers import CONFIGURATION, Controllers, place_of_mailbox, write_and_read
from sync.acting.deeds import OrganizationSettings, RuleCreate, RuleRemove
from tests.sync.act_fakes import cas_mailbox, guid_of

ONE, TWO = "dc01.contoso.com", "dc02.contoso.com"


def hidden(parameter: str) -> NotPermittedError:
    text = f"A parameter cannot be found that matches parameter name '{parameter}'."
    return NotPermittedError("no such parameter", code="parameter_not_granted", remote_text=text)


@dataclass
class Forest:
    """Two domain controllers that hold the default level each by itself: nothing ever replicates. nearest: the one
    that Exchange chooses. As an ExchangeClient, as far as settings and one mailbox go."""

    levels: dict[str, str] = field(default_factory=lambda: {ONE: "Quarantine", TWO: "Quarantine"})
    nearest: str = ONE
    down: set[str] = field(default_factory=set)
    fails: list[ExchangeError] = field(default_factory=list)  # at the next writes, one each
    hides_writing: bool = False
    hides_reading: bool = False
    hides_settings: bool = False
    asked: int = 0  # which domain controller there is
    wrote: list[str] = field(default_factory=list)
    endpoint = Endpoint("ex01.contoso.com", 443, use_tls=True)

    def _at(self, controller: str, *, is_hidden: bool) -> str:
        if controller and is_hidden:
            raise hidden("DomainController")
        chosen = controller or self.nearest
        if chosen in self.down:
            raise BadRequestError(f"{chosen} is not available")
        return chosen

    def organization_settings(self, *, domain_controller: str = "") -> ActiveSyncOrganizationSettingsRecord:
        self.asked += not domain_controller
        if self.hides_settings:
            raise NotPermittedError("no such command")
        there = self._at(domain_controller, is_hidden=self.hides_reading)
        return ActiveSyncOrganizationSettingsRecord(self.levels[there], "", (), there)

    def set_organization_settings(self, *, default_access_level: str, domain_controller: str, **_: Any) -> None:
        self.wrote.append(domain_controller)
        there = self._at(domain_controller, is_hidden=self.hides_writing)
        if self.fails:
            raise self.fails.pop(0)
        self.levels[there] = default_access_level

    def cas_mailbox(self, identity: str, *, domain_controller: str = "") -> Any:
        self.asked += not domain_controller
        return cas_mailbox(0, originating_server=self.nearest)

    def device_access_rules(self, *, domain_controller: str = "") -> tuple[Any, ...]:
        self._at(domain_controller, is_hidden=self.hides_reading)
        return ()

    def device_access_rule_create(self, **values: Any) -> None:
        self.wrote.append(values["domain_controller"])

    def device_access_rule_remove(self, identity: str, *, domain_controller: str) -> None:
        self.wrote.append(domain_controller)
        raise NotFoundError("no such rule")


DEED = OrganizationSettings(default_level="block")


def send(forest: Forest, controllers: Controllers, deed: Any = DEED) -> Any:
    return deed.send(cast("ExchangeClient", forest), controllers)


def test_written_and_read_back_at_the_one_that_showed_the_settings() -> None:
    forest, controllers = Forest(nearest=TWO), Controllers()
    reading = send(forest, controllers)
    forest.nearest = ONE  # what Exchange would choose now has not heard of it
    assert (forest.wrote, reading.controller, DEED.is_done(reading)) == ([TWO], TWO, True)
    assert not DEED.is_done(DEED.read(cast("ExchangeClient", forest)))
    # Asked once for all that lies in the configuration: settings and rules go to one and the same.
    asked = forest.asked
    send(forest, controllers, RuleCreate("DeviceModel", "iPhone 3G", "block"))
    assert (forest.wrote, forest.asked) == ([TWO, TWO], asked)


def test_a_rule_that_is_not_there_is_looked_for_where_it_was_to_be_removed() -> None:
    forest, deed = Forest(nearest=TWO), RuleRemove("DeviceModel", "iPhone 3G", "block", "iPhone 3G (DeviceModel)")
    reading = send(forest, Controllers(), deed)
    assert (reading.controller, deed.is_done(reading)) == (TWO, True)


def test_where_the_account_may_not_name_one_exchange_chooses() -> None:
    forest, controllers = Forest(hides_writing=True, hides_reading=True), Controllers()
    reading = send(forest, controllers)
    assert (forest.wrote, reading.controller, DEED.is_done(reading)) == ([ONE, ""], "", True)
    send(forest, controllers)
    assert forest.wrote == [ONE, "", ""]  # and is not asked for what it refused once


def test_only_reading_hides_it() -> None:
    forest = Forest(hides_reading=True)
    reading = send(forest, Controllers())
    assert (forest.wrote, reading.controller, DEED.is_done(reading)) == ([ONE], "", True)


def test_a_refusal_of_another_parameter_is_no_reason_to_write_elsewhere() -> None:
    forest = Forest(fails=[hidden("DefaultAccessLevel")])
    with pytest.raises(NotPermittedError):
        send(forest, Controllers())
    assert forest.wrote == [ONE]


def test_who_may_not_read_the_settings_writes_where_exchange_chooses() -> None:
    forest, controllers = Forest(hides_settings=True), Controllers()
    assert controllers.find(cast("ExchangeClient", forest), CONFIGURATION) == ""


def test_one_that_does_not_answer_any_more_is_left_for_the_one_that_does() -> None:
    forest, controllers = Forest(), Controllers()
    send(forest, controllers)
    forest.down, forest.nearest = {ONE}, TWO
    reading = send(forest, controllers)
    assert (forest.wrote, reading.controller) == ([ONE, ONE, TWO], TWO)
    assert forest.levels[TWO] == "Block"
    send(forest, controllers)
    assert forest.wrote[3:] == [TWO]


def test_a_refusal_while_the_same_one_answers_is_believed() -> None:
    forest = Forest(fails=[BadRequestError("not allowed here")])
    with pytest.raises(BadRequestError):
        send(forest, Controllers())
    assert forest.wrote == [ONE]


@pytest.mark.parametrize("nearest", [ONE, TWO])
def test_a_value_that_was_refused_is_not_sent_elsewhere(nearest: str) -> None:
    forest, controllers = Forest(fails=[BadRequestError("refused", code="argument_refused")]), Controllers()
    controllers.find(cast("ExchangeClient", forest), CONFIGURATION)
    forest.nearest = nearest
    with pytest.raises(BadRequestError):
        send(forest, controllers)
    assert forest.wrote == [ONE]


@pytest.mark.parametrize("error", [TransientError("lost"), OutcomeUnknownError("no answer came")])
def test_any_other_failure_makes_it_ask_again(error: ExchangeError) -> None:
    forest, controllers = Forest(fails=[error]), Controllers()
    controllers.find(cast("ExchangeClient", forest), CONFIGURATION)
    forest.nearest = TWO
    with pytest.raises(type(error)):
        send(forest, controllers)
    assert forest.wrote == [ONE]  # never twice
    send(forest, controllers)
    assert forest.wrote == [ONE, TWO]


def test_a_mailbox_of_a_domain_that_is_not_known_is_asked_for_each_time() -> None:
    forest, controllers = Forest(), Controllers()
    client, mailbox = cast("ExchangeClient", forest), cast("Any", str(guid_of(0)))
    for domain, asked in (("contoso.com", 1), ("contoso.com", 1), ("", 2), ("", 3)):
        assert controllers.find(client, place_of_mailbox(mailbox, domain)) == ONE
        assert forest.asked == asked


def test_a_reading_that_fails_does_not_look_as_if_the_command_did() -> None:
    forest = Forest()
    done: list[str] = []

    def read(controller: str) -> str:
        raise TransientError("lost")

    write: Callable[[str], None] = done.append
    found = write_and_read(cast("ExchangeClient", forest), Controllers(), CONFIGURATION, write=write, read=read)
    assert (done, found) == ([ONE], None)
