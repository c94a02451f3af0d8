"""``memorization`` of a language model: texts ranked, with the words that lean on each most."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from forwardinf_core.commands.output import print_json, print_table
from forwardinf_core.commands.progress import progress_line
from forwardinf_core.errors import AuditError

if TYPE_CHECKING:
    from forwardinf_core.audits.tracing.audit import TracingAudit
    from forwardinf_core.audits.tracing.memorization import MemorizedTexts

WORDS = 5  # most memorized tokens named of each text
SHOWN = 60  # characters of a text in the table


def of_language_model(project: str) -> bool:
    """Say whether PROJECT is one of a language model; a demo is known by its name before it is built."""
    from forwardinf_core.projects.demos.facts import DEMO
    from forwardinf_core.projects.language import language_task_of
    from forwardinf_core.projects.load import DEMO_PREFIX

    if project.startswith(DEMO_PREFIX):
        return project.removeprefix(DEMO_PREFIX) == DEMO
    return language_task_of(project) is not None


def score_texts(
    project: str, method: str | None, *, reference: int, top: int, scores: Path | None, as_json: bool
) -> None:
    """Score, write and print."""
    from forwardinf_core.audits.tracing import memorization
    from forwardinf_core.commands.tracing_project import opened

    if reference:
        raise AuditError(
            "A language model is not retrained here.",
            hint="bench memorization --texts compares the scores with retraining on small corpora.",
        )
    options = memorization.options_of(method)
    with progress_line(quiet=as_json) as report:
        audit = opened(project, report)
        found = memorization.run(audit, options, report)
        records = [_record(audit, found, position) for position in found.ranked()[:top].tolist()]
    if scores is not None:
        memorization.write_scores(found, scores)
    if as_json:
        print_json(
            {
                "run_id": found.run_id,
                "n_train": len(found.ids),
                "method": found.options,
                "has_reference": False,
                "seconds": found.seconds,
                "top": records,
            }
        )
        return
    cells = []
    for one in records:
        text = " ".join(str(one["text"]).split())
        words = one["words"]
        assert isinstance(words, list)
        strongest = ", ".join(str(word["text"]).strip() for word in words)
        cells.append((str(one["id"]), f"{one['percentile']:.1f}", strongest, text[:SHOWN]))
    print_table(("id", "percentile", "leans on it most", "text"), cells)


def _record(audit: TracingAudit, found: MemorizedTexts, position: int) -> dict[str, object]:
    from forwardinf_core.audits.tracing.memorization import memorized_tokens, sentence_of

    shares = sorted(memorized_tokens(audit, position), key=lambda one: -one.score)
    return {
        "id": found.ids[position],
        "score": float(found.score[position]),
        "percentile": float(found.percentile[position]),
        "tokens": int(found.tokens[position]),
        "probability_of_tokens": float(found.chance[position]),
        "sentence": sentence_of(found, position),
        "text": audit.texts[position],
        "words": [{"text": one.text, "score": one.score} for one in shares[:WORDS] if one.score > 0],
    }
