"""What the browser is given of a question: the card of its query, the board of its rows and the histogram.

The same records reach it two ways: early, fetched by the gallery a person clicked in, and with the server's drawing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from forwardinf_core.errors import AuditError
from forwardinf_core.ui import answers, texts, thumbs
from forwardinf_core.ui.address import Address
from forwardinf_core.ui.attribution.question import Project, Question, answer, ask, is_quick
from forwardinf_core.ui.components.bars import Bar
from forwardinf_core.ui.components.board import Board, Side
from forwardinf_core.ui.components.card import Card, Words
from forwardinf_core.ui.histogram import spread_of
from forwardinf_core.ui.wording import class_name, share

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from forwardinf_core.audits.records import Attribution, Prediction

SHOWN = 12  # rows in each gallery
CARD_WIDTH = 216  # pixels of the query's picture


def early(project: Project, named: Address) -> dict[str, object]:
    """Return card, board and histogram of the question in a link, as JSON holds them.

    Raises AuditError where the link names no question, or one whose answer takes long.
    """
    question = ask(project, named, named.query)
    if not is_quick(project, question.method):
        raise AuditError(f"The method {question.method} does not answer at once.")
    found = answer(project, question)
    return {
        "card": card_of(project, question).record(),
        "board": board_of(project, question, found, "").record(),
        "spread": spread_of(found, question.asked, SHOWN).record(),
    }


def board_of(project: Project, question: Question, found: Attribution, row: str) -> Board:
    """Return the rows that helped and hurt; ``row`` is the id of the open one ("" = the one that says most)."""
    opened = answers.open_row(found, row, project.audit.train_ids)
    return Board(
        asked=question.asked,
        selected="" if opened is None else project.audit.train_ids[opened],
        sides=(
            side_of(project, found, found.scores.top(SHOWN), helped=True),
            side_of(project, found, found.scores.bottom(SHOWN), helped=False),
        ),
    )


def side_of(project: Project, found: Attribution, rows: NDArray[np.int64], *, helped: bool) -> Side:
    """Return one gallery with its heading."""
    return Side(
        label="Rows that helped" if helped else "Rows that hurt",
        tone="helped" if helped else "hurt",
        heading="Helped" if helped else "Hurt",
        before="Learning these makes",
        subject=class_name(project.audit.classes, found.target),
        after="more likely here." if helped else "less likely here.",
        tiles=tuple(answers.training_tiles(project.audit, project.ref, found, rows)),
        empty="No row did. Every score points the other way.",
    )


def card_of(project: Project, question: Question, *, width: int = CARD_WIDTH) -> Card:
    """Return the card of the query."""
    said, classes = question.prediction, project.audit.classes
    is_text = project.audit.content == "text"
    return Card(
        asked=question.asked,
        src="" if is_text else thumbs.address(project.ref, thumbs.SHOWN, question.query),
        alt=spoken_name(question.query, project.audit.content),
        text=texts.of_query(project.audit, question.query) if is_text else None,
        width=width,
        verdict=verdict(said, classes, project.audit.content),
        bars=tuple(
            Bar(
                name=classes[code],
                start=0.0,
                end=float(said.probabilities[code]),
                value=share(float(said.probabilities[code])),
                mark="label" if code == said.label else "",
                tone="accent" if code == question.target else "quiet",
            )
            for code in answers.class_shares(said, question.target)
        ),
        notes=project.audit.notes(question.query),
    )


def spoken_name(query: str, content: str = "image") -> str:
    """Return a query's name for people: "test row 17", "your image", "your text"."""
    kind, _, name = query.partition(":")
    return f"test row {name}" if kind == "test" else f"your {content}"


def verdict(said: Prediction, classes: tuple[str, ...], content: str = "image") -> tuple[Words, ...]:
    """Say in one sentence what the model and the label say."""
    opening = (
        Words("The model says "),
        Words(class_name(classes, said.prediction), "strong"),
        Words(f", {share(said.confidence)} sure. "),
    )
    if said.label < 0:
        return (*opening, Words(f"This {content} has no label.", "quiet"))
    if said.label == said.prediction:
        return (*opening, Words("So does the label."))
    label = class_name(classes, said.label)
    return (*opening, Words("The label says "), Words(label, "strong"), Words(". "), Words("wrong", "badge"))
