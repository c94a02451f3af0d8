"""The work that ``bench kills`` kills is known to a program that has done nothing else yet."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
from forwardinf_core.benchmarks.kills import works
from forwardinf_core.jobs.registry import find_kind
print(*(find_kind(kind).name for kind, _, _ in works().values()))
"""


def test_every_kind_of_work_is_registered_in_a_fresh_program() -> None:
    found = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert found.stdout.split() == ["attribute", "prepare", "fit"], found.stderr
