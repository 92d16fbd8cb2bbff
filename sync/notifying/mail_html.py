"""Clean HTML of a mail as mail programs want it: a styled document, and the same as plain text.

Takes what mail_template.py has cleaned: the few tags it allows, each closed, and no attribute but a link's href. Pure.
"""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser

_FONT = "-apple-system,'Segoe UI',Roboto,'Helvetica Neue','PingFang TC','Microsoft JhengHei','Noto Sans TC',sans-serif"
_LINK = "color:#0f6cbd;text-decoration:underline"
_BUTTON = (
    "display:inline-block;padding:10px 20px;border-radius:4px;background:#0f6cbd;color:#ffffff;font-weight:600;"
    "text-decoration:none"
)
# Programs that read no style sheet read these.
_STYLES = {
    "p": "margin:0 0 16px",
    "h1": "margin:0 0 16px;font-size:22px;line-height:1.3",
    "h2": "margin:0 0 12px;font-size:18px;line-height:1.35",
    "h3": "margin:0 0 8px;font-size:16px",
    "h4": "margin:0 0 8px;font-size:15px",
    "ul": "margin:0 0 16px;padding-left:24px",
    "ol": "margin:0 0 16px;padding-left:24px",
    "li": "margin:0 0 6px",
    "hr": "border:0;border-top:1px solid #d1d1d1;margin:20px 0",
    "blockquote": "margin:0 0 16px;padding-left:12px;border-left:3px solid #d1d1d1",
    "pre": "margin:0 0 16px;white-space:pre-wrap;font-family:Consolas,Menlo,monospace",
    "code": "font-family:Consolas,Menlo,monospace",
}
_DARK = (
    ":root{color-scheme:light dark}@media (prefers-color-scheme:dark){.ground{background:#1f1f1f!important}"
    ".sheet{background:#292929!important;color:#f5f5f5!important}.sheet a{color:#62abf5!important}"
    ".sheet a.button{background:#115ea3!important;color:#ffffff!important}}"
)
_LANGUAGE_TAGS = {"zh-hant": "zh-Hant"}


def document(cleaned: str, subject: str, language: str) -> str:
    """A whole page: one column, readable on a phone, in dark mode, and without any style sheet."""
    return (
        f'<!DOCTYPE html><html lang="{_LANGUAGE_TAGS.get(language, language)}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><meta name="supported-color-schemes" content="light dark">'
        f"<title>{html.escape(subject)}</title><style>{_DARK}</style></head>"
        '<body class="ground" style="margin:0;padding:0;background:#f5f5f5">'
        '<table role="presentation" class="ground" width="100%" cellpadding="0" cellspacing="0" border="0" '
        'style="background:#f5f5f5"><tr><td align="center" style="padding:24px 12px">'
        '<table role="presentation" width="100%" cellpadding="0" cellspacing="0" border="0" style="max-width:600px">'
        '<tr><td class="sheet" align="left" style="padding:28px;border-radius:8px;background:#ffffff;color:#242424;'
        f'font-family:{_FONT};font-size:16px;line-height:1.5;overflow-wrap:break-word;word-break:break-word">{_styled(cleaned)}'
        "</td></tr></table></td></tr></table></body></html>"
    )


def _styled(cleaned: str) -> str:
    # Within clean HTML a "<p>" can be nothing but a tag: in text its bracket is written &lt;.
    for tag, style in _STYLES.items():
        cleaned = cleaned.replace(f"<{tag}>", f'<{tag} style="{style}">')
    paragraph = f'<p style="{_STYLES["p"]}">'
    # A link that is a paragraph by itself is what the mail is about.
    cleaned = re.sub(
        rf'{re.escape(paragraph)}<a href="([^"]*)">((?:(?!</?a\b|</p>).)*)</a></p>',
        rf'{paragraph}<a class="button" style="{_BUTTON}" href="\1">\2</a></p>',
        cleaned,
        flags=re.DOTALL,
    )
    return cleaned.replace("<a href=", f'<a style="{_LINK}" href=')


def plain(cleaned: str) -> str:
    """The same for reading as text: links with their addresses, lists with signs, one blank line between blocks."""
    reader = _Plain()
    reader.feed(cleaned)
    reader.close()
    return reader.text()


class _Plain(HTMLParser):
    _BLOCKS = frozenset({"p", "h1", "h2", "h3", "h4", "pre", "ul", "ol", "blockquote"})

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._lines: list[str] = []
        self._line = ""
        self._marker = ""
        self._lists: list[int | None] = []  # the next number; None: not numbered
        self._quotes = 0
        self._is_kept = False  # within pre
        self._link: tuple[str, int] | None = None

    def text(self) -> str:
        self._end_line()
        joined = "\n".join(line.rstrip() for line in self._lines)
        return re.sub(r"\n{3,}", "\n\n", joined).strip("\n") + "\n"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in self._BLOCKS and not (tag == "p" and self._marker):
            self._end_line()
            if not (tag in ("ul", "ol") and self._lists):
                self._blank()
        if tag in ("ul", "ol"):
            self._lists.append(1 if tag == "ol" else None)
        elif tag == "li":
            self._end_line()
            self._marker = self._next_marker()
        elif tag == "br":
            self._end_line()
        elif tag == "hr":
            self._end_line()
            self._lines += ["", "-" * 20, ""]
        elif tag == "blockquote":
            self._quotes += 1
        elif tag == "pre":
            self._is_kept = True
        elif tag == "a":
            self._link = (dict(attrs).get("href") or "", len(self._line))

    def handle_endtag(self, tag: str) -> None:
        if tag == "a" and self._link is not None:
            address, start = self._link
            shown = address.removeprefix("mailto:").removeprefix("tel:")
            if shown and self._line[start:].strip() != shown:
                self._line += f" <{shown}>"
            self._link = None
        if tag in self._BLOCKS or tag == "li":
            self._end_line()
        if tag in ("ul", "ol") and self._lists:
            self._lists.pop()
        elif tag == "blockquote":
            self._quotes -= 1
            while self._lines and not self._lines[-1].strip("> "):
                self._lines.pop()
        elif tag == "pre":
            self._is_kept = False
        if tag in self._BLOCKS and not self._lists:
            self._blank()

    def handle_data(self, data: str) -> None:
        if self._is_kept:
            *whole, last = data.split("\n")
            for line in whole:
                self._line += line
                self._end_line(is_forced=True)
            self._line += last
            return
        text = re.sub(r"[ \t\r\n]+", " ", data)
        self._line += text.lstrip() if not self._line else text

    def _blank(self) -> None:
        """An empty line, unless there is one or nothing stands above it in this quotation."""
        if self._lines and self._lines[-1].strip("> "):
            self._lines.append(self._lead().rstrip())

    def _next_marker(self) -> str:
        number = self._lists[-1] if self._lists else None
        if number is None:
            return "- "
        self._lists[-1] = number + 1
        return f"{number}. "

    def _lead(self) -> str:
        return "> " * self._quotes + "   " * max(len(self._lists) - bool(self._marker), 0)

    def _end_line(self, *, is_forced: bool = False) -> None:
        if self._line.strip() or self._marker or is_forced:
            self._lines.append(f"{self._lead()}{self._marker}{self._line.rstrip()}")
            self._marker = ""
        self._line = ""
