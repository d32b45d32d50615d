# SPDX-License-Identifier: Apache-2.0
"""The report of an agreement study: its structure, read with html.parser, and how it behaves in a real browser.

Numbers in the report are compared with pandas, NumPy and SciPy on the tables that it was made from.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import agreement_studies as studies
import numpy as np
import pandas as pd
import pytest
from browser import Browser, browser, chromium  # noqa: F401 (fixtures)
from scipy import stats

from monai_multirater.agreement.measures import MEASURES
from monai_multirater.studies.agreement import AgreementStudy, write_agreement_report
from monai_multirater.studies.agreement.figure_cases import size_chart
from monai_multirater.studies.agreement.figures import cumulative_chart
from monai_multirater.studies.agreement.report_parts import breakable, interval, number, p_value, share
from monai_multirater.studies.agreement.report_reading import comparison_sentences, strata_sentence
from monai_multirater.studies.agreement.report_values import spread, student_interval

VOID = {"meta", "link", "img", "br", "hr", "input", "path", "use", "rect", "wbr"}
KINDS = ("full", "pairs", "awkward", "one", "many")
AXE_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]


@dataclass
class Element:
    tag: str
    attributes: dict[str, str]
    parent: Element | None
    text: str = ""

    def within(self, tag: str) -> bool:
        return self.parent is not None and (self.parent.tag == tag or self.parent.within(tag))


@dataclass
class Page(HTMLParser):
    """All elements of a page with their text; fails on tags that do not match."""

    source: str
    elements: list[Element] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[Element] = []
        self.feed(self.source)
        assert not self.open, f"not closed: {[e.tag for e in self.open]}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names), f"an attribute twice in <{tag}>"
        element = Element(tag, {name: value or "" for name, value in attrs}, self.open[-1] if self.open else None)
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(Element(tag, {name: value or "" for name, value in attrs}, self.open[-1]))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop().tag == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        for element in self.open:
            element.text += data

    def all(self, *tags: str) -> list[Element]:
        return [element for element in self.elements if element.tag in tags]

    def by_id(self, name: str) -> Element:
        return next(element for element in self.elements if element.attributes.get("id") == name)

    def cells(self, table: str) -> list[list[str]]:
        """Text of the body of a table."""
        rows = [e for e in self.all("tr") if e.within("tbody") and _table_of(e) == table]
        return [[c.text for c in self.all("th", "td") if c.parent is row] for row in rows]


def _table_of(element: Element) -> str:
    while element.tag != "table":
        assert element.parent is not None
        element = element.parent
    return element.attributes["id"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, AgreementStudy]:
    folder = tmp_path_factory.mktemp("studies")
    return {
        "full": studies.full_study(folder),
        "pairs": studies.pair_table_study(),
        "awkward": studies.awkward_study(folder),
        "one": studies.one_group_study(),
        "many": studies.many_factors_study(),
    }


@pytest.fixture(scope="module")
def files(made: dict[str, AgreementStudy], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("reports")
    return {name: write_agreement_report(study, folder / f"{name}.html") for name, study in made.items()}


@pytest.fixture(scope="module")
def pages(files: dict[str, Path]) -> dict[str, Page]:
    return {name: Page(path.read_text(encoding="utf-8")) for name, path in files.items()}


@pytest.fixture(params=KINDS)
def page(request: pytest.FixtureRequest, pages: dict[str, Page]) -> Page:
    return pages[request.param]


def test_structure(page: Page) -> None:
    assert page.source.startswith("<!DOCTYPE html>")
    assert page.all("html")[0].attributes["lang"] == "en"
    assert len(page.all("main")) == len(page.all("nav")) == len(page.all("h1")) == 1
    levels = [int(e.tag[1]) for e in page.all("h1", "h2", "h3", "h4")]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    first = next(e for e in page.all("a"))
    assert first.attributes["href"] == "#main"


def test_ids_are_unique_and_every_link_has_its_target(page: Page) -> None:
    ids = Counter(e.attributes["id"] for e in page.elements if "id" in e.attributes)
    assert not [name for name, times in ids.items() if times > 1]
    for element in page.elements:
        for name in ("href", "xlink:href"):
            if (target := element.attributes.get(name, "")).startswith("#"):
                assert target[1:] in ids, target
        for name in element.attributes.get("aria-labelledby", "").split():
            assert name in ids
        for value in element.attributes.values():
            assert all(name in ids for name in re.findall(r"url\(#([^)]*)\)", value))


def test_nothing_is_requested(page: Page) -> None:
    assert not page.all("script", "iframe", "object", "embed", "base", "form")
    for element in page.elements:
        for name in ("src", "srcset", "poster", "data"):
            assert element.attributes.get(name, "data:").startswith("data:")
        if element.tag != "a":
            assert element.attributes.get("href", "#").startswith(("#", "data:"))
        assert not any(name.startswith("on") for name in element.attributes)
    styles = " ".join(e.text for e in page.all("style")) + " ".join(
        e.attributes.get("style", "") for e in page.elements
    )
    assert "@import" not in styles
    assert not [url for url in re.findall(r"url\(([^)]*)\)", styles) if not url.startswith("#")]
    policy = next(e for e in page.all("meta") if e.attributes.get("http-equiv") == "Content-Security-Policy")
    assert policy.attributes["content"].startswith("default-src 'none'")


def test_every_picture_and_table_has_a_name(page: Page) -> None:
    for svg in page.all("svg"):
        assert svg.attributes["role"] == "img"
        texts = [page.by_id(name) for name in svg.attributes["aria-labelledby"].split()]
        assert [e.tag for e in texts] == ["title", "desc"]
        assert all(e.text.strip() for e in texts)
    assert all(image.attributes["alt"].strip() for image in page.all("img"))
    for figure in page.all("figure"):
        inside = [e.tag for e in page.elements if e.parent is figure]
        assert "figcaption" in inside
        assert ("details" in inside) == ("svg" in inside)
    for table in page.all("table"):
        captions = [e for e in page.all("caption") if e.parent is table]
        assert len(captions) == 1
        assert captions[0].text.strip()
        region = table.parent
        assert region is not None
        assert region.attributes["role"] == "region"
        assert region.attributes["tabindex"] == "0"
    assert all(e.attributes.get("scope") in ("col", "row", "colgroup") for e in page.all("th"))
    assert all(e.text.strip() for e in page.all("th"))


def test_tables_are_rectangular(page: Page) -> None:
    for table in page.all("table"):
        widths = set()
        for row in page.all("tr"):
            if _table_of(row) == table.attributes["id"]:
                cells = [e for e in page.all("th", "td") if e.parent is row]
                widths.add(sum(int(e.attributes.get("colspan", 1)) for e in cells))
        assert len(widths) == 1, table.attributes["id"]


def test_heads_of_numbers_lead_to_definitions(page: Page) -> None:
    linked = {id(e.parent) for e in page.all("a") if e.attributes.get("href", "").startswith("#def-")}
    heads = [e for e in page.all("th") if e.attributes.get("class") == "number" and not e.within("details")]
    assert heads
    assert not [e.text for e in heads if id(e) not in linked]


def test_all_measures_are_defined(page: Page) -> None:
    for name, measure in MEASURES.items():
        text = page.by_id(f"def-{name}").text
        assert measure.title in text
        assert measure.source.split(",")[0] in text
        for doi in re.findall(r"doi:(\S+)", measure.source):
            assert any(e.attributes.get("href") == f"https://doi.org/{doi}" for e in page.all("a"))


def test_order_of_sections(pages: dict[str, Page]) -> None:
    headings = [e.attributes["id"] for e in pages["full"].all("h2")]
    assert headings == [
        "summary", "contents", "distributions", "raters", "groups", "factors", "mixed", "size", "disputed", "problems",
        "plan", "definitions", "made",
    ]  # fmt: skip
    links = [e.attributes["href"][1:] for e in pages["full"].all("a") if e.within("nav")]
    assert links == headings[2:]


def test_what_a_study_does_not_hold_is_left_out(pages: dict[str, Page]) -> None:
    page = pages["pairs"]
    headings = [e.attributes["id"] for e in page.all("h2")]
    assert headings == [
        "summary", "contents", "distributions", "raters", "disputed", "problems", "definitions", "made"
    ]  # fmt: skip
    assert [e.attributes["id"] for e in page.all("figure")] == ["figure-dice"]
    assert "not known here" in page.all("main")[0].text
    assert "nan" not in page.all("main")[0].text.lower().replace("nan if", "").split()


def test_special_characters_are_text(pages: dict[str, Page]) -> None:
    page = pages["awkward"]
    assert page.all("h1")[0].text == studies.AWKWARD
    assert not [e for e in page.all("b") if "onclick" in e.attributes]
    assert "49" not in page.all("h1")[0].text
    assert any(studies.AWKWARD in e.text for e in page.all("th"))
    assert any("$x_1$" in e.text for e in page.all("code"))
    remarks = [e.text for e in page.all("dd") if e.parent.text.startswith("Remarks")]
    assert remarks == ["A remark.", f"On {studies.AWKWARD}."]
    labels = [e.text for e in page.all("text") if e.within("svg")]
    assert any(text.startswith("<b oncli") for text in labels)


def test_missing_values_are_said_to_be_undefined(pages: dict[str, Page], made: dict[str, AgreementStudy]) -> None:
    rows = {row[0].split(" of ")[0]: row for row in pages["awkward"].cells("table-measures")}
    undefined = int(made["awkward"].pairs["dice"].isna().sum())
    assert rows["Dice coefficient"][8] == str(undefined)
    assert "Cohen's kappa" not in rows  # no value is defined
    assert "not defined" in pages["awkward"].cells("table-raters")[0][4]
    assert "missing" in pages["awkward"].by_id("picture-0").text


def test_numbers_of_the_table_are_those_of_numpy(pages: dict[str, Page], made: dict[str, AgreementStudy]) -> None:
    values = made["full"].pairs["dice"].to_numpy()
    row = pages["full"].cells("table-measures")[0]
    quartiles = np.quantile(values, [0.25, 0.5, 0.75])
    expected = [values.mean(), quartiles[1], quartiles[0], quartiles[2], values.std(ddof=1), len(values), 0, 1]
    shown = [float(cell.replace(",", "")) for cell in (row[1], *row[3:])]
    np.testing.assert_allclose(shown, expected, atol=5e-4)


def test_the_interval_is_near_that_of_the_bootstrap_over_cases(made: dict[str, AgreementStudy]) -> None:
    pairs = made["full"].pairs
    groups = [part["dice"].to_numpy() for _, part in pairs.groupby("case")]
    generator = np.random.default_rng(0)
    drawn = [np.concatenate([groups[i] for i in generator.integers(0, len(groups), len(groups))]) for _ in range(800)]
    low, high = np.quantile([each.mean() for each in drawn], [0.025, 0.975])
    found = spread(made["full"], "dice")
    assert found.low == pytest.approx(low, abs=0.003)
    assert found.high == pytest.approx(high, abs=0.003)


def test_the_interval_of_the_study_comes_first(made: dict[str, AgreementStudy]) -> None:
    given = replace(made["full"], summary={"measures": {"dice": {"mean": 0.7, "low": 0.1, "high": 0.9}}})
    assert (spread(given, "dice").low, spread(given, "dice").high) == (0.1, 0.9)


def test_student_interval_is_that_of_scipy() -> None:
    values = np.random.default_rng(0).normal(size=12)
    expected = stats.t.interval(0.95, 11, loc=values.mean(), scale=stats.sem(values))
    np.testing.assert_allclose(student_interval(values.mean(), values.std(ddof=1), 12), expected)


def test_heat_map_holds_the_means_of_all_pairs(pages: dict[str, Page], made: dict[str, AgreementStudy]) -> None:
    pairs = made["full"].pairs
    rows = pages["full"].cells("heat-raters")
    for i, j in ((0, 3), (3, 0), (6, 7)):
        names = {f"R{i + 1}", f"R{j + 1}"}
        own = pairs[pairs[["rater_a", "rater_b"]].apply(lambda row, names=names: set(row) == names, axis=1)]
        assert rows[i][j + 1] == f"{own['dice'].mean():.2f}{len(own)} pairs"


def test_heat_map_has_the_contrast_of_wcag(pages: dict[str, Page]) -> None:
    cells = [e for e in pages["full"].all("td") if "background" in e.attributes.get("style", "")]
    assert len(cells) == 8 * 7
    for cell in cells:
        found = re.fullmatch(r"background:#(\w{6});color:#(000|fff)", cell.attributes["style"])
        assert found
        parts = np.array([int(found[1][k : k + 2], 16) for k in (0, 2, 4)]) / 255
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        own, text = float(linear @ [0.2126, 0.7152, 0.0722]), float(found[2] == "fff")
        assert (max(own, text) + 0.05) / (min(own, text) + 0.05) >= 4.5


def test_first_page_says_what_stands_out(pages: dict[str, Page], made: dict[str, AgreementStudy]) -> None:
    text = " ".join(pages["full"].by_id("main").text.split())
    pairs = made["full"].pairs
    names = pairs[["rater_a", "rater_b"]].min(axis=1) + " and " + pairs[["rater_a", "rater_b"]].max(axis=1)
    means = pairs.groupby(names)["dice"].mean()
    assert f"Agree best: {means.idxmax()}" in text
    assert f"least: {means.idxmin()}" in text
    assert "R8 agrees far less with the others" in text
    assert "The effect of skill turns around between groups of cases" in text
    assert "3 cases with one rater were counted and left out" in text
    assert "no voxel marked" in text


def test_interaction_is_drawn_side_by_side(pages: dict[str, Page], made: dict[str, AgreementStudy]) -> None:
    figure = next(e for e in pages["full"].all("figure") if "Same or different skill, by group" in e.text)
    assert "The lines of the groups slope in opposite directions" in figure.text
    tests = made["full"].tests
    rows = tests[(tests["factor"] == "skill") & (tests["analysis"] == "same-different") & (tests["measure"] == "dice")]
    for row in rows[rows["level"] == "pairs"].to_dict("records"):
        assert f"{row['mean_first']:.3f} and {row['mean_second']:.3f}" in figure.text


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        (0.001, 0.8, "“not malignant” dominates “malignant”"),
        (0.8, 0.001, "“malignant” dominates “not malignant”"),
        (0.001, 0.001, "the distributions cross"),
        (0.5, 0.5, "By pairs, the data reject neither direction"),
    ],
)
def test_dominance_is_said_in_words(
    made: dict[str, AgreementStudy], tmp_path: Path, first: float, second: float, words: str
) -> None:
    tests = made["full"].tests
    tests = tests[tests["analysis"] == "group"].assign(p_dominance_first=first, p_dominance_second=second)
    poor = replace(made["pairs"], tests=tests)
    text = Page(write_agreement_report(poor, tmp_path / "r.html").read_text(encoding="utf-8")).by_id("main").text
    assert words in " ".join(text.split())


def _row(level: str, **change: object) -> dict[str, object]:
    """A comparison by pairs or cases: the first set lower, beyond chance."""
    row = {"analysis": "same-different", "factor": "tool", "stratum": "all cases", "measure": "dice", "level": level,
           "first": "same", "second": "different", "n_first": 40, "n_second": 60, "mean_first": 0.7,
           "mean_second": 0.75, "cohens_d": -0.3, "p_holm": 0.01, "p_mann_whitney": 0.001, "cases_both": 30,
           "difference_within": -0.04, "p_within": 0.01}  # fmt: skip
    return row | change


@pytest.mark.parametrize(
    ("pairs", "cases", "words"),
    [
        ({}, {}, "the same way as over all cases"),
        ({"p_holm": 0.9}, {}, "so rather rely on the cases: “same” is lower."),
        ({}, {"p_holm": 0.9}, "so rather rely on the cases: no difference beyond chance."),
        ({}, {"mean_first": 0.8}, "so rather rely on the cases: “same” is higher."),
        ({"difference_within": 0.09}, {}, "“same” is higher by 0.090 (p = 0.010): the other way around than"),
        ({"p_within": 0.4}, {}, "no difference beyond chance there. The overall difference may come from which cases"),
        ({"p_holm": 0.4}, {"p_holm": 0.4}, "a difference that does not show over all cases"),
        ({"cases_both": 3}, {}, "Within the 3 cases that have both kinds of pairs, “same” is lower by 0.040"),
        ({"cases_both": 3}, {}, "so few cases do not tell much"),
        ({"p_holm": 0.4, "p_within": 0.4}, {"p_holm": 0.4}, "lower by 0.040 (p = 0.400)."),
        ({"cohens_d": np.nan}, {"cohens_d": np.nan}, "There are too few values of Dice for a comparison."),
    ],
)
def test_a_comparison_is_said_in_words(pairs: dict[str, object], cases: dict[str, object], words: str) -> None:
    rows = [_row("cases", **cases), _row("pairs", **pairs)]
    text = " ".join(sentence.striptags() for sentence in comparison_sentences(rows))
    assert words in text
    assert ("do not say the same" in text) == ("rather rely on the cases" in words)


def test_strata_say_where_the_effect_is() -> None:
    rows = [
        _row("pairs", stratum="malignant", mean_first=0.806, mean_second=0.71, difference_within=0.194, p_within=2e-4),
        _row("pairs", stratum="not malignant", mean_first=0.761, mean_second=0.808, p_within=0.138),
    ]
    (text,) = (sentence.striptags() for sentence in strata_sentence(rows))
    assert "It turns around between groups of cases" in text
    assert "malignant 0.806 against 0.710" in text
    assert "not malignant 0.761 against 0.808" in text
    assert "+0.194 (malignant, p < 0.001, 30 cases)" in text
    assert text.endswith("beyond chance only in malignant.")


def test_a_factor_with_many_levels_has_one_part(pages: dict[str, Page], made: dict[str, AgreementStudy]) -> None:
    page, study = pages["many"], made["many"]
    assert len([e for e in page.all("h3") if "skill" in e.text]) == 2  # same or different; within its levels
    rows = page.cells("heat-factors-2")
    assert [row[0] for row in rows] == [f"S{i}" for i in range(5)]
    pairs = study.pairs
    mixed = pairs[((pairs["skill_a"] == "S0") & (pairs["skill_b"] == "S3"))
                  | ((pairs["skill_a"] == "S3") & (pairs["skill_b"] == "S0"))]["dice"]  # fmt: skip
    assert rows[0][4] == rows[3][1] == f"{mixed.mean():.2f}{len(mixed)} pairs"
    assert len(page.cells("table-factors-2")) == 2 * 10
    assert "the 5 levels have Kruskal-Wallis H" in page.by_id("main").text
    figures = [e.attributes["id"] for e in page.all("figure") if "cumulative" in e.text]
    assert len(figures) == 1  # of the group; sex does not go with agreement, the others have several levels


def test_factors_of_cases_without_a_difference_are_in_one_table(
    pages: dict[str, Page], made: dict[str, AgreementStudy]
) -> None:
    rows = {row[0]: row for row in pages["many"].cells("table-overview")}
    assert list(rows) == ["malignant", "site", "sex", "device", "year"]
    headings = [e.text for e in pages["many"].all("h3")]
    assert {"malignant and not malignant", "site"} <= set(headings)
    assert not any(name in heading for name in ("sex", "device", "year") for heading in headings)
    means = made["many"].pairs.groupby(["site", "case"])["dice"].mean().groupby("site").mean()
    assert rows["site"][1] == f"{means.min():.3f} to {means.max():.3f}"
    leg = next(row for row in pages["many"].cells("table-groups-3-means") if row[0] == "leg")
    assert leg[1] == f"{means['leg']:.3f}"


def test_the_group_comes_first_and_then_the_largest_effect_of_something_shared(
    pages: dict[str, Page], made: dict[str, AgreementStudy]
) -> None:
    for kind in ("full", "many"):
        items = [" ".join(e.text.split()) for e in pages[kind].all("li") if e.parent.attributes.get("class")]
        assert items[0].startswith("malignant: mean Dice by pairs")
        assert items[1].startswith("Same or different ")
        row = made[kind].tests.iloc[1]
        assert (row["level"], row["factor"]) == ("cases", "malignant")
        assert f"by cases {row['mean_first']:.3f} and {row['mean_second']:.3f}" in items[0]


def test_the_order_of_raters_does_not_matter(pages: dict[str, Page], made: dict[str, AgreementStudy]) -> None:
    pairs = made["full"].pairs
    rows = {row[0].split(" (")[0]: row for row in pages["full"].cells("table-measures")}
    both = (pairs["sensitivity"] + pairs["sensitivity_reverse"]) / 2
    assert rows["Sensitivity"][1] == f"{both.mean():.3f}"
    assert rows["Volume difference"][1] == f"{pairs['volume_difference'].abs().mean():.3f}"
    text = pages["full"].by_id("def-volume_difference").text
    assert "do not depend on the order of the raters: its sign is left out" in text


@pytest.mark.parametrize(
    ("above", "words"),
    [
        (0.0, "The curve of “b” never runs above that of “a”: its values are higher throughout."),
        (0.0003, "The curve of “b” hardly ever, and invisibly, runs above that of “a”"),
        (0.01, "They cross: elsewhere “b” has at most 1.0 points more."),
    ],
)
def test_curves_that_cross_are_told_from_those_that_do_not(above: float, words: str) -> None:
    points = pd.DataFrame({"value": [0.0, 0.5, 1.0], "first": [0.0, 0.6, 1.0], "second": [above, 0.2, 1.0]})
    chart = cumulative_chart(points, key="k", title="t", names=("a", "b"), label="Dice")
    assert words in chart.description
    assert "share strictly below" in chart.svg


def test_names_break_after_their_punctuation() -> None:
    assert breakable("Person1_<b>-x") == "Person1_&lt;b&gt;-<wbr>x"
    assert breakable("a_b") == "a_<wbr>b"


def test_the_plan_is_a_table_of_cases_by_raters(pages: dict[str, Page], made: dict[str, AgreementStudy]) -> None:
    widths = {(row["cases"], row["raters"]): row["width"] for row in made["full"].summary["plan"]}
    rows = pages["full"].cells("table-plan")
    assert rows == [[str(n), f"{widths[n, 2]:.3f}", f"{widths[n, 5]:.3f}"] for n in (10, 100)]  # nine were never there


def test_long_tables_are_cut(pages: dict[str, Page]) -> None:
    assert len(pages["full"].cells("table-disputed")) == 20
    assert len(pages["awkward"].cells("table-problems")) == 50
    assert "all are in problems.csv" in pages["awkward"].by_id("main").text
    assert "cases.csv" in pages["full"].by_id("main").text


def test_most_disputed_cases_are_in_order(pages: dict[str, Page], made: dict[str, AgreementStudy]) -> None:
    expected = made["full"].cases.sort_values("mean_dice")["case"].head(20).tolist()
    assert [row[0] for row in pages["full"].cells("table-disputed")] == expected
    assert [e.attributes["href"] for e in pages["full"].all("a") if e.text == expected[0]] == ["#picture-0"]


def test_pictures_are_embedded_with_their_text(pages: dict[str, Page], made: dict[str, AgreementStudy]) -> None:
    images = pages["full"].all("img")
    assert [e.attributes["alt"] for e in images] == [gallery.text for gallery in made["full"].galleries]
    assert all(e.attributes["src"].startswith(("data:image/png;base64,", "data:image/webp;base64,")) for e in images)
    assert {(e.attributes["width"], e.attributes["height"]) for e in images} == {("640", "220")}


def test_the_same_study_gives_the_same_bytes(
    made: dict[str, AgreementStudy], files: dict[str, Path], tmp_path: Path
) -> None:
    again = write_agreement_report(made["pairs"], tmp_path / "sub" / "again.html")
    assert again.read_bytes() == files["pairs"].read_bytes()
    assert [path.name for path in again.parent.iterdir()] == ["again.html"]
    source = files["full"].read_text(encoding="utf-8")
    assert "<metadata" not in source
    assert not re.search(r"20\d\d-\d\d-\d\dT", source)


def test_a_study_without_cases(made: dict[str, AgreementStudy], tmp_path: Path) -> None:
    empty = replace(made["pairs"], pairs=made["pairs"].pairs.iloc[:0], cases=made["pairs"].cases.iloc[:0])
    text = Page(write_agreement_report(empty, tmp_path / "r.html").read_text(encoding="utf-8")).by_id("main").text
    assert "little to report" in text


def test_the_report_is_small(files: dict[str, Path]) -> None:
    assert all(path.stat().st_size < 2_000_000 for path in files.values())


def test_many_cases_are_thinned_out() -> None:
    generator = np.random.default_rng(0)
    size, dice = generator.lognormal(5, 1, 20_000), generator.uniform(0, 1, 20_000)
    chart = size_chart(size, dice, unit="voxels")
    assert len(chart.svg) < 200_000
    assert "20,000 cases, 3,000 of them drawn" in chart.description
    medians = [float(str(row[3])) for row in chart.numbers.rows]
    edges = np.quantile(size, np.linspace(0, 1, 11))
    parts = pd.cut(size, edges, include_lowest=True, labels=False)
    np.testing.assert_allclose(medians, pd.Series(dice).groupby(parts).median(), atol=2e-3)


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (number(-0.0001), "0.000"), (number(-1.5, 1), "\u22121.5"), (number(12345, 0), "12,345"),
        (p_value(0.0004), "<\u00a00.001"), (p_value(0.2), "0.200"), (interval(0.1, 0.2, 1), "0.1 to 0.2"),
        (share(1, 1000), "under 1 %"), (share(999, 1000), "over 99 %"), (share(0, 5), "0 %"), (share(5, 5), "100 %"),
    ],
)  # fmt: skip
def test_numbers_are_written(shown: str, expected: str) -> None:
    assert shown == expected


# In a browser


# Colors depend on the scheme, not on the width: their contrast, nine tenths of the time, is checked once for each.
LOOKS = {
    "full": ((1280, "light", True), (1280, "dark", False), (390, "dark", True), (390, "light", False)),
    "awkward": ((1280, "dark", False), (390, "light", True)),
    "pairs": ((390, "light", True),),
    "one": ((390, "dark", True),),
    "many": ((1280, "dark", True), (390, "light", False)),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", LOOKS)
def test_page_in_a_browser(files: dict[str, Path], browser: Browser, kind: str) -> None:  # noqa: F811
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    opened = browser.open(files[kind])
    page = opened.page
    page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    for width, scheme, contrast in LOOKS[kind]:
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        sizes = page.evaluate("[...document.querySelectorAll('svg, img')].map(e => e.getBoundingClientRect().toJSON())")
        assert all(0 < size["width"] <= width and size["height"] > 40 for size in sizes)
        smallest = page.evaluate(
            "Math.min(...[...document.querySelectorAll('svg text')].map(e => parseFloat(getComputedStyle(e).fontSize) "
            "* e.ownerSVGElement.getScreenCTM().a))"
        )
        assert smallest >= 9  # CSS pixels
        rules = {"color-contrast": {"enabled": contrast}}
        result = axe.Axe().run(page, options={"runOnly": AXE_RULES, "rules": rules, "resultTypes": ["violations"]})
        assert result.violations_count == 0, result.generate_report()
    assert opened.requests == [files[kind].resolve().as_uri()]
    assert not opened.console
    assert not opened.errors


@pytest.mark.parametrize("width", [pytest.param(1280, marks=pytest.mark.slow), 390])
def test_keyboard_reaches_links_and_regions(files: dict[str, Path], browser: Browser, width: int) -> None:  # noqa: F811
    page = browser.open(files["pairs"], width=width).page
    page.evaluate(
        "window.reached = []; document.addEventListener('focusin', ({target: e}) => window.reached.push("
        "[e.tagName, e.getAttribute('href'), e.getAttribute('aria-labelledby')]))"
    )
    for _ in range(80):
        page.keyboard.press("Tab")
    reached = page.evaluate("window.reached")
    assert reached[0][:2] == ["A", "#main"]
    assert ["A", "#distributions", None] in reached
    assert {"table-measures-caption", "heat-raters-caption", "table-disputed-caption"} <= {each[2] for each in reached}
    assert "SUMMARY" in {each[0] for each in reached}


def test_skip_link_shows_when_it_has_the_focus(files: dict[str, Path], browser: Browser) -> None:  # noqa: F811
    page = browser.open(files["pairs"]).page
    top = "document.querySelector('.skip').getBoundingClientRect().top"
    assert page.evaluate(top) < -40
    page.keyboard.press("Tab")
    assert page.evaluate(top) >= 0
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


def test_colors_follow_the_scheme(files: dict[str, Path], browser: Browser) -> None:  # noqa: F811
    page = browser.open(files["many"]).page
    looks = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        looks.append(
            page.evaluate(
                "[getComputedStyle(document.body).backgroundColor, "
                "getComputedStyle(document.querySelector('svg text')).fill, "
                "getComputedStyle(document.querySelector('svg path[style*=\"--c0\"]')).fill]"
            )
        )
    light, dark = looks
    assert light[0] == "rgb(255, 255, 255)"
    assert light[2] == "rgb(0, 114, 178)"
    assert all(one != other for one, other in zip(light, dark, strict=True))


@pytest.mark.slow
def test_print_has_no_cut_tables(files: dict[str, Path], browser: Browser) -> None:  # noqa: F811
    page = browser.open(files["full"], width=690).page  # A4 less its margins
    page.emulate_media(media="print")
    shown = page.evaluate(
        "[...document.querySelectorAll('nav, details, .skip, .up')].filter(e => e.offsetParent).length"
    )
    assert shown == 0
    assert page.evaluate("getComputedStyle(document.querySelector('.scroll')).overflowX") == "visible"
    ends = page.evaluate("[...document.querySelectorAll('table, svg, img')].map(e => e.getBoundingClientRect().right)")
    assert max(ends) <= 690
