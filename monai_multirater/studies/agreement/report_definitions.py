# SPDX-License-Identifier: Apache-2.0
"""Definitions of everything that a report shows: measures, statistics, raters, problems."""

from __future__ import annotations

import re
from dataclasses import dataclass

from markupsafe import Markup, escape

from monai_multirater.agreement.measures import MEASURES, Measure
from monai_multirater.studies.agreement.report_parts import number

__all__ = ["PROBLEMS", "STATISTICS", "Definition", "definitions", "linked"]

_ADDRESS = re.compile(r"doi:(\S+)|https://\S+")


@dataclass(frozen=True)
class Definition:
    """What a name means; ``source`` may hold a DOI (``doi:...``) or an address."""

    name: str
    title: str
    text: str
    source: str = ""

    @property
    def reference(self) -> Markup:
        """Source with its link."""
        return linked(self.source)


def linked(source: str) -> Markup:
    """Escape a source and turn its DOIs and addresses into links."""
    out, end = Markup(""), 0
    for match in _ADDRESS.finditer(source):
        address = f"https://doi.org/{match[1]}" if match[1] else match[0]
        out += escape(source[end : match.start()]) + Markup('<a href="{}">{}</a>').format(address, match[0])
        end = match.end()
    return out + escape(source[end:])


PROBLEMS = {
    "unreadable": "The file of a mask could not be read. The rater counts as missing in this case.",
    "mismatch": "The masks of the case do not fit together, in size or position. The case is left out.",
    "failed": "The case could not be measured and is left out.",
    "empty": "The rater marked nothing. The mask counts: its Dice with a mask that is not empty is 0.",
    "flipped": "The mask agrees far better with the others after a flip or rotation. It is reported, never changed.",
    "duplicate": "Masks of several raters are equal voxel by voxel, which independent outlines hardly ever are.",
    "outlier rater": "The rater agrees far less with the others than they agree among themselves.",
    "outlier mask": "The mask agrees far less than the other masks of the case and than the rater's other masks.",
    "one rater": "The case has fewer than two raters. It is counted and left out: there is nobody to agree with.",
}
"""What each kind of problem means."""

STATISTICS = (
    Definition("n", "n", "Number of values, here of pairs of masks or of cases. Undefined values are not counted."),
    Definition(
        "level", "Pairs and cases",
        "“pairs”: each pair of raters of a case counts once, so cases with many raters weigh more, and values of one "
        "case are not independent. “cases”: each case counts once, with the mean over its pairs.",
    ),
    Definition("mean", "Mean", "Sum of the defined values divided by their number."),
    Definition("sd", "Standard deviation (SD)", "Square root of the sum of squared deviations divided by n - 1."),
    Definition("quartiles", "Quartiles and median", "A quarter, half, three quarters of all values are at or below."),
    Definition(
        "interval", "95 % interval",
        "In the table of measures: percentiles of the mean over resamples of whole cases, so that pairs of one case "
        "stay together. In comparisons of groups: mean ± t · SD / √n, which takes the values as independent.",
    ),
    Definition(
        "undefined", "Undefined",
        "Values that do not exist, such as the distance to an empty mask. They are counted and left out, never "
        "replaced.",
    ),
    Definition(
        "mann_whitney", "Mann-Whitney U test",
        "U counts in how many pairs of one value of each group the first is larger, ties as half. p is the "
        "probability of a U at least as far from its mean if both groups had the same distribution.",
        "Mann and Whitney 1947, doi:10.1214/aoms/1177730491",
    ),
    Definition(
        "permutation", "Permutation test",
        "Whole cases are divided into groups of these sizes at random. The share of divisions, the observed one "
        "counted with them, whose means differ at least as much in the observed direction, twice. Undefined where "
        "cases have values in both groups.",
        "Phipson and Smyth 2010, doi:10.2202/1544-6115.1585",
    ),
    Definition(
        "within", "Within cases",
        "For labels that belong to pairs of raters, such as same and different: the mean, over the cases that have "
        "pairs of both kinds, of the difference of their two means. p: twice the share of random exchanges of the "
        "labels within each case that give a difference at least as large in the observed direction. Counted by pairs, "
        "the labels of single pairs are exchanged; counted by cases, those of the two means of a case, which finds "
        "small differences that are the same in most cases. Hard cases cannot be taken for an effect of the factor "
        "here, but cases with one kind of pairs say nothing.",
        "Good 2005, doi:10.1007/b138696",
    ),
    Definition("levels", "Levels", "Different values of a factor that are compared."),
    Definition("difference", "Difference", "Mean of the first group minus mean of the second."),
    Definition(
        "omnibus", "Kruskal-Wallis test",
        "Rank test of whether all levels have the same distribution, before they are compared two by two; H grows "
        "with the differences between mean ranks. By pairs it takes the pairs of one case as independent. p is not "
        "corrected.",
        "Kruskal and Wallis 1952, doi:10.1080/01621459.1952.10483441",
    ),
    Definition(
        "holm", "Holm's correction",
        "p raised so that the probability of even one false finding among all tests corrected together stays below "
        "the level: the smallest times their number, the next times one less, never falling. All rank tests of the "
        "study by pairs are corrected together, and all by cases.",
        "Holm 1979, Scandinavian Journal of Statistics 6, 65 to 70",
    ),
    Definition(
        "cohens_d", "Cohen's d",
        "(mean of the first - mean of the second) / pooled SD. By convention 0.2 is small, 0.5 medium, 0.8 large.",
        "Cohen 1988, doi:10.4324/9780203771587",
    ),
    Definition(
        "cliffs_delta", "Cliff's delta",
        "Probability that a value of the first group is larger than one of the second, minus the reverse: from -1 to "
        "1, 0 without a difference.",
        "Cliff 1993, doi:10.1037/0033-2909.114.3.494",
    ),
    Definition(
        "dominance", "First-order stochastic dominance",
        "The first group dominates the second if, at every value, its share below that value is at most that "
        "of the second: not only its mean is higher, its whole distribution is. Each direction is tested with "
        "dominance as the assumption: a small p speaks against it. If one direction is rejected and the other is "
        "not, that other one dominates as far as the data can tell; if both are rejected, the distributions cross.",
        "Barrett and Donald 2003, doi:10.1111/1468-0262.00390",
    ),
    Definition(
        "mixed", "Mixed model",
        "Linear model of the agreement of pairs in which cases (and raters) have random effects, so that several "
        "values of one case are not taken for independent. Estimates of fixed effects are differences from the "
        "reference level; log2_size is the change with each doubling of the size of the case. Overlap rises with size "
        "whatever raters do: compare groups of different sizes by the model that has it.",
        "Laird and Ware 1982, doi:10.2307/2529876",
    ),
    Definition(
        "mean_dice", "Mean Dice of a rater",
        "Mean over all pairs of masks of the rater and each other rater of the same case.",
    ),
    Definition(
        "ceiling", "Human ceiling",
        "How well one rater does against the strict majority of the others, case by case: what people reach, to set "
        "beside a model that is measured in the same way; no bound, a model can exceed it. With Dice, "
        "sensitivity and specificity.",
    ),
    Definition(
        "size_bias", "Size bias",
        "(V - V_others) / V_others with V_others the volume of the majority of the others: 0.1 is ten percent too "
        "large.",
    ),
    Definition(
        "boundary_bias", "Boundary bias",
        "Mean signed distance of the rater's boundary to that of the majority of the others: positive outside of it.",
    ),
    Definition("empty_masks", "Empty masks", "Cases in which the rater marked nothing."),
    Definition("rater_cases", "Cases of a rater", "Cases that the rater marked, or left empty, together with others."),
    Definition("case_raters", "Raters of a case", "Raters who marked the case, or left it empty."),
    Definition("best", "Best value", "Value of a measure if all masks are the same."),
    Definition(
        "plan", "Expected width of an interval",
        "Many studies of this size are drawn at random from this one, cases with replacement and raters without. The "
        "middle 95 % of their mean Dice, each the mean over its cases, is the interval; its width is shown.",
    ),
    Definition("problems", "Problems", "What a person should look at. Nothing was changed because of them."),
    Definition("size", "Size of a case", "Mean volume of its masks, empty ones included."),
    Definition(
        "disputed", "Most disputed cases", "The cases with the lowest mean pairwise Dice. “Lowest” is their worst pair."
    ),
    Definition(
        "volume", "Agreement volume curve",
        "Volume that at least k raters mark, divided by the volume that any rater marks: the mean over the cases.",
    ),
)  # fmt: skip
"""Statistics and columns other than measures."""


def definitions(unit: str) -> tuple[tuple[str, tuple[Definition, ...]], ...]:
    """All definitions by chapter; ``unit`` is that of lengths."""
    problems = tuple(
        Definition(f"problem-{kind.replace(' ', '-')}", kind.capitalize(), text) for kind, text in PROBLEMS.items()
    )
    return (
        ("Measures", tuple(_of_measure(measure, unit) for measure in MEASURES.values())),
        ("Statistics, raters and cases", STATISTICS),
        ("Problems", problems),
    )


def _of_measure(measure: Measure, unit: str) -> Definition:
    direction = {True: "higher is better", False: "lower is better", None: "signed"}[measure.higher_is_better]
    best = f"Perfect agreement: {number(measure.best, 0)} ({direction})."
    both = f"If all masks are empty: {_value(measure.both_empty)}."
    one = "" if measure.one_empty is None else f" If some masks are empty: {_value(measure.one_empty)}."
    length = f" In {unit}." if measure.unit else ""
    how = "its sign is left out" if measure.higher_is_better is None else "the mean of both orders is taken"
    order = "" if measure.symmetric else f" Means, figures and cases do not depend on the order of the raters: {how}."
    text = f"{measure.definition[:1].upper()}{measure.definition[1:]}.{length} {best} {both}{one}{order}"
    return Definition(measure.name, measure.title, text, measure.source)


def _value(value: float) -> str:
    return "undefined" if value != value else str(number(value, 0))
