"""Two programs at the same work on one project, from nothing: both answer, alike, and one run is kept."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from forwardinf_core.audits.audit import Audit
from forwardinf_core.audits.opening import load_audit

pytestmark = pytest.mark.slow
LIMIT_S = 240.0


def test_two_programs_that_begin_the_same_answer_at_once_keep_one_run(digits_audit: Audit, tmp_path: Path) -> None:
    folder = tmp_path / "digits"
    shutil.copytree(digits_audit.folder, folder, ignore=shutil.ignore_patterns(".audit", "demo.json"))
    query = f"test:{load_audit(folder).test_ids[0]}"
    command = [sys.executable, "-m", "forwardinf_core", "attribute", str(folder), "--query", query, "--method", "tail"]
    programs = [
        subprocess.Popen([*command, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    answers = []
    try:
        for program in programs:
            said, complaint = program.communicate(timeout=LIMIT_S)
            assert program.returncode == 0, complaint
            answers.append(json.loads(said))
    finally:
        for program in programs:
            program.kill()
    for part in ("run_id", "top", "bottom"):
        assert answers[0][part] == answers[1][part]
    kept = [path for path in (folder / ".audit" / "runs").iterdir() if not path.name.startswith(".")]
    assert len(kept) == 1
    assert not list((folder / ".audit").rglob(".writing*"))
