"""Times in words: what each length and each distance is called."""

from __future__ import annotations

import datetime

import pytest

from console.templatetags.moments import clock, duration, minutes, moment, relative_words

NOW = datetime.datetime(2026, 11, 24, 12, 0, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (None, "–"),
        (0, "0.0 s"),
        (0.004, "0.1 s"),
        (0.44, "0.4 s"),
        (1, "1 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (184, "3 min 4 s"),
        (3599.7, "1 h 0 min"),
        (3600 * 5 + 60 * 12 + 3, "5 h 12 min"),
        (86400 * 2 + 3600 * 3, "2 d 3 h"),
    ],
)
def test_duration(seconds: float | None, expected: str) -> None:
    assert duration(seconds) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "just now"),
        (59, "just now"),
        (60, "1 minute ago"),
        (3599, "59 minutes ago"),
        (3600, "1 hour ago"),
        (86399, "23 hours ago"),
        (86400, "1 day ago"),
        (86400 * 400, "400 days ago"),
        (-30, "in less than a minute"),
        (-60, "in 1 minute"),
        (-7200, "in 2 hours"),
        (-86400 * 3, "in 3 days"),
    ],
)
def test_relative(seconds: int, expected: str) -> None:
    assert relative_words(NOW - datetime.timedelta(seconds=seconds), NOW) == expected


@pytest.mark.parametrize(
    ("count", "expected"), [(5, "5 minutes"), (90, "90 minutes"), (60, "1 hour"), (1440, "24 hours")]
)
def test_interval(count: int, expected: str) -> None:
    assert minutes(count) == expected


class TestMoment:
    def test_none_is_never_or_what_the_page_says(self) -> None:
        assert moment(None) == '<span class="muted">Never</span>'
        assert "Not yet" in moment(None, "UTC", "both", "Not yet")

    @pytest.mark.parametrize("style", ["both", "recent", "relative", "absolute"])
    def test_utc_is_always_at_hand(self, style: str) -> None:
        html = moment(NOW, "Asia/Taipei", style)
        assert 'datetime="2026-11-24T12:00:00+00:00"' in html
        assert "2026-11-24 12:00:00 UTC" in html

    def test_the_day_is_that_of_the_zone(self) -> None:
        late = NOW.replace(hour=20)
        assert ">25 Nov 2026 04:00</time>" in moment(late, "Asia/Taipei", "absolute")
        assert ">24 Nov 2026 21:00</time>" in moment(late, "Europe/Berlin", "absolute")

    def test_lists_across_tenants_name_the_zone(self) -> None:
        assert "24 Nov 2026 13:00 CET" in moment(NOW, "Europe/Berlin", "recent")

    def test_clock(self) -> None:
        assert ">13:00:00</time>" in clock(NOW, "Europe/Berlin")
