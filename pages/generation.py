"""Generation tracing: which training images made this generated picture?"""

from forwardinf_core.ui import frame
from forwardinf_core.ui.generation.screen import screen

screen(frame.generation())
