"""`python -m lab`: run a lab until it is told to stop (Ctrl-C or SIGTERM)."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import signal
import sys
import threading
from pathlib import Path

from lab.control import Control
from lab.kdc import KdcError
from lab.scenarios import DEFAULT_DEVICES, DEFAULTS, OrganizationSpec, parse
from lab.world import World, read_previous


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m lab", description="A simulated Exchange, Graph and phones on loopback."
    )
    parser.add_argument("--home", type=Path, default=Path("var"), help="where lab.json and the lab's own authority lie")
    parser.add_argument("--seed", type=int, default=1, help="the same seed makes the same people and phones")
    parser.add_argument("--devices", type=int, default=DEFAULT_DEVICES, help="in each of the default organisations")
    parser.add_argument(
        "--organization", action="append", default=[], metavar="name=..,version=..,cas=..,devices=..",
        help="instead of the default three; repeat for several (fields: name tenant version domain cas devices seed "
        "child authentications)",
    )  # fmt: skip
    parser.add_argument("--kerberos", action="store_true", help="with a KDC on loopback (needs krb5-kdc)")
    return parser.parse_args()


def _specifications(options: argparse.Namespace) -> list[OrganizationSpec]:
    if options.organization:
        return [parse(text) for text in options.organization]
    return [dataclasses.replace(specification, devices=options.devices) for specification in DEFAULTS]


def main() -> None:
    options = _arguments()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        specifications = _specifications(options)
        options.home.mkdir(parents=True, exist_ok=True)
    except (ValueError, OSError) as error:
        raise SystemExit(f"lab: {error}") from None
    previous = read_previous(options.home)
    try:
        world = World(options.home.resolve(), options.seed, previous, with_kerberos=options.kerberos)
    except KdcError as error:
        raise SystemExit(f"lab: no Kerberos: {error}") from None
    old = str(previous.get("control", "")).split("/")
    control = Control(world, token=old[3] if len(old) > 4 else "", port=_port(old))
    try:
        _fill(world, specifications)
        control.service.start()
        path = world.write_state(control.url)
        devices = sum(len(o.store.devices) for o in world.organizations)
        print(f"lab ready: {len(world.organizations)} organisations, {devices} devices, see {path}", flush=True)
        stop.wait()
    finally:
        # Connections are daemon threads; nothing here has anything to save.
        world.stop()
    sys.exit(0)


def _fill(world: World, specifications: list[OrganizationSpec]) -> None:
    try:
        for specification in specifications:
            world.add(specification)
        world.start_graph()
    except (ValueError, OSError, KdcError) as error:
        raise SystemExit(f"lab: {error}") from None


def _port(parts: list[str]) -> int:
    """The port of an older control address, split at slashes; 0 when there was none."""
    try:
        return int(parts[2].rsplit(":", 1)[1])
    except (IndexError, ValueError):
        return 0


if __name__ == "__main__":
    main()
