"""`python -m bench [SECTION ...]`: run the named sections, or all."""

from __future__ import annotations

import sys
from collections.abc import Callable

from bench import access, sync

SECTIONS: dict[str, Callable[[], None]] = {"sync": sync.main, "access": access.main}


def main() -> None:
    names = [name for argument in sys.argv[1:] for name in argument.split(",") if name] or list(SECTIONS)
    unknown = [name for name in names if name not in SECTIONS]
    if unknown:
        raise SystemExit(f"bench: no section {', '.join(unknown)}. Known: {', '.join(SECTIONS)}.")
    for name in names:
        SECTIONS[name]()


if __name__ == "__main__":
    main()
