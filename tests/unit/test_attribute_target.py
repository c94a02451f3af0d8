"""Screen and command line ask the same question where a person names no class."""

from __future__ import annotations

from typing import cast

from forwardinf_core.audits.audit import PREDICTED, Audit
from forwardinf_core.commands.attribute import class_code
from tests.pages.fake_services import FakeAudit


def test_without_a_class_the_command_asks_about_the_predicted_one_as_the_screen_does() -> None:
    audit = cast("Audit", FakeAudit())
    assert class_code(audit, None) == PREDICTED
    assert class_code(audit, "label") is None
    assert class_code(audit, "7") == 7


def test_a_class_that_is_called_label_is_that_class() -> None:
    audit = cast("Audit", FakeAudit(classes=("label", *"123456789")))
    assert class_code(audit, "label") == 0
