"""How much of an upload is kept: as much as the largest file that is taken, whoever sends it.

Django writes an uploaded file to the disk while the request is read, before any page looks at it, and before it is
known who sends it. What goes beyond the limit is read and thrown away, so that the page can still say how large the
file was, and why it is not taken.
"""

from __future__ import annotations

from typing import Any

from django.core.files.uploadhandler import TemporaryFileUploadHandler

from sync.records.record_csv import BYTE_LIMIT


class BoundedUploadHandler(TemporaryFileUploadHandler):
    """One for each request. The file's size is what was sent, its content at most BYTE_LIMIT of that."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._received = 0

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        self._received += len(raw_data)
        if self._received <= BYTE_LIMIT:
            self.file.write(raw_data)
