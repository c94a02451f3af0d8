"""``check`` for diffusion projects: images are decoded, the model is tried, and what work costs is reckoned from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from forwardinf_core.audits.generation.costs import dry_run_of, of_every
from forwardinf_core.audits.generation.tracing import GenerationAudit, load_generation_audit
from forwardinf_core.jobs.forecast import Forecast
from forwardinf_core.projects.content_check import check_content
from forwardinf_core.projects.findings import Findings, Problem

Report = Callable[[float, str], None]


UNFILTERED = (
    "The pipeline's safety checker is not run.",
    "What is painted here is shown as the model paints it, and traced as it is.",
)


@dataclass(frozen=True)
class GenerationCheck:
    """What was found. ``pass_seconds``: one look at every training image; ``costs``: of the first work of each sort."""

    problems: tuple[Problem, ...]
    images: int
    parameters: int
    n_timesteps: int
    pass_seconds: float | None
    costs: dict[str, Forecast]

    @property
    def is_ready(self) -> bool:
        """Say whether pictures can be traced."""
        return not any(problem.level == "error" for problem in self.problems)


def check_generation(ref: str | Path, *, all_images: bool = False, report: Report | None = None) -> GenerationCheck:
    """Decode the images of a project, run its denoiser on a few draws, and say what work costs. Writes nothing.

    Raises ProjectError, DataError or ModelError where the project cannot be opened.
    """
    tell, found = report or (lambda _fraction, _note: None), Findings()
    tell(0.0, "Opening the project")
    audit = load_generation_audit(ref)
    for number, (name, rows) in enumerate((("train", audit.train), ("test", audit.test))):

        def tell_part(share: float, note: str, begin: float = 0.1 + 0.4 * number) -> None:
            tell(begin + 0.4 * share, note)

        check_content(name, rows, None, found, all_rows=all_images, tell=tell_part)
    with found.trying("train"):
        check_captions(audit, found)
    if audit.model.has_filter:
        found.add("warning", "model", *UNFILTERED)
    tell(0.9, "Trying the model")
    rates = None
    with found.trying("model"):
        rates = dry_run_of(audit).make()
    tell(1.0, "Checked")
    return GenerationCheck(
        problems=tuple(found.problems),
        images=len(audit.train),
        parameters=sum(value.numel() for value in audit.model.module.parameters()),
        n_timesteps=audit.model.n_timesteps,
        pass_seconds=rates.forward_seconds if rates else None,
        costs=of_every(audit, rates) if rates else {},
    )


def check_captions(audit: GenerationAudit, found: Findings) -> None:
    """Say how many captions are longer than what the text encoder reads."""
    prompts = audit.model.prompts
    if prompts is None:
        return
    captions = [caption for each in audit.captions for caption in each]
    n_cut = sum(prompts.unread(caption) > 0 for caption in captions)
    if n_cut:
        found.add(
            "warning",
            "train",
            f"{n_cut:,} of {len(captions):,} captions have more than the {prompts.length} tokens that are read.",
            "What comes after them does not count, in training or here.",
        )
