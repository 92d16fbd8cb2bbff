"""Where results go: printed, into GATEHOUSE_HOME/bench.json, and into the marked block of docs/performance.md."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any

from bench.children import ROOT

PAGE = ROOT / "docs" / "performance.md"


def results_file() -> Path:
    return Path(os.environ.get("GATEHOUSE_HOME", ROOT / "var")).expanduser() / "bench.json"


def publish(section: str, results: dict[str, float], lines: list[str]) -> None:
    """Print `lines`, merge `results` by key into the JSON file, and renew the section's block of the page."""
    text = "\n".join(lines)
    print(text, flush=True)
    path = results_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    merged: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    merged.update({key: round(value, 3) for key, value in results.items()})
    path.write_text(json.dumps(merged, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    begin, end = f"<!-- bench:{section} -->", f"<!-- /bench:{section} -->"
    page = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    if begin in page and end in page:
        head, rest = page.split(begin, 1)
        tail = rest.split(end, 1)[1]
        PAGE.write_text(f"{head}{begin}\n\n{text}\n\n{end}{tail}", encoding="utf-8")


def machine() -> str:
    return f"{os.cpu_count()} cores, CPython {platform.python_version()}, {platform.system()} {platform.machine()}"
