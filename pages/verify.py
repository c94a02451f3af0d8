"""Verify: does an answer hold, and can the method be trusted on this project?"""

from forwardinf_core.ui import frame, messages
from forwardinf_core.ui.verify.checks import checks_part
from forwardinf_core.ui.verify.fidelity import fidelity_part
from forwardinf_core.ui.verify.hypothesis import hypothesis_part
from forwardinf_core.ui.verify.parts import part_choice
from forwardinf_core.ui.verify.removal import removal_part

PARTS = {
    "removal": removal_part,
    "canaries": checks_part,
    "hypothesis": hypothesis_part,
    "lds": fidelity_part,
}

project = frame.project()
frame.heading("Verify", "Does it hold? Retrain, plant, shuffle, and look again.")
part = part_choice(tuple(PARTS))
with messages.guard():
    PARTS[part](project)
