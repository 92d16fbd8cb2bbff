"""The Traditional Chinese translation: whole, in step with the sources and with its compiled form, placeholders kept.

The texts are collected here without the gettext tools, so that this runs wherever the suite does.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import polib
import pytest
from django.conf import settings
from django.utils import translation
from django.utils.translation.template import templatize

from connectors.problems import PROBLEMS, problem
from sync.models import SyncRun
from sync.narrative import SENTENCES

ROOT = Path(settings.BASE_DIR)
FILES = ROOT / "locale" / "zh_Hant" / "LC_MESSAGES"
PYTHON = [path for folder in ("console", "connectors", "sync") for path in sorted((ROOT / folder).rglob("*.py"))]
TEMPLATES = sorted((ROOT / "templates").rglob("*.html"))

# name of the function: (position of the text, of its plural, of its context)
FUNCTIONS: dict[str, tuple[int, int | None, int | None]] = {
    "_": (0, None, None),
    "gettext": (0, None, None),
    "gettext_lazy": (0, None, None),
    "gettext_noop": (0, None, None),
    "ngettext": (0, 1, None),
    "ngettext_lazy": (0, 1, None),
    "pgettext": (1, None, 0),
    "pgettext_lazy": (1, None, 0),
    "npgettext": (1, 2, 0),
}
PLACEHOLDER = re.compile(r"%(?:\((\w+)\))?[-+ #0]*\d*(?:\.\d+)?([a-zA-Z%])")
LITERAL = r"u?(?:'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")"
IN_TEMPLATE = re.compile(rf"\b(_|[np]*gettext)\(\s*({LITERAL})(?:\s*,\s*({LITERAL}))?(?:\s*,\s*({LITERAL}))?")

Message = tuple[str | None, str]


def _in_python(path: Path) -> set[Message]:
    found: set[Message] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS:
            text, _plural, context = FUNCTIONS[node.func.id]
            values = [argument.value if isinstance(argument, ast.Constant) else None for argument in node.args]
            if isinstance(message := values[text], str):
                found.add((None if context is None else str(values[context]), message))
    return found


def _in_template(path: Path) -> set[Message]:
    found: set[Message] = set()
    for match in IN_TEMPLATE.finditer(templatize(path.read_text(encoding="utf-8"), origin=str(path))):
        values = [ast.literal_eval(group) for group in match.groups()[1:] if group]
        text, _plural, context = FUNCTIONS[match[1]]
        found.add((None if context is None else values[context], values[text]))
    return found


@pytest.fixture(scope="module")
def catalogue() -> polib.POFile:
    return polib.pofile(str(FILES / "django.po"))


def test_every_text_of_the_sources_is_there_and_none_besides(catalogue: polib.POFile) -> None:
    wanted = set().union(*(_in_python(path) for path in PYTHON), *(_in_template(path) for path in TEMPLATES))
    assert len(wanted) > 400  # else the collecting is broken, not the translation
    known = {(entry.msgctxt, entry.msgid) for entry in catalogue}
    assert (sorted(map(str, wanted - known)), sorted(map(str, known - wanted))) == ([], []), "make messages"


def test_every_text_is_translated_and_none_is_a_guess(catalogue: polib.POFile) -> None:
    assert [entry.msgid for entry in catalogue if not entry.translated()] == []
    assert [entry.msgid for entry in catalogue if entry.fuzzy] == []
    assert [entry.msgid for entry in catalogue.obsolete_entries()] == []


def _placeholders(text: str) -> set[tuple[str, str]]:
    return set(PLACEHOLDER.findall(text))


def test_each_placeholder_is_kept(catalogue: polib.POFile) -> None:
    wrong = []
    for entry in catalogue:
        wanted = _placeholders(entry.msgid) | _placeholders(entry.msgid_plural)
        for text in (entry.msgstr, *entry.msgstr_plural.values()):
            if text and _placeholders(text) != wanted:
                wrong.append((entry.msgid, text))
    assert wrong == []


def test_what_an_administrator_types_is_left_as_it_is(catalogue: polib.POFile) -> None:
    """Names of commands, parameters, settings and paths must not be translated, or the remedy does not work."""
    typed = re.compile(
        r"\b(?:[A-Z][a-z]+-[A-Z]\w+|GATEHOUSE_\w+|REDIS_URL|MSExchange\w+|PowerShellM\w+|manage\.py \w+)\b"
    )
    lost = [
        (name, entry.msgid) for entry in catalogue for name in typed.findall(entry.msgid)
        if name not in entry.msgstr and name not in "".join(entry.msgstr_plural.values())
    ]  # fmt: skip
    assert lost == []


def test_the_compiled_form_is_of_this_text(catalogue: polib.POFile) -> None:
    compiled = polib.mofile(str(FILES / "django.mo"))

    def content(entries: list[polib.POEntry]) -> dict[Message, tuple[str, ...]]:
        return {(e.msgctxt, e.msgid): (e.msgstr, *(e.msgstr_plural.values())) for e in entries}

    assert content(list(compiled)) == content(list(catalogue)), "make messages"


@pytest.mark.parametrize("code", sorted(PROBLEMS))
def test_each_problem_reads_in_chinese(code: str) -> None:
    with translation.override("zh-hant"):
        said = problem(code, {"server": "ex01.contoso.com", "cmdlet": "Get-MobileDevice"})
    for part in (said.title, said.happened, said.kept, said.remedy):
        assert re.search(r"[\u4e00-\u9fff]", part)
        assert "%(" not in part


def test_choices_and_stories_read_in_chinese() -> None:
    with translation.override("zh-hant"):
        words = [str(label) for choices in (SyncRun.Status, SyncRun.Phase, SyncRun.Kind) for label in choices.labels]
        words += [str(sentence) for sentence in SENTENCES.values()]
    assert [word for word in words if not re.search(r"[\u4e00-\u9fff]", word)] == []
