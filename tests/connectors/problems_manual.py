"""Writes docs/problems.md from the catalogue: `python -m tests.connectors.problems_manual`."""

from __future__ import annotations

import os
from pathlib import Path

from django.utils import translation

HEAD = """# Problems and what to do

Every run that does not succeed ends with one of these codes. The page of the run shows the same sentences with the
names filled in. This page is made from the catalogue in `connectors/problems/` and checked against it by the tests.

"""


def manual() -> str:
    """The page, in English."""
    from connectors.problems import PROBLEMS, problem

    with translation.override("en"):
        parts = [
            f"## {entry.title}\n\n`{code}`\n\n{entry.happened}\n\n{entry.kept}\n\n**What to do:** {entry.remedy}\n"
            for code, entry in ((code, problem(code)) for code in PROBLEMS)
        ]
    return HEAD + "\n".join(parts)


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "console.settings")
    import django

    django.setup()
    path = Path(__file__).resolve().parents[2] / "docs" / "problems.md"
    path.parent.mkdir(exist_ok=True)
    path.write_text(manual(), encoding="utf-8")
