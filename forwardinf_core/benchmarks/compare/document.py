"""From what was measured to tables in Markdown, and to docs/comparison.md with the command of every figure."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from forwardinf_core.benchmarks.compare.contenders import OURS
from forwardinf_core.benchmarks.compare.libraries import LIBRARIES
from forwardinf_core.benchmarks.compare.measure import Failed, Measured
from forwardinf_core.benchmarks.compare.scene import Truth as Known
from forwardinf_core.benchmarks.lds_table import averaged
from forwardinf_core.verification.lds import Lds, Truth, linear_datamodelling_score

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Line:
    """One contender's figures; NaN where it has none. ``one`` is the mean over single models."""

    name: str
    one: tuple[float, float, float]  # LDS, low, high
    mean: tuple[float, float, float]  # of the models' averaged scores
    first: float
    further: float
    together: float
    peak_mib: float
    wrong: tuple[float, float]  # AUROC and average precision of wrong labels by influence on itself
    copies: tuple[float, float]  # share of copies that rank first, and among the first five


@dataclass(frozen=True)
class Comparison:
    """Everything of one project that the document shows."""

    project: str
    command: str
    n_rows: int
    n_queries: int
    n_models: int
    n_wrong: int
    n_copies: int
    threads: int
    pass_s: float
    ceiling: float
    lines: tuple[Line, ...]
    failed: tuple[Failed, ...]
    own_audits: Mapping[str, tuple[float, float]]  # our detections, on the project's own model


def compare(measured: Sequence[Measured], known: Known, truth: Truth) -> tuple[Line, ...]:
    """Return a line per contender, best first by its LDS of one model."""
    lines = [_line(one, known, truth) for one in measured]
    return tuple(sorted(lines, key=lambda line: -line.one[0]))


def wrong_labels(own: Floats, wrong: NDArray[np.bool_]) -> tuple[float, float]:
    """Return AUROC and average precision of a score that is higher where a label is more suspicious."""
    return float(roc_auc_score(wrong, own)), float(average_precision_score(wrong, own))


def copies_found(scores: Floats, copies: Sequence[tuple[int, int]]) -> tuple[float, float]:
    """Return the share of (query, row) copies whose row scores highest for the query, and among the five highest."""
    ranks = [int(np.count_nonzero(scores[query] > scores[query, row])) for query, row in copies]
    return tuple(float(np.mean([rank < best for rank in ranks])) for best in (1, 5))  # type: ignore[return-value]


def markdown(found: Comparison) -> Iterator[str]:
    """Yield the section of one project, line by line."""
    ceiling = "" if np.isnan(found.ceiling) else f" Noise ceiling {found.ceiling:.3f}."
    yield f"## {found.project}"
    yield ""
    yield f"`{found.command}`"
    yield ""
    yield (
        f"{found.n_rows:,} rows, {found.n_queries} random test queries, {found.n_models} models; {found.threads} "
        f"thread(s) of {platform.machine()}, PyTorch {torch.__version__}; a pass takes {found.pass_s:.2f} s.{ceiling} "
        f"{found.n_wrong} labels are known to be wrong, {found.n_copies} queries have a known copy."
    )
    yield ""
    yield "| | LDS, one model | LDS, mean of models | first answer | further query | 100 queries | peak MiB |"
    yield "|---|---|---|---|---|---|---|"
    for line in found.lines:
        lds = " | ".join(_interval(*value) for value in (line.one, line.mean))
        times = " | ".join(_passes(value) for value in (line.first, line.further, line.together))
        yield f"| {_shown(line.name)} | {lds} | {times} | {line.peak_mib:.0f} |"
    yield from _detections(found)
    yield ""
    for failure in found.failed:
        yield f"- {failure.name} is missing: {failure.reason}."
    yield f"- {standing(found)}"
    yield from (f"- {sentence}" for sentence in quicker(found))


def standing(found: Comparison) -> str:
    """Return, in a sentence, whether our default is ahead of every library, and which is ahead where one is."""
    ours = next((line for line in found.lines if line.name == "tail"), None)
    libraries = [line for line in found.lines if line.name in LIBRARIES]
    if ours is None or not libraries:
        return "No library was measured beside our default."
    said = []
    for what in ("one model", "the mean of models"):
        own, (best, name) = _score(ours, what), max((_score(line, what), line.name) for line in libraries)
        word = "ahead of" if own > best else "NOT ahead of"
        said.append(f"with {what} our default ({own:.3f}) is {word} the best library, {name} ({best:.3f})")
    return f"{said[0][0].upper()}{said[0][1:]}; {said[1]}."


def quicker(found: Comparison) -> Iterator[str]:
    """Yield a sentence for every time in which a library is ahead of our default."""
    ours = next((line for line in found.lines if line.name == "tail"), None)
    if ours is None:
        return
    for what, name in (("the first answer", "first"), ("a further query", "further"), ("100 queries", "together")):
        own = getattr(ours, name)
        ahead = [line for line in found.lines if line.name in LIBRARIES and getattr(line, name) < own]
        if ahead:
            said = ", ".join(f"{line.name} ({_passes(getattr(line, name))})" for line in ahead)
            yield f"For {what} our default takes {_passes(own)} passes. Libraries that take fewer: {said}."


def _score(line: Line, what: str) -> float:
    return (line.one if what == "one model" else line.mean)[0]


def _detections(found: Comparison) -> Iterator[str]:
    shown = [line for line in found.lines if not np.isnan(line.wrong[0]) or not np.isnan(line.copies[0])]
    if not shown and not found.own_audits:
        return
    yield ""
    yield "| | wrong labels by influence on itself: AUROC / average precision | copies: first / among five |"
    yield "|---|---|---|"
    for name, value in found.own_audits.items():
        cells = (_pair(value), "") if name.startswith("mislabels") else ("", _pair(value))
        yield f"| **our audit: {name}** | {cells[0]} | {cells[1]} |"
    for line in shown:
        yield f"| {_shown(line.name)} | {_pair(line.wrong)} | {_pair(line.copies)} |"


def _line(one: Measured, known: Known, truth: Truth) -> Line:
    scores = one.scores.double().numpy()  # (n_models, n_queries, n_rows)
    fidelity = scores[:, : known.fidelity_queries]
    singles = np.mean([_lds(linear_datamodelling_score(model, truth)) for model in fidelity], axis=0)
    mean = _lds(linear_datamodelling_score(averaged(fidelity), truth))
    nothing = (float("nan"), float("nan"))
    wrong, copies = nothing, nothing
    if one.own is not None and known.wrong is not None and known.wrong.any():
        wrong = wrong_labels(one.own.double().numpy(), known.wrong)
    if known.copies:
        copies = copies_found(scores[0], known.copies)
    return Line(
        one.name,
        (float(singles[0]), float(singles[1]), float(singles[2])),
        mean,
        one.first,
        one.further,
        one.together,
        one.peak_mib,
        wrong,
        copies,
    )


def _lds(found: Lds) -> tuple[float, float, float]:
    return found.lds, found.low, found.high


def _shown(name: str) -> str:
    return f"**our `{name}`**" if name in OURS else name


def _interval(value: float, low: float, high: float) -> str:
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def _pair(values: tuple[float, float]) -> str:
    return "" if np.isnan(values[0]) else f"{values[0]:.3f} / {values[1]:.3f}"


def _passes(value: float) -> str:
    return f"{value:.2g}" if value < 10 else f"{value:.0f}"
