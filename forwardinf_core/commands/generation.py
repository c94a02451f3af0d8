"""``generate``, and ``attribute`` for diffusion projects: which training images made this picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from forwardinf_core.commands.output import AsJson, print_json, print_table
from forwardinf_core.commands.progress import progress_line
from forwardinf_core.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from forwardinf_core.audits.generation.records import Generation, Picture
    from forwardinf_core.audits.generation.tracing import GenerationAudit


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command("generate")(generate)


def generate(
    project: Annotated[str, typer.Argument(help="A folder or demo:NAME with a diffusion model.")],
    out: Annotated[Path, typer.Option(help="Write the picture to this PNG file.")],
    prompt: Annotated[str | None, typer.Option(help="Class to paint, or words, as the model takes it.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Same seed and options, same picture.")] = 0,
    steps: Annotated[int, typer.Option(min=1, help="Denoising steps.")] = 50,
    guidance: Annotated[float, typer.Option(min=0, help="Above 1: more like its class, less varied.")] = 1.0,
    as_json: AsJson = False,
) -> None:
    """Generate a picture with the project's model; trace it with attribute."""
    from forwardinf_core.audits.generation.checking import UNFILTERED
    from forwardinf_core.audits.generation.opening import open_generation_audit
    from forwardinf_core.store.files import write_bytes

    with progress_line(quiet=as_json) as report:
        audit = open_generation_audit(project, report=report)
        picture = audit.generate(prompt, seed=seed, steps=steps, guidance=guidance)
    write_bytes(out, audit.pictures.content(picture.query))
    unread = audit.model.prompts.unread(prompt or "") if audit.model.prompts is not None else 0
    if as_json:
        print_json({"query": picture.query, "file": str(out), "class": prompt, "unread": unread, **picture.made})
    else:
        typer.echo(f"{picture.query} written to {out}")
        if unread:
            typer.echo(f"The model reads the prompt without its last {unread} tokens: it is too long.")
        if audit.model.has_filter:
            typer.echo(" ".join(UNFILTERED))


def attribute_pictures(
    project: str,
    queries: list[str],
    *,
    prompt: str | None,
    method: str | None,
    changes: Mapping[str, object],
    top: int,
    scores: Path | None,
    as_json: bool,
) -> None:
    """Trace pictures: rows of the project (train:ID, test:ID), image:KEY as generate names it, or image files."""
    from forwardinf_core.audits.generation.methods import method_named
    from forwardinf_core.audits.generation.opening import open_generation_audit

    with progress_line(quiet=as_json) as report:
        audit = open_generation_audit(project, report=report)
        chosen = method_named(method, **{name: value for name, value in changes.items() if value is not None})
        pictures = [picture_named(audit, query, prompt) for query in queries]
        found = audit.trace(pictures, chosen, report)
    if scores is not None:
        _write_scores(audit, found, scores)
    records = [record_of(audit, one, top) for one in found]
    if as_json:
        print_json(records[0] if len(records) == 1 else {"queries": records})
        return
    for record in records:
        _print(record)


def picture_named(audit: GenerationAudit, query: str, prompt: str | None) -> Picture:
    """Return a picture: a row of the project, one that was painted here, or an image file, which is kept."""
    if query.split(":", 1)[0] in ("train", "test", "image") and not Path(query).is_file():
        return audit.picture(query, prompt)
    try:
        content = Path(query).read_bytes()
    except OSError as error:
        raise DataError(
            f"There is no image file {query}.", hint="A query is train:ID, test:ID, image:KEY, or the path of an image."
        ) from error
    return audit.picture(audit.pictures.add(content, Path(query).name), prompt)


def _write_scores(audit: GenerationAudit, found: list[Generation], path: Path) -> None:
    import pandas as pd

    from forwardinf_core.store.files import write_bytes

    frames = []
    for one in found:
        columns: dict[str, object] = {} if len(found) == 1 else {"query_id": one.picture.query}
        columns |= {"id": list(audit.train_ids), "score": one.scores.score}
        if one.scores.score_full is not None:
            columns["score_full"] = one.scores.score_full
        frames.append(pd.DataFrame({**columns, "pixel": one.pixel, "feature": one.feature}))
    table: pd.DataFrame = pd.concat(frames, ignore_index=True)
    write_bytes(path, table.to_parquet(index=False))


def record_of(audit: GenerationAudit, found: Generation, top: int) -> dict[str, object]:
    """Return one trace as JSON holds it."""
    return {
        "run_id": found.run_id,
        "query": {
            "id": found.picture.query,
            "class": audit.name_of(found.picture.label),
            "made": dict(found.picture.made),
            "loss_before": found.loss_before,
            "loss_after": found.loss_after,
        },
        "method": dict(found.options),
        "controls": {"unchanged_max_abs_score": found.unchanged_max_abs_score},
        "seconds": found.seconds,
        "top": _rows(audit, found, found.scores.top(top)),
        "bottom": _rows(audit, found, found.scores.bottom(top)),
    }


def _rows(audit: GenerationAudit, found: Generation, positions: NDArray[np.int64]) -> list[dict[str, object]]:
    labels, classes = audit.train.labels, audit.train.classes
    return [
        {
            "id": audit.train_ids[position],
            "score": float(found.scores.score[position]),
            "percentile": float(found.scores.percentile[position]),
            "label": classes[int(labels[position])] if labels[position] >= 0 else None,
            **({"caption": audit.captions[position][0]} if audit.captions else {}),
            "loss": float(found.scores.base_loss[position]),
            "pixel": float(found.pixel[position]),
            "feature": float(found.feature[position]),
        }
        for position in positions.tolist()
    ]


def _print(record: dict[str, object]) -> None:
    query = record["query"]
    assert isinstance(query, dict)
    typer.echo(f"{query['id']} (class {query['class']}), run {record['run_id']}")
    for end, word in (("top", "helped"), ("bottom", "hurt")):
        rows = record[end]
        assert isinstance(rows, list)
        typer.echo(f"\n{word}:" if rows else f"\nNo row {word}.")
        if rows:
            word = "caption" if "caption" in rows[0] else "class"
            name = "caption" if word == "caption" else "label"
            cells = [(r["id"], str(r[name])[:60], f"{r['percentile']:.1f}", f"{r['score']:+.3g}") for r in rows]
            print_table(("id", word, "percentile", "score"), cells)
