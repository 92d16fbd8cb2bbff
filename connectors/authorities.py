"""An organization's own authorities as a file: the libraries that check certificates take them from one."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def authority_file(pem: str) -> Iterator[str | None]:
    """A file with the certificates for as long as the context lasts; None, the system's authorities, for ""."""
    if not pem:
        yield None
        return
    with tempfile.NamedTemporaryFile("w", prefix="gatehouse-ca-", suffix=".pem", encoding="ascii") as file:
        file.write(pem)
        file.flush()
        yield file.name
