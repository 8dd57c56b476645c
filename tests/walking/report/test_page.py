"""Pages: everything is taken literally, stands right or left, and needs nothing from elsewhere."""

import base64
import math
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wn.walking.pictures.drawing import figure_of
from wn.walking.report.page import Picture, Section, Table, cell, page

EVIL = '<script>alert("x")</script> & $5 {{ 7 * 7 }} ‹é›'


class Text(HTMLParser):
    """The text of a page, the tags that are open, and the addresses that it asks for."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words, self.tags, self.addresses = list[str](), list[str](), list[str]()
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attributes if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def picture(caption: str = "caption") -> Picture:
    figure = figure_of(2.0, 1.0)
    figure.subplots().plot([1, 2])
    return Picture(figure, caption)


def test_words_are_taken_literally() -> None:
    table = Table(EVIL, (EVIL, "b"), [[EVIL, 1.0]])
    section = Section(EVIL, [EVIL], [table, picture(EVIL)], verbatim=EVIL)
    found = Text(page(EVIL, EVIL, [section]))
    assert "script" not in found.tags
    assert sum(EVIL in words for words in found.words) >= 9
    assert "49" not in "".join(found.words)


def test_a_page_needs_nothing_from_elsewhere() -> None:
    html = page("t", "l", [Section("a", parts=[picture()]), Section("b")])
    found = Text(html)
    assert all(address.startswith(("data:image/svg+xml;base64,", "#")) for address in found.addresses)
    assert len(found.addresses) == 3
    assert "url(http" not in html
    assert "@import" not in html
    assert not {"script", "link", "iframe", "object"} & set(found.tags)


def test_links_lead_to_sections_in_their_order() -> None:
    html = page("t", "l", [Section("first"), Section("second")])
    assert re.findall(r'href="(#s\d)">(\w+)', html) == [("#s1", "first"), ("#s2", "second")]
    assert re.findall(r'<h2 id="(s\d)">(\w+)', html) == [("s1", "first"), ("s2", "second")]


def test_the_same_figure_is_the_same_bytes() -> None:
    assert picture().source == picture().source
    svg = base64.b64decode(picture().source.partition(",")[2])
    assert svg.startswith(b"<?xml")
    assert b"<dc:date>" not in svg
    assert picture().width == 192


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (math.nan, ""),
        (math.inf, "∞"),
        (1 / 3, "0.3333"),
        (12345, "12,345"),
        (True, "yes"),
        (False, "no"),
        ("a,b", "a,b"),
        (0.0, "0"),
    ],
)
def test_cells(value: object, text: str) -> None:
    assert cell(value) == text


def test_numbers_stand_right() -> None:
    html = page("t", "l", [Section("a", parts=[Table("c", ("word", "number"), [["x", 1.5]])])])
    assert '<td class="right">1.5</td>' in html
    assert "<td>x</td>" in html
    assert '<th class="right">number</th>' in html


@given(st.text(max_size=30))
def test_any_text_comes_out_as_it_went_in(text: str) -> None:
    html = page("t", "l", [Section("a", verbatim=f"x{text}y")])
    found = "".join(Text(html).words)
    wanted = f"x{text}y".replace("\r\n", "\n")
    assert wanted in found or "\r" in text or "\x00" in text
