# SPDX-License-Identifier: Apache-2.0
"""Agreement studies: measure a data set or start from a table of pairs, compare, report."""

from monai_multirater.studies.agreement.existing import agreement_from_pairs
from monai_multirater.studies.agreement.planned import plan_from_study
from monai_multirater.studies.agreement.report import write_agreement_report
from monai_multirater.studies.agreement.result import AgreementStudy, Gallery
from monai_multirater.studies.agreement.study import agreement_study, incomplete

__all__ = [
    "AgreementStudy",
    "Gallery",
    "agreement_from_pairs",
    "agreement_study",
    "incomplete",
    "plan_from_study",
    "write_agreement_report",
]
