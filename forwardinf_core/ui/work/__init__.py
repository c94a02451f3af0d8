"""Long work on the screen: the panel in the sidebar, the progress of a job in its place, and what a person may ask."""

from __future__ import annotations

from collections.abc import Callable

Action = Callable[[int], None]


def cancel(job_id: int) -> None:
    """Stop a job."""
    from forwardinf_core.jobs import run

    run.cancel(job_id)


def retry(job_id: int) -> None:
    """Go on with a job."""
    from forwardinf_core.jobs import run

    run.retry(job_id)
