"""The mail template engine: what is wrong is named, values come out as text, links lead where they may."""

from __future__ import annotations

import html
import re
import time
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync.notifying.mail_template import (
    KINDS,
    LANGUAGES,
    PLACEHOLDERS,
    MailTemplate,
    TemplateProblem,
    default_template,
    known_language,
    reason_text,
    render,
    trial_mail,
    validate,
)

LINK = "https://enrol.contoso.test/start?tenant=1&way=mail"
VALUES = {
    "person": "Zoë Smith", "person_first_name": "Zoë", "mailbox": "zoe@contoso.test", "device": "Zoë’s 手機",
    "device_model": "Pixel 8", "device_os": "Android 15", "device_id": "SEC_1_2", "organization": "Contoso",
    "enrollment_link": LINK, "help_contact": "help@contoso.test", "date": "2026-11-27",
}  # fmt: skip
HOSTILE = (
    "<script>alert(1)</script>",
    "[x](javascript:alert(1))",
    "**bold** _em_ `code` # head",
    '"><img src=x onerror=alert(1)>',
    "{{person}} {{enrollment_link}}",
    "a & b &lt; c",
    "<a href='https://evil.test'>x</a>",
    "placeholder1end",
)


class Inner(HTMLParser):
    """Tags with their attributes, and the text, of what stands within the sheet."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(re.sub(r"^.*?<td class=\"sheet\"[^>]*>|</td></tr></table></td></tr></table></body></html>$", "",
                         document, flags=re.DOTALL))  # fmt: skip
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data


def codes(template: MailTemplate) -> list[str]:
    return [problem.code for problem in validate(template)]


# --- checking ---------------------------------------------------------------------------------------------------

OK = "Go to {{enrollment_link}}"
PROBLEMS: dict[str, tuple[str, str, list[TemplateProblem]]] = {
    "nothing wrong": ("Hello {{person}}", OK, []),
    "unknown, with a suggestion": (
        "x", f"Dear\n\n{{{{ persn }}}}, {OK}",
        [TemplateProblem("unknown_placeholder", "body", 3, 1, "persn", "person")]),
    "unknown, as other systems write it": (
        "x", f"{{{{Device Model}}}} {OK}",
        [TemplateProblem("unknown_placeholder", "body", 1, 1, "Device Model", "device_model")]),
    "unknown, and like nothing": (
        "{{qqq}}", OK, [TemplateProblem("unknown_placeholder", "subject", 1, 1, "qqq", "")]),
    "not closed": (
        "x", f"{OK}\nDear {{{{person", [TemplateProblem("malformed_placeholder", "body", 2, 6, "{{person")]),
    "not opened": (
        "x", f"{OK}\nperson}}}}", [TemplateProblem("malformed_placeholder", "body", 2, 1, "person}}")]),
    "over two lines": (
        "x", f"{OK} {{{{per\nson}}}}", [TemplateProblem("malformed_placeholder", "body", 1, 27, "{{per\nson}}")]),
    "no name": ("x", f"{OK} {{{{ }}}}", [TemplateProblem("malformed_placeholder", "body", 1, 27, "{{ }}")]),
    "no subject": (" ", OK, [TemplateProblem("empty", "subject")]),
    "no text": ("x", "\n", [TemplateProblem("empty", "body")]),
    "a subject of two lines": ("a\nb", OK, [TemplateProblem("several_lines", "subject")]),
    "too long a subject": ("x" * 201, OK, [TemplateProblem("too_long", "subject", name="200")]),
    "too long": ("x", OK + "x" * 20_000, [TemplateProblem("too_long", "body", name="20000")]),
    "a script": (
        "x", f"{OK}\n\n<script>x</script>",
        [TemplateProblem("html_removed", "body", 3, 1, "script", is_error=False)]),
    "an attribute": (
        "x", f"{OK} <b onclick='x'>b</b>",
        [TemplateProblem("html_removed", "body", 1, 27, "b onclick", is_error=False)]),
    "a picture": (
        "x", f"{OK} ![logo](https://x.test/l.png)",
        [TemplateProblem("html_removed", "body", 1, 27, "img", is_error=False)]),
    "a link that runs": (
        "x", f"{OK} [go](javascript:alert(1))",
        [TemplateProblem("link_removed", "body", 1, 32, "javascript:alert(1)", is_error=False)]),
    "a link to nowhere": (
        "x", f"{OK} [go](page.html)", [TemplateProblem("link_removed", "body", 1, 32, "page.html", is_error=False)]),
    "no link to enroll": ("x", "Hello", [TemplateProblem("missing_link", "body", is_error=False)]),
}  # fmt: skip


@pytest.mark.parametrize("case", PROBLEMS.values(), ids=PROBLEMS.keys())
def test_problems(case: tuple[str, str, list[TemplateProblem]]) -> None:
    subject, body, expected = case
    assert list(validate(MailTemplate(subject, body))) == expected


def test_links_that_may_be_are_not_reported() -> None:
    body = "[a](https://x.test) [b]({{enrollment_link}}) [c](mailto:a@b.test) [d](tel:123) <http://y.test>"
    assert codes(MailTemplate("x", body)) == []


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_built_in_texts_are_right(language: str, kind: str) -> None:
    template = default_template(kind, language)
    assert validate(template) == ()
    assert template != default_template(kind, "en" if language != "en" else "zh-hant")


LONG = 20_000
LONG_BODIES = {
    "a placeholder that does not end": "{{" + " " * LONG,
    "one over many lines": "{{" + "\n" * LONG,
    "many that do not end": "{{ " * LONG,
    "a tag that does not begin": "<div>\n<" + " " * LONG,
    "tags that do not begin": "<div>\n" + "< " * LONG,
    "an attribute without end": "<b " + "a" * LONG + ">",
    "brackets": "[" * LONG,
    "pictures": "![" * LONG,
    "emphasis": "*a_" * LONG,
    "what stands for a placeholder": "placeholder" + "x" * (LONG // 2) + "{{date}}" * LONG,
    "links without end": "<a href='{{date}}'>" * LONG,
}


@pytest.mark.parametrize("body", LONG_BODIES.values(), ids=LONG_BODIES)
def test_no_text_takes_long(body: str) -> None:
    """Whoever may see the preview may send it any text."""
    template = MailTemplate("{{" + " " * LONG, body[:LONG])
    started = time.process_time()
    validate(template)
    render(template, {"date": "2026-11-27"})
    assert time.process_time() - started < 2


# --- rendering --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_built_in_mail(language: str, kind: str) -> None:
    mail = render(default_template(kind, language), VALUES, language)
    links = [attributes["href"] for tag, attributes in Inner(mail.html).tags if tag == "a"]
    assert links.count(LINK) == 2
    assert mail.text.count(LINK) == 2
    for shown in ("Zoë’s 手機", "help@contoso.test", "SEC_1_2", "Pixel 8"):
        assert shown in html.unescape(mail.html)
        assert shown in mail.text
    assert "{{" not in mail.html + mail.text + mail.subject
    assert f'lang="{ {"zh-hant": "zh-Hant"}.get(language, language) }"' in mail.html
    assert "prefers-color-scheme" in mail.html


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_is_not_known_is_worded(language: str) -> None:
    mail = render(default_template("denied", language), {"enrollment_link": LINK}, language)
    assert "{{" not in mail.text
    assert {"en": "Your phone", "zh-hant": "您的手機"}[language] in mail.text


@pytest.mark.parametrize("name", PLACEHOLDERS)
def test_every_placeholder_is_filled(name: str) -> None:
    mail = render(MailTemplate(f"{{{{{name}}}}}", f"{{{{ {name} }}}}"), {name: "42"})
    assert (mail.subject, mail.text) == ("42", "42\n")


@pytest.mark.parametrize("value", HOSTILE)
def test_a_value_comes_out_as_text(value: str) -> None:
    mail = render(MailTemplate("About {{device}}", "# {{device}}\n\n**{{device}}** `{{device}}` <i>{{device}}</i>\n"),
                  {"device": value})  # fmt: skip
    found = Inner(mail.html)
    assert [tag for tag, _ in found.tags] == ["h1", "p", "strong", "code", "i"]
    assert found.words.count(value) == 4
    assert mail.text.count(value) == 4
    assert mail.subject == f"About {value}"


def test_a_value_that_is_the_address_of_a_link() -> None:
    body = "[1]({{device}}) <a href={{device}}>2</a> [3](https://x.test/?id={{device}}) [4]({{enrollment_link}})"
    mail = render(MailTemplate("x", body), {"device": "javascript:alert(1) ' onclick=x", "enrollment_link": LINK})
    found = [attributes for tag, attributes in Inner(mail.html).tags if tag == "a"]
    assert [one.get("href") for one in found] == [
        None, None, "https://x.test/?id=javascript%3Aalert%281%29%20%27%20onclick%3Dx", LINK,
    ]  # fmt: skip
    assert all(set(one) <= {"href", "style", "class"} for one in found)


ADDRESSES = {
    "a page": (LINK, LINK),
    "a mailbox": ("help@contoso.test", "mailto:help@contoso.test"),
    "a script": ("javascript:alert(1)", None),
    "words": ("your help desk", None),
    "a name alone": ("enrol.contoso.test", None),
    "nobody": ("https://", None),
}


@pytest.mark.parametrize("case", ADDRESSES.values(), ids=ADDRESSES.keys())
def test_an_address_in_the_text_becomes_a_link(case: tuple[str, str | None]) -> None:
    value, expected = case
    mail = render(MailTemplate("x", "Ask {{help_contact}}."), {"help_contact": value})
    links = [attributes["href"] for tag, attributes in Inner(mail.html).tags if tag == "a"]
    assert links == ([expected] if expected else [])
    assert mail.text == f"Ask {value}.\n"


def test_an_address_within_a_link_stays_one_link() -> None:
    for body in ("[{{enrollment_link}}]({{enrollment_link}})", "<a href='{{enrollment_link}}'>{{enrollment_link}}</a>"):
        mail = render(MailTemplate("x", body), VALUES)
        assert [attributes["href"] for tag, attributes in Inner(mail.html).tags if tag == "a"] == [LINK]
        assert mail.text == f"{LINK}\n"


def test_html_of_the_template_is_cleaned() -> None:
    body = "Hi\n<script>alert(1)</script>\n\n<style>p{}</style><iframe src=x></iframe><b style='x' onclick=y>bold</b>\n"
    mail = render(MailTemplate("x", body), {})
    assert {tag for tag, _ in Inner(mail.html).tags} == {"p", "b"}
    assert "alert" not in mail.html
    assert "alert" not in mail.text
    assert "onclick" not in mail.html


def test_text_is_readable() -> None:
    body = (
        "# Head\n\nOne\ntwo **strong** [go](https://x.test)\n\n1. first\n2. second\n   - inner\n\n> said\n> twice\n\n"
        "---\n\n```\ncode  {{device}}\n  kept\n```\n\n[https://y.test](https://y.test)\n"
    )
    assert render(MailTemplate("x", body), {"device": "P8"}).text == (
        "Head\n\nOne\ntwo strong go <https://x.test>\n\n1. first\n2. second\n   - inner\n\n> said\n> twice\n\n"
        "--------------------\n\ncode  P8\n  kept\n\nhttps://y.test\n"
    )


def test_unknown_placeholders_stay_as_written() -> None:
    mail = render(MailTemplate("{{ foo }}", "{{ foo }} {{person"), {})
    assert (mail.subject, mail.text) == ("{{ foo }}", "{{ foo }} {{person\n")


def test_a_link_that_stands_alone_is_a_button() -> None:
    mail = render(MailTemplate("x", "[Go]({{enrollment_link}})\n\nand [there]({{enrollment_link}})"), VALUES)
    assert [attributes.get("class") for tag, attributes in Inner(mail.html).tags if tag == "a"] == ["button", None]


def test_values_are_one_visible_line() -> None:
    mail = render(MailTemplate("{{device}}", "{{device}}"), {"device": "a\r\nBcc: x@y.test\x00\u202eb\u200b"})
    assert (mail.subject, mail.text) == ("a Bcc: x@y.test b", "a Bcc: x@y.test b\n")


def test_the_trial_mail_and_words() -> None:
    for language in LANGUAGES:
        mail = trial_mail(language, "Contoso", "2026-11-27")
        assert "Contoso" in mail.text
        assert "2026-11-27" in mail.text
        assert reason_text("notEnrolled", language)
    assert reason_text("unknown", "en") == ""


@pytest.mark.parametrize(
    ("tag", "expected"),
    [("zh-TW", "zh-hant"), ("zh_Hant_HK", "zh-hant"), ("zh", "zh-hant"), ("zh-CN", "en"), ("de", "en"), ("", "en")],
)
def test_languages(tag: str, expected: str) -> None:
    assert known_language(tag) == expected


ALLOWED = {"a", "b", "blockquote", "br", "code", "em", "h1", "h2", "h3", "h4", "hr", "i", "li", "ol", "p", "pre", "s",
           "strong", "u", "ul"}  # fmt: skip
pieces = st.sampled_from(
    ["{{device}}", "{{enrollment_link}}", "[", "](", ")", "<", ">", "*", "_", "`", "\n", "\n\n", "> ", "- ", "1. ", "#",
     "javascript:", "https://x.test/", "<a href=", "<script>", "</script>", "<!--", "-->", '"', "'", "&lt;", "![",
     "手機", "<svg/onload=", "<b ", "style=", "\\", "<td>", "<title>", "{{", "}}"]
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(
    body=st.lists(st.one_of(pieces, st.text(max_size=5)), max_size=25).map("".join),
    value=st.one_of(st.text(max_size=40), st.lists(pieces, max_size=8).map("".join)),
)
def test_whatever_comes_in_clean_mail_comes_out(body: str, value: str) -> None:
    template = MailTemplate("s {{device}}", body)
    validate(template)
    mail = render(template, {"device": value, "enrollment_link": value})
    for tag, attributes in Inner(mail.html).tags:
        assert tag in ALLOWED
        assert set(attributes) <= {"href", "style", "class"}
        if address := attributes.get("href"):
            assert re.match(r"(https?://|mailto:|tel:)", address.strip(), re.IGNORECASE)
    assert not re.search(r"[\x00\r\n]", mail.subject)


@settings(max_examples=200, deadline=None)
@given(
    value=st.text(
        st.characters(exclude_categories=("Cs", "Cc", "Cf", "Zs", "Zl", "Zp", "Cn", "Co")), min_size=1, max_size=60
    )
)
def test_a_value_survives_as_it_is(value: str) -> None:
    mail = render(MailTemplate("{{person}}", "a {{person}} b"), {"person": value})
    assert mail.text == f"a {value} b\n"
    assert Inner(mail.html).words.strip() == f"a {value} b"
