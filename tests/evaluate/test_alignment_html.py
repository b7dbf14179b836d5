"""The page of alignments: nothing gets out of its place, nothing is loaded, texts are whole."""

from html.parser import HTMLParser

import pytest

from moe_asr.evaluate.alignment_html import format_html
from moe_asr.evaluate.compare import CompareOptions, compare

EVIL = "</p><script>alert('x')</script>&amp; <b> \" onload=x"
VOID = {"meta", "input", "option"}


class Page(HTMLParser):
    """Tags that were opened and closed in order, and for each article its texts on both sides."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[tuple[str, dict]] = []
        self.tags: list[tuple[str, dict]] = []
        self.articles: list[dict] = []
        self.title = ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "article":
            self.articles.append({**dict(attrs), "id": "", "ref": [], "hyp": []})
        if tag == "p" and self.articles:
            self.articles[-1]["ref"].append("")
            self.articles[-1]["hyp"].append("")
        if tag not in VOID:
            self.open.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        path = [tag for tag, _ in self.open]
        if path[-1:] == ["title"]:
            self.title += data
        if "article" in path and "h2" in path:
            self.articles[-1]["id"] += data
        elif "article" in path and "p" in path:
            for side, other in (("ref", "ins"), ("hyp", "del")):
                if other not in path:
                    self.articles[-1][side][-1] += data


def page(references: dict, systems: dict, limit: int = 1000, **settings) -> Page:
    found = compare(references, systems, CompareOptions(num_samples=0, **settings))
    return Page(format_html(found, f"scores of {EVIL}", limit))


def test_texts_are_escaped_and_whole() -> None:
    references = {"<i>&": f"a {EVIL} b", "plain": "one two three", "right": "yes"}
    hypotheses = {"<i>&": f"a b {EVIL}", "plain": "one too three four", "right": "yes"}
    found = page(references, {EVIL: hypotheses, "second": references})
    assert found.title == f"scores of {EVIL}"
    by_id = {article["id"]: article for article in found.articles}
    assert set(by_id) == set(references)
    for name, reference in references.items():
        article = by_id[name]
        for side, texts in (
            ("ref", [reference] * 2),
            ("hyp", [hypotheses[name], reference]),
        ):
            assert [text.split() for text in article[side]] == [text.split() for text in texts]
    assert by_id["plain"]["data-k"] == "si" and by_id["right"]["data-k"] == ""
    assert sum(tag == "script" for tag, _ in found.tags) == 1
    names = {name for _, attributes in found.tags for name in attributes}
    assert names.isdisjoint({"src", "href", "onload", "srcset"})
    assert "http" not in format_html(compare(references, {"s": hypotheses}), "t")


def test_most_errors_come_first_and_the_rest_is_left_out() -> None:
    references = {str(i): "a b c d e f" for i in range(6)}
    hypotheses = {str(i): " ".join("a b c d e f".split()[: 6 - i % 4]) for i in range(6)}
    found = page(references, {"s": hypotheses}, limit=4)
    assert [article["id"] for article in found.articles] == ["3", "2", "1", "5"]
    assert [article["data-e"] for article in found.articles] == ["3", "2", "1", "1"]
    text = format_html(compare(references, {"s": hypotheses}), "t", 4)
    assert "Of 6 utterances the 4 that have most errors" in text
    assert "are on this page" not in format_html(compare(references, {"s": hypotheses}), "t", 6)


@pytest.mark.parametrize(("unit", "shown"), [("char", "今天好"), ("mixed", "今 天 好")])
def test_characters_stand_together(unit: str, shown: str) -> None:
    (article,) = page({"u": "今天好"}, {"s": {"u": "今好"}}, unit=unit).articles
    assert article["ref"] == [shown]
