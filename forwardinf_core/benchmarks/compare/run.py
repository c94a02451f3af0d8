"""``bench compare``: one project after the other, and the document made of all that were compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from pydantic import ConfigDict, RootModel

from forwardinf_core.audits.audit import Audit
from forwardinf_core.audits.leakage import report as leakage
from forwardinf_core.audits.mislabels.finding import suspects_now
from forwardinf_core.benchmarks.compare.document import Comparison, compare, markdown, wrong_labels
from forwardinf_core.benchmarks.compare.measure import CONTENDERS, Failed, Measured, measure_all
from forwardinf_core.benchmarks.compare.scene import Report, Scene, make_scene
from forwardinf_core.benchmarks.compare.scene import Truth as Known
from forwardinf_core.store.chunks import ChunkStore
from forwardinf_core.store.files import sha256
from forwardinf_core.verification.fidelity import truth_by_retraining
from forwardinf_core.verification.image_recipe import ImageRecipe
from forwardinf_core.verification.lds import noise_ceiling
from forwardinf_core.verification.retraining import Recipe

INTRODUCTION = """# Comparison

Written by `bench compare`; change nothing by hand. Every contender ran in a process of its own, one after the other,
on the same models, rows, queries and cores. *LDS*: linear datamodelling score against networks retrained on random
halves, with 95% intervals (docs/verification.md). Times are in forward passes of the unchanged model over all rows,
measured in the same process; *first answer* is from nothing. Peak memory is of the whole process. All models are
trained by the project's own recipe. *Copies* are ranked by the raw score, *wrong labels* by a row's influence on
itself; our two audits are made for these two questions and run on the project's own model.
"""


class _Stored(RootModel[dict[str, Comparison]]):
    """Comparisons by project, as the file beside the document holds them."""

    model_config = ConfigDict(ser_json_inf_nan="constants")


def compare_project(
    audit: Audit,
    *,
    command: str,
    names: Sequence[str] | None = None,
    models: int = 3,
    subsets: int = 100,
    seeds: int = 1,
    queries: int = 50,
    threads: int = 1,
    limit_s: float = 1_200,
    pairs: Path | None = None,
    report: Report | None = None,
) -> Comparison:
    """Measure the contenders on a project. What was measured before under the same settings is read back."""
    scene, known, drawn, retraining = make_scene(audit, models=models, queries=queries, pairs=pairs, report=report)
    rows = np.arange(len(scene.labels))
    truth, _ = truth_by_retraining(
        retraining, rows, len(rows) + drawn, subsets=subsets, seeds=seeds, report=report, workers=threads
    )
    store = _store(audit, retraining.recipe, scene, threads)
    found = measure_all(scene, list(names or CONTENDERS), store, threads=threads, limit_s=limit_s, report=report)
    done = [one for one in found if isinstance(one, Measured)]
    lines = compare(done, known, truth)
    return Comparison(
        audit.project_name,
        command,
        len(rows),
        known.fidelity_queries,
        models,
        0 if known.wrong is None else int(known.wrong.sum()),
        len(known.copies),
        threads,
        float(np.median([one.pass_s for one in done])) if done else float("nan"),
        noise_ceiling(truth),
        lines,
        tuple(one for one in found if isinstance(one, Failed)),
        _own_audits(audit, known, report),
    )


def write_document(found: Comparison, path: Path) -> None:
    """Write or replace the project's section of the document; other projects' sections stay."""
    beside = path.with_suffix(".json")
    kept = _Stored.model_validate_json(beside.read_bytes()).root if beside.exists() else {}
    kept[found.project] = found
    beside.write_text(_Stored(kept).model_dump_json(indent=1) + "\n")
    path.write_text("\n".join(_document(list(kept.values()))))


def as_record(found: Comparison) -> object:
    """Return a comparison as JSON holds it."""
    return _Stored({found.project: found}).model_dump(mode="json")[found.project]


def _document(found: Sequence[Comparison]) -> Iterator[str]:
    yield INTRODUCTION
    for one in found:
        yield from markdown(one)
        yield ""


def _store(audit: Audit, recipe: Recipe, scene: Scene, threads: int) -> ChunkStore:
    assert isinstance(recipe, ImageRecipe)
    prints = sha256(scene.queries.numpy().tobytes() + scene.query_labels.numpy().tobytes())
    binding = recipe.binding(f"compare-{len(scene.checkpoints)}-{threads}-{prints[:16]}")
    return ChunkStore(audit.project.audit_dir / "retrained" / f"compare-{binding.key()[:16]}", binding)


def _own_audits(audit: Audit, known: Known, report: Report | None) -> dict[str, tuple[float, float]]:
    """Return what our own detections find: wrong labels (AUROC, average precision), copies (share found first, NaN)."""
    found: dict[str, tuple[float, float]] = {}
    if known.wrong is not None and known.wrong.any():
        found["mislabels"] = wrong_labels(suspects_now(audit, report=report).score.astype(np.float64), known.wrong)
    if known.copies:
        pairs = leakage.run(audit, seed=0, report=report).pairs
        hits = [pairs[test].train == row for test, (_, row) in zip(known.copy_tests, known.copies, strict=True)]
        found["leakage (first only)"] = (float(np.mean(hits)), float("nan"))
    return found
