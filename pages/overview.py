"""Overview: what this project is, how good the model is, and where it goes wrong."""

import streamlit as st

from forwardinf_core.audits import overview
from forwardinf_core.ui import frame, messages
from forwardinf_core.ui.attribution.question import Project
from forwardinf_core.ui.generation.overview import overview as of_generation
from forwardinf_core.ui.overview_parts import about, caches, classes, confusions, next_step, sizes
from forwardinf_core.ui.verify.summary import trust


def of_classification(project: Project) -> None:
    """Draw the overview of a classifier."""
    found = overview.summarise(project.audit)
    frame.heading(found.name, found.origin)
    sizes(found)
    mistakes, facts = st.columns([2.1, 1], gap="large")
    with mistakes:
        confusions(project, found)
        with messages.guard():
            trust(project)
        classes(found)
    with facts:
        next_step(found)
        about(found)
        caches(found)


with messages.guard():
    if frame.is_about_generation():
        of_generation(frame.generation())
    else:
        of_classification(frame.project())
