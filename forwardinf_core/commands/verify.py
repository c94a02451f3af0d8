"""``verify PROJECT …``: is it true? One command a check; each is in a file of its own beside this one."""

from __future__ import annotations

from typing import Annotated

import typer

from forwardinf_core.commands import verify_canaries, verify_hypothesis, verify_lds, verify_removal


def register(app: typer.Typer) -> None:
    """Add the commands of this group."""
    group = typer.Typer(help="Is an answer true? Retrain, plant and compare.", no_args_is_help=True)
    group.callback()(verify)
    verify_hypothesis.register(group)
    verify_lds.register(group)
    verify_removal.register(group)
    verify_canaries.register(group)
    app.add_typer(group, name="verify")


def verify(
    context: typer.Context,
    project: Annotated[str, typer.Argument(help="A folder or demo:NAME.")],
) -> None:
    """Is an answer true? Retrain, plant and compare."""
    context.obj = project  # the commands of the group read it as ``context.obj``
