"""The job ``mislabels``: every signal on the training rows, one ranking, and a run that keeps all of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from forwardinf_core.audits.audit import Audit
from forwardinf_core.audits.mislabels import keeping
from forwardinf_core.audits.mislabels.evidence import Evidence
from forwardinf_core.audits.mislabels.records import Suspects
from forwardinf_core.audits.mislabels.requirements import check_request, checked_labels
from forwardinf_core.audits.mislabels.signals import DEFAULT
from forwardinf_core.audits.mislabels.trusted import trusted_of
from forwardinf_core.audits.opening import load_audit
from forwardinf_core.jobs import run as jobs
from forwardinf_core.jobs.context import JobContext
from forwardinf_core.jobs.registry import job
from forwardinf_core.store.binding import Binding, Option
from forwardinf_core.store.runs import find_run, list_runs

KIND = "mislabels"
VERSION = 7  # rises when the same options would give other scores
FOLDS = 5

Report = Callable[[float, str], None]


@dataclass(frozen=True)
class FindOptions:
    """How to search. ``seed`` draws folds, patches, landmarks and planted errors.

    ``retrained`` trains the built-in network anew for so many folds, ``networks`` trains so many without the rows that
    look wrong and averages them: minutes each.
    """

    folds: int = FOLDS
    seed: int = 0
    retrained: int = 0
    networks: int = 0


def find_suspects(audit: Audit, options: FindOptions | None = None) -> Suspects | None:
    """Return a stored search of this model and these rows: the one with these options, else the newest; or None."""
    if options is not None:
        record = find_run(audit.project, KIND, _binding(audit, options).key())
        return None if record is None else keeping.opened(audit, record)
    inputs = _inputs(audit)
    for record in list_runs(audit.project, KIND):
        if record.summary.get("inputs") == inputs and record.summary.get("version") == VERSION:
            return keeping.opened(audit, record)
    return None


def start_suspects(audit: Audit, options: FindOptions = FindOptions()) -> int:
    """Hand the search to the worker and return the id of its job, for ``jobs.run.status``."""
    return jobs.submit(KIND, audit.project.root, options)


def suspects_now(audit: Audit, options: FindOptions = FindOptions(), report: Report | None = None) -> Suspects:
    """Return the suspects: read back where they are stored, else searched for here and now."""
    found = find_suspects(audit, options)
    if found is None:

        def on_report(done: float, total: float, note: str) -> None:
            if report is not None:
                report(done / total if total else 0.0, note)

        jobs.run_here(KIND, audit.project.root, options, on_report)
        found = find_suspects(audit, options)
    assert found is not None
    return found


def fingerprints_of(project: Path, _options: object) -> dict[str, str]:
    """Return what a search reads."""
    return _inputs(load_audit(project))


@job(KIND, version=VERSION, fingerprints=fingerprints_of)
def search(context: JobContext, options: FindOptions) -> dict[str, Option]:
    """Search the training rows for wrong labels; returns the id of the run."""
    audit = load_audit(context.project)
    binding = _binding(audit, options)
    known = find_run(audit.project, KIND, binding.key())
    if known is None:
        labels = checked_labels(audit.train)
        check_request(audit, DEFAULT, retrained=options.retrained, networks=options.networks)
        evidence = Evidence(audit, context, labels, trusted_of(audit, context), options.folds, options.seed)
        known = keeping.save(
            evidence,
            binding,
            retrained=options.retrained,
            n_networks=options.networks,
            summary={"inputs": dict(_inputs(audit)), "version": VERSION},
        )
    return {"run": known.id}


def _inputs(audit: Audit) -> dict[str, str]:
    found = {"model": audit.model.fingerprint, "train": audit.train.fingerprint}
    trusted = audit.project.trusted_rows(audit.classes)
    if trusted is not None:
        found["trusted"] = trusted.fingerprint
    if audit.project.config.checkpoints:
        found |= {f"checkpoint-{n}": one.model.fingerprint for n, one in enumerate(audit.members())}
    return found


def _binding(audit: Audit, options: FindOptions) -> Binding:
    return Binding(KIND, _inputs(audit), asdict(options), VERSION)
