"""``attribute``: which training rows helped and hurt, for test rows, image files, or texts as typed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from forwardinf_core.commands.output import AsJson, print_json, print_table
from forwardinf_core.commands.progress import progress_line
from forwardinf_core.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

    from forwardinf_core.audits.audit import Audit
    from forwardinf_core.audits.methods import Method
    from forwardinf_core.audits.records import Attribution

ALL_TEST_ROWS = "test:*"
OWN_LABEL = "label"  # as a target, as in the link of the screen
SHOWN = 70  # characters of a text in a table


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command("attribute")(attribute)


def attribute(
    project: Annotated[str, typer.Argument(help="A folder or demo:NAME.")],
    query: Annotated[list[str], typer.Option(help="test:ID, test:*, a file, or a text; may be given several times.")],
    target: Annotated[
        str | None,
        typer.Option(help="Class asked about; label = each row's own. Without it the predicted class, as on screen."),
    ] = None,
    method: Annotated[str | None, typer.Option(help="head, tail, full, cascade, forward-inf, or SCOPE-STEP.")] = None,
    top: Annotated[int, typer.Option(min=0, help="Rows shown at each end.")] = 10,
    scores: Annotated[Path | None, typer.Option(help="Write every row's score to this parquet file.")] = None,
    damping: Annotated[float | None, typer.Option(help="Relative damping of the curvature.")] = None,
    rise: Annotated[float | None, typer.Option(help="How far the step moves the query's log-odds.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps of SGD or Adam.")] = None,
    direction: Annotated[str | None, typer.Option(help="ascent, descent or central.")] = None,
    parameters: Annotated[str | None, typer.Option(help="Names or patterns of what may move, with commas.")] = None,
    average: Annotated[bool, typer.Option("--average", help="Average over the project's checkpoints.")] = False,
    prompt: Annotated[str | None, typer.Option(help="Diffusion: the class a picture was made for.")] = None,
    allow_code: Annotated[bool, typer.Option("--allow-code", help="Let an adapter's Python file run.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show which training rows helped (positive score) and which hurt a prediction."""
    from forwardinf_core.audits.opening import open_audit, task_of

    if allow_code:
        from forwardinf_core.projects.places import allow_code_here

        allow_code_here()
    if task_of(project) == "diffusion":
        from forwardinf_core.commands.generation import attribute_pictures

        changes = {"damping": damping, "rise": rise, "steps": steps, "direction": direction, "parameters": parameters}
        attribute_pictures(
            project, query, prompt=prompt, method=method, changes=changes, top=top, scores=scores, as_json=as_json
        )
        return
    with progress_line(quiet=as_json) as report:
        audit = open_audit(project, report=report)
        chosen = chosen_method(
            audit,
            method,
            damping=damping,
            rise=rise,
            steps=steps,
            direction=direction,
            parameters=parameters,
            average=average or None,
        )
        asked = class_code(audit, target)
        found = audit.attribute_all(resolve(audit, query), chosen, asked, report=report)
    if scores is not None:
        write_scores(audit, found, scores)
    records = [record_of(audit, one, top) for one in found]
    if as_json:
        print_json(records[0] if len(records) == 1 else {"queries": records})
        return
    for record in records:
        print_record(record)


def chosen_method(audit: Audit, name: str | None, **changes: object) -> Method:
    """Return the method asked for, else the best one this model has: tail, head, full."""
    from forwardinf_core.audits.methods import method_named

    if name is None:
        name = "tail" if audit.model.tail else "head" if audit.model.head else "full"
    return method_named(name, **{key: value for key, value in changes.items() if value is not None})


def class_code(audit: Audit, target: str | None) -> int | None:
    """Return the class a person names, by name or by code: None for each row's own label.

    Raises DataError with the classes there are.
    """
    from forwardinf_core.audits.audit import PREDICTED

    if target is None:
        return PREDICTED
    if target in audit.classes:
        return audit.classes.index(target)
    if target == OWN_LABEL:
        return None
    if target.isascii() and target.isdigit() and int(target) < len(audit.classes):
        return int(target)
    names = ", ".join(audit.classes[:12]) + (", …" if len(audit.classes) > 12 else "")
    raise DataError(f"The model has no class ‘{target}’.", hint=f"Its classes: {names}.")


def resolve(audit: Audit, queries: list[str]) -> list[str]:
    """Return queries as the audit names them: all test rows for test:*, files and typed texts as uploads."""
    found: list[str] = []
    for query in queries:
        if query == ALL_TEST_ROWS:
            found += [f"test:{row_id}" for row_id in audit.test_ids]
        elif query.startswith("test:"):
            found.append(query)
        else:
            found.append(added(audit, query))
    return list(dict.fromkeys(found))


def added(audit: Audit, query: str) -> str:
    """Return the query of a file, or of a text as typed where rows are texts and there is no file of that name."""
    path = Path(query)
    try:
        content = path.read_bytes()
    except (OSError, ValueError) as error:  # the latter for a text with a NUL character
        if audit.content == "text":
            return audit.add_text(query)
        raise DataError(
            f"There is no image file {query}.", hint="A query is test:ID, test:*, or the path of an image."
        ) from error
    return audit.add_upload(content, path.name)


def write_scores(audit: Audit, found: list[Attribution], path: Path) -> None:
    """Write id, score (and score_full of a cascade) of every training row; query_id first for several queries."""
    import pandas as pd

    from forwardinf_core.store.files import write_bytes

    frames = []
    for one in found:
        columns: dict[str, object] = {} if len(found) == 1 else {"query_id": one.query}
        columns |= {"id": list(audit.train_ids), "score": one.scores.score}
        if one.scores.score_full is not None:
            columns["score_full"] = one.scores.score_full
        frames.append(pd.DataFrame(columns))
    table: pd.DataFrame = pd.concat(frames, ignore_index=True)
    write_bytes(path, table.to_parquet(index=False))


def record_of(audit: Audit, found: Attribution, top: int) -> dict[str, object]:
    """Return one attribution as JSON holds it."""
    ends = {"top": found.scores.top(top), "bottom": found.scores.bottom(top)}
    return {
        "run_id": found.run_id,
        "query": {
            "id": found.query,
            "prediction": audit.classes[found.prediction.prediction],
            "confidence": found.prediction.confidence,
            "label": audit.classes[found.prediction.label] if found.prediction.label >= 0 else None,
            "target": audit.classes[found.target],
            "loss_before": found.method.loss_before,
            "loss_after": found.method.loss_after,
        },
        "method": dict(found.method.options),
        "controls": {
            "unchanged_max_abs_score": found.unchanged_max_abs_score,
            "unchanged_rows": found.unchanged_rows,
        },
        "seconds": found.seconds,
        **{end: [row_record(audit, found, int(p)) for p in positions] for end, positions in ends.items()},
    }


def row_record(audit: Audit, found: Attribution, position: int) -> dict[str, object]:
    """Return one training row of an answer."""
    record: dict[str, object] = {
        "id": audit.train_ids[position],
        "score": float(found.scores.score[position]),
        "percentile": float(found.scores.percentile[position]),
        "label": audit.classes[int(audit.train_labels[position])],
        **({"text": audit.text("train", position)} if audit.content == "text" else {}),
        "loss": float(found.scores.base_loss[position]),
    }
    if found.scores.score_full is not None:
        record["score_full"] = float(found.scores.score_full[position])
    return record


def one_line(text: str) -> str:
    """Return the beginning of a text as a terminal shows it: one line, without control characters."""
    flat = " ".join("".join(c if c.isprintable() or c.isspace() else " " for c in text[: 4 * SHOWN]).split())
    return flat if len(flat) <= SHOWN else flat[: SHOWN - 1] + "…"


def print_record(record: dict[str, object]) -> None:
    """Print one attribution for a person."""
    query, method = record["query"], record["method"]
    assert isinstance(query, dict)
    assert isinstance(method, dict)
    typer.echo(
        f"{query['id']}: the model says {query['prediction']} ({100 * query['confidence']:.0f}%), "
        f"label {query['label']}; asked about {query['target']}, method {method['name']}, run {record['run_id']}"
    )
    for end, word in (("top", "helped"), ("bottom", "hurt")):
        rows = record[end]
        assert isinstance(rows, list)
        typer.echo(f"\n{word}:" if rows else f"\nNo row {word}.")
        if rows:
            has_text = "text" in rows[0]
            cells = [
                (r["id"], r["label"], f"{r['percentile']:.1f}", f"{r['score']:+.3g}", f"{r['loss']:.3g}")
                + ((one_line(r["text"]),) if has_text else ())
                for r in rows
            ]
            columns = ("id", "label", "percentile", "score", "own loss", *(["text"] if has_text else []))
            print_table(columns, cells)
    typer.echo("")
