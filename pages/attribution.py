"""Attribution: which training rows helped this prediction, and which hurt it?"""

from forwardinf_core.ui import frame
from forwardinf_core.ui.attribution.screen import screen

screen(frame.project())
