"""Which domain controller a command is written to and read back from: the same one, so that no replication lag lies
between.

A mailbox's is one of its own domain. Settings, rules and policies lie in the forest's configuration, which every domain
controller holds: theirs is the one that showed the settings. Where none is known, and where the account may not name
one, Exchange chooses.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from connectors.exchange.client import ExchangeClient
from connectors.exchange.cmdlets import Identity
from connectors.exchange.errors import BadRequestError, CanceledError, ExchangeError, NotPermittedError

Result = TypeVar("Result")

# As RBAC hides it: Exchange names the parameter that it does not find.
_PARAMETER = "domaincontroller"


@dataclass(frozen=True, slots=True)
class Place:
    """A part of the directory. name "": not one to be remembered. ask: which domain controller showed it just now, ""
    when none is known to be fit; raises ExchangeError."""

    name: str
    ask: Callable[[ExchangeClient], str]


def place_of_mailbox(mailbox: Identity, domain: str) -> Place:
    """Where mailboxes of `domain` lie ("" when that is not known), asked with this one."""
    return Place(domain, lambda client: client.cas_mailbox(mailbox).domain_controller)


def _settings_server(client: ExchangeClient) -> str:
    try:
        return client.organization_settings().originating_server
    except NotPermittedError:
        return ""  # who may not read the settings may change policies nevertheless


# No domain has a space in its name.
CONFIGURATION = Place("the configuration", _settings_server)


class Controllers:
    """Domain controllers found so far, by entry server and place; shared by the threads of one order."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], str] = {}
        self._without: set[tuple[str, str]] = set()
        self._lock = threading.Lock()

    def find(self, client: ExchangeClient, place: Place) -> str:
        """Asked once. "" lets Exchange choose. Raises ExchangeError, NotFoundError above all."""
        key = (client.endpoint.fqdn, place.name)
        with self._lock:
            known = "" if key in self._without else self._known.get(key)
        if known is not None:
            return known
        found = place.ask(client)
        if place.name:
            with self._lock:
                self._known[key] = found
        return found

    def other(self, client: ExchangeClient, place: Place, than: str) -> str:
        """Another one, asked for anew; "" when it is still the same one that answers, or nobody says. Raises
        CanceledError."""
        self.forget(client, place)
        if not than:
            return ""
        try:
            found = self.find(client, place)
        except ExchangeError:
            return ""
        return "" if found.lower() == than.lower() else found

    def forget(self, client: ExchangeClient, place: Place) -> None:
        """It may be what a failure was about."""
        with self._lock:
            self._known.pop((client.endpoint.fqdn, place.name), None)

    def do_without(self, client: ExchangeClient, place: Place) -> None:
        """The account may not name one there."""
        with self._lock:
            self._without.add((client.endpoint.fqdn, place.name))


def write_and_read(
    client: ExchangeClient,
    controllers: Controllers,
    place: Place,
    *,
    write: Callable[[str], object],
    read: Callable[[str], Result],
    unless: tuple[type[ExchangeError], ...] = (),
) -> Result | None:
    """Change something, and read it back, both at one domain controller, which they are handed.

    Written once: a second time only after Exchange said that it did nothing, since it may not be told where, or since
    meanwhile another domain controller answers than the one that was named. unless: errors that say that it may be as
    wanted already. None: it was changed, but the reading failed. Raises ExchangeError, CanceledError.
    """
    controller = controllers.find(client, place)
    try:
        controller = _written(client, controllers, place, controller, write)
    except unless:
        return read_at(controller, read)
    except ExchangeError:
        controllers.forget(client, place)
        raise
    return read_back(lambda: read_at(controller, read))


def _written(
    client: ExchangeClient, controllers: Controllers, place: Place, controller: str, write: Callable[[str], object]
) -> str:
    """Returns where."""
    try:
        write(controller)
        return controller
    except NotPermittedError as error:
        if not controller or not _is_about_naming(error):
            raise
        controllers.do_without(client, place)
        controller = ""
    except BadRequestError as error:
        # What Exchange says of a domain controller that does not answer is not documented; who answers now is known.
        other = controllers.other(client, place, controller) if error.code == BadRequestError.default_code else ""
        if not other:
            raise
        controller = other
    write(controller)
    return controller


def _is_about_naming(error: NotPermittedError) -> bool:
    return error.code == "parameter_not_granted" and _PARAMETER in error.remote_text.lower()


def read_at(controller: str, read: Callable[[str], Result]) -> Result:
    """Read there, or where Exchange chooses when the account may not say where. Raises ExchangeError, CanceledError."""
    try:
        return read(controller)
    except NotPermittedError as error:
        if not controller or not _is_about_naming(error):
            raise
    return read("")


def read_back(read: Callable[[], Result]) -> Result | None:
    """The reading after a command that Exchange completed: that it fails must not look as if the command did."""
    try:
        return read()
    except (ExchangeError, CanceledError):
        return None
