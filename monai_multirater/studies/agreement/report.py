# SPDX-License-Identifier: Apache-2.0
"""The report of an agreement study: one HTML file that needs nothing but itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from monai_multirater._version import __version__
from monai_multirater.data.writers import write_atomically
from monai_multirater.studies.agreement.report_cases import disputed_section, problem_section, size_section
from monai_multirater.studies.agreement.report_definitions import definitions
from monai_multirater.studies.agreement.report_facts import facts, findings, lead
from monai_multirater.studies.agreement.report_groups import comparison_sections, mixed_section
from monai_multirater.studies.agreement.report_parts import Section, breakable
from monai_multirater.studies.agreement.report_plan import plan_section
from monai_multirater.studies.agreement.report_raters import distribution_section, rater_section
from monai_multirater.studies.agreement.result import AgreementStudy
from monai_multirater.visualize.arrays import COLORS

__all__ = ["write_agreement_report"]


def write_agreement_report(study: AgreementStudy, path: Path) -> Path:
    """Write the report of a study as one HTML file.

    The file holds its figures, pictures and style. It runs no script and its own policy forbids every request, so that
    it can be read without a network and passed on by itself. The same study gives the same bytes. What a study does not
    hold (surface distances, a human ceiling, groups, pictures) has no place in its report.

    Of ``study.summary`` it reads ``measures`` (by name: ``low`` and ``high`` of the mean; where absent, an interval is
    made from the cases), ``group_column`` (name of the factor that divides the cases), ``plan`` (rows of
    ``plan_study``), ``remarks``, ``version`` and ``request``.

    Args:
        study: what was found.
        path: the file, ``report.html`` for instance; its folder is made when missing.

    Returns:
        ``path``.
    """
    page = _render(study).encode("utf-8")
    return write_atomically(Path(path), lambda name: Path(name).write_bytes(page))


def _render(study: AgreementStudy) -> str:
    environment = Environment(
        loader=PackageLoader("monai_multirater.studies.agreement"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters["breakable"] = breakable
    return environment.get_template("report.html").render(
        study=study,
        facts=facts(study),
        lead=lead(study),
        findings=findings(study),
        sections=_sections(study),
        definitions=definitions(study.unit),
        made=_made(study.summary),
        colors=COLORS,
        style=Markup(environment.get_template("report.css").render(colors=COLORS)),
    )


def _sections(study: AgreementStudy) -> tuple[Section, ...]:
    found = (
        distribution_section(study),
        rater_section(study),
        *comparison_sections(study),
        mixed_section(study),
        size_section(study),
        disputed_section(study),
        problem_section(study),
        plan_section(study),
    )
    return tuple(section for section in found if section is not None and section.blocks)


def _made(summary: Mapping[str, Any]) -> tuple[tuple[str, tuple[str, ...], bool], ...]:
    """How the study was made: (what, values, whether they are code)."""
    remarks = tuple(str(remark) for remark in summary.get("remarks", ()))
    found: list[tuple[str, tuple[str, ...], bool]] = [("Remarks", remarks, False)] if remarks else []
    found.append(("Made with", (f"monai-multirater {summary.get('version', __version__)}",), False))
    if summary.get("request"):
        request = summary["request"]
        text = request if isinstance(request, str) else json.dumps(request, indent=2, default=str, ensure_ascii=False)
        found.append(("Request", (text,), True))
    return tuple(found)
