"""The traffic lights of a project: grey until a check is made, then its figure."""

from __future__ import annotations

import shutil

import pytest

from forwardinf_core.audits.audit import Audit
from forwardinf_core.audits.opening import load_audit
from forwardinf_core.verification.hypothesis import hypothesis_now
from forwardinf_core.verification.hypothesis_records import HypothesisOptions
from forwardinf_core.verification.lights import HYPOTHESIS, brief, lights, stamp


def test_the_hypothesis_is_grey_until_it_is_verified_on_the_projects_own_rows(
    digits_audit: Audit, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("lights") / "project"
    shutil.copytree(digits_audit.folder, folder, ignore=shutil.ignore_patterns("runs", "demo.json"))
    audit = load_audit(folder)
    before = {light.name: light for light in lights(audit)}
    assert before[HYPOTHESIS].colour == "grey"
    assert before[HYPOTHESIS].part == HYPOTHESIS
    mark = stamp(audit)
    found = hypothesis_now(audit.project, HypothesisOptions(rows=120, each=2))
    assert stamp(audit) != mark
    after = {light.name: light for light in lights(audit)}[HYPOTHESIS]
    assert after.shown == f"{found.pearson:.3f}"
    assert after.colour == ("green" if found.pearson >= 0.9 else "amber" if found.pearson >= 0.7 else "red")
    assert len(brief(after).meaning) < 90
