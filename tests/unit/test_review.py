"""The review: filters against a slow reference, nothing of a log lost, nothing in it taken on trust."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from forwardinf_core.audits import decisions
from forwardinf_core.audits.decisions import current, history, ledger_of, record, undo
from forwardinf_core.audits.mislabels.records import Suspects
from forwardinf_core.audits.review import AUDIT, CODES, SPLIT, Filter, Review
from forwardinf_core.audits.review_items import Items, steps_done, steps_undone
from forwardinf_core.audits.review_log import decide_all, receive
from forwardinf_core.store.decisions import Decision
from forwardinf_core.store.places import ProjectFolder

CLASSES = ("cat", "dog", "owl")


def suspects(n: int = 60, seed: int = 0) -> Suspects:
    chance = np.random.default_rng(seed)
    label = chance.integers(0, 3, n)
    likely = np.stack([chance.permutation(3) for _ in range(n)])
    wrong = np.sort(chance.random(n) ** 3)[::-1].astype(np.float32)
    score = np.linspace(1, 0, n, dtype=np.float32)
    return Suspects(
        run_id="mislabels-0123456789abcdef",
        method="default",
        ids=tuple(f"row-{number}" for number in range(n)),
        classes=CLASSES,
        label=label,
        suggested=likely[:, 0],
        score=score,
        likely=likely,
        likely_share=np.tile(np.array([0.7, 0.2, 0.1], np.float32), (n, 1)),
        signals={"loss": score},
        wrong_chance=wrong,
        n_wrong=float(wrong.sum()),
        n_wrong_by_class=np.zeros(3, np.float32),
        expected_precision=wrong,
        nearest=np.stack([(np.arange(1, 31) + row) % n for row in range(n)]).astype(np.int32),
        trusted_ids=(),
        trusted_labels=np.zeros(0, np.int64),
        trusted_against=np.zeros((n, 0), np.int32),
        notes=(),
        created=0.0,
    )


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ProjectFolder:
    monkeypatch.delenv("FORWARDINF_DATABASE_URL", raising=False)
    return ProjectFolder(tmp_path)


def verdict(row: int, action: str, label: int | None = None, by: str = "Ann") -> Decision:
    return Decision(AUDIT, SPLIT, f"row-{row}", action, label, reviewer=by)


def entry(number: int, action: str = "keep", **rest: object) -> dict[str, object]:
    return {"e": f"tab:{number}", "s": f"tab:{number}", "a": action, "r": f"row-{number}", "l": None, "c": ""} | rest


def test_every_filter_leaves_the_rows_that_a_slow_look_at_each_leaves(project: ProjectFolder) -> None:
    review = Review(suspects())
    record(project, [verdict(0, "keep"), verdict(3, "relabel", 1), verdict(7, "drop"), verdict(9, "unsure")])
    record(project, [verdict(0, "drop", by="Bob"), verdict(5, "keep", by="Bob")])
    ledger = ledger_of(project, AUDIT).refreshed()
    mine = {int(row.removeprefix("row-")): one.action for (_, row), one in ledger.verdicts("Ann").items()}
    found = review.suspects

    def slow(chosen: Filter) -> list[int]:
        kept = []
        for row in range(len(review)):
            state = {
                "open": row not in mine,
                "decided": row in mine,
                "all": True,
                "disagree": row == 0,
            }.get(chosen.state, mine.get(row) == chosen.state)
            within = chosen.whole or chosen.state not in ("open", "all") or row < review.n_suspects
            pair = (chosen.label in (None, found.label[row])) and (chosen.suggested in (None, found.suggested[row]))
            low = chosen.low is None or found.score[row] >= np.float32(chosen.low)
            high = chosen.high is None or found.score[row] <= np.float32(chosen.high)
            by = not chosen.reviewer or row in (0, 5)
            if state and within and pair and low and high and by:
                kept.append(row)
        return kept

    asked = [
        Filter(),
        Filter("decided"),
        Filter("keep"),
        Filter("relabel"),
        Filter("drop"),
        Filter("unsure"),
        Filter("disagree"),
        Filter("all"),
        Filter("all", whole=True),
        Filter("open", label=1),
        Filter("all", label=2, suggested=0, whole=True),
        Filter("open", low=0.25, high=0.75, whole=True),
        Filter("all", reviewer="Bob", whole=True),
    ]
    for chosen in asked:
        assert review.queue(chosen, ledger, "Ann").tolist() == slow(chosen), chosen
    assert 0 < review.n_suspects < len(review)


def test_progress_counts_what_is_decided_and_what_may_still_be_wrong(project: ProjectFolder) -> None:
    review = Review(suspects())
    record(project, [verdict(0, "keep"), verdict(1, "relabel", 1), verdict(2, "unsure"), verdict(59, "drop")])
    found = review.progress(ledger_of(project, AUDIT).refreshed(), "Ann")
    assert (found.decided, found.kept, found.relabelled, found.dropped, found.unsure) == (3, 1, 1, 1, 1)
    chance = review.suspects.wrong_chance
    assert found.remaining == pytest.approx(float(chance.sum() - chance[[0, 1, 59]].sum()), rel=1e-5)


def test_the_confusions_add_up_to_the_suspects_with_another_suggestion(project: ProjectFolder) -> None:
    review = Review(suspects())
    record(project, [verdict(0, "keep")])
    cells = review.confusion(ledger_of(project, AUDIT).refreshed(), "Ann")
    top = review.ranking[: review.n_suspects]
    differ = review.suspects.label[top] != review.suspects.suggested[top]
    assert sum(cell.rows for cell in cells) == int(differ.sum())
    assert sum(cell.rows - cell.open for cell in cells) == int(differ[0])
    for cell in cells:
        chosen = Filter("all", label=cell.label, suggested=cell.suggested)
        assert len(review.queue(chosen, ledger_of(project, AUDIT), "Ann")) == cell.rows


def test_an_item_holds_its_copies_its_choices_and_what_others_said_unless_blind(project: ProjectFolder) -> None:
    review = Review(suspects())
    digests = np.random.default_rng(0).integers(0, 255, (60, 32), dtype=np.uint8)
    digests[11] = digests[40] = digests[4]
    items = Items(review, digests)
    record(project, [verdict(4, "keep"), verdict(4, "relabel", 2, by="Bob")])
    ledger = ledger_of(project, AUDIT).refreshed()
    (one,) = items.of([4], ledger, "Ann", blind=False)
    assert one.copies == (11, 40)
    assert one.verdict == ("keep", None)
    assert one.others == (("Bob", "relabel", 2),)
    assert {code for code, _ in one.choices} == {0, 1, 2}
    assert [code for code, _ in one.choices] == review.suspects.likely[4].tolist()
    assert one.reasons
    (hidden,) = items.of([4], ledger, "Ann", blind=True)
    assert hidden.others == ()
    assert items.of([5], ledger, "Ann", blind=False)[0].copies == ()


def test_the_label_and_the_suggestion_are_choices_even_where_nine_others_are_likelier() -> None:
    found = suspects()
    many = Suspects(
        **{name: getattr(found, name) for name in found.__dataclass_fields__}
        | {
            "classes": tuple(f"c{number}" for number in range(40)),
            "label": np.full(60, 30),
            "suggested": np.full(60, 31),
            "likely": np.tile(np.arange(9), (60, 1)),
            "likely_share": np.full((60, 9), 0.1, np.float32),
        }
    )
    (one,) = Items(Review(many), np.zeros((60, 32), np.uint8)).of(
        [0], decisions.Ledger(ProjectFolder(Path("/x")), AUDIT), "Ann", blind=True
    )
    assert len(one.choices) == 9
    assert {30, 31} <= {code for code, _ in one.choices}


def test_a_browsers_log_is_kept_whole_and_sent_again_is_kept_once(project: ProjectFolder) -> None:
    review = Review(suspects())
    log = [entry(number) for number in range(20)]
    assert receive(project, review, log[:12], "Ann").new == 12
    assert receive(project, review, log, "Ann").new == 8
    kept = history(project, AUDIT)
    assert [one.row_id for one in kept] == [f"row-{number}" for number in range(20)]
    assert kept[3].score == pytest.approx(float(review.suspects.score[3]))  # the server's, not the browser's
    assert {one.reviewer for one in kept} == {"Ann"}


def test_a_record_that_means_nothing_takes_no_other_of_its_log_with_it(project: ProjectFolder) -> None:
    review = Review(suspects())
    wrong = [
        entry(50, "relabel", l=99),
        entry(51, r="no such row"),
        entry(52, "undo", u="never made"),
        "no record",
        entry(53, e=""),
        entry(54, "explode"),
    ]
    found = receive(project, review, [entry(0), *wrong, entry(1)], "Ann")
    assert found.new == 2
    assert len(found.refused) == len(wrong)
    assert [one.row_id for one in history(project, AUDIT)] == ["row-0", "row-1"]


def test_a_bulk_relabel_gives_each_row_its_own_suggestion_and_is_one_step(project: ProjectFolder) -> None:
    review = Review(suspects())
    positions = review.queue(Filter(), ledger_of(project, AUDIT).refreshed(), "Ann")
    assert decide_all(project, review, positions, "relabel", "Ann") == len(positions)
    for (_, row), one in current(project, AUDIT, "Ann").items():
        position = review.positions[row]
        suggested, label = int(review.suspects.suggested[position]), int(review.suspects.label[position])
        assert (one.action, one.label) == (("relabel", suggested) if suggested != label else ("keep", None))
    ledger = ledger_of(project, AUDIT).refreshed()
    assert len(review.queue(Filter(), ledger, "Ann")) == 0
    undo(project, AUDIT, "Ann")
    assert len(review.queue(Filter(), ledger.refreshed(), "Ann")) == len(positions)


def test_the_steps_handed_to_the_browser_say_what_each_row_was_before(project: ProjectFolder) -> None:
    record(project, [verdict(0, "keep")])
    record(project, [verdict(0, "drop")])
    ledger = ledger_of(project, AUDIT).refreshed()
    first, second = steps_done(ledger, "Ann")
    assert first.rows == (("row-0", ("keep", None), None),)
    assert second.rows == (("row-0", ("drop", None), ("keep", None)),)
    taken = undo(project, AUDIT, "Ann")
    assert taken is not None
    (back,) = steps_undone(ledger.refreshed(), "Ann")
    assert (back.step, back.undo) == (second.step, taken.step)
    assert len(steps_done(ledger, "Ann")) == 1


def test_fifty_thousand_rows_are_filtered_and_counted_within_a_blink(project: ProjectFolder) -> None:
    review = Review(suspects(50_000))
    record(project, [verdict(row, "keep") for row in range(800)])
    ledger = ledger_of(project, AUDIT).refreshed()
    review.queue(Filter("open", whole=True), ledger, "Ann")  # the ranking is made once
    start = time.perf_counter()
    found = review.queue(Filter("open", low=0.2, high=0.9, whole=True), ledger, "Ann")
    review.progress(ledger, "Ann")
    assert time.perf_counter() - start < 0.5
    assert len(found) == int(
        ((review.suspects.score >= np.float32(0.2)) & (review.suspects.score <= np.float32(0.9))).sum()
    ) - int((review.suspects.score[:800] <= np.float32(0.9)).sum())


def test_outcomes_on_rows_that_are_gone_are_told_apart(project: ProjectFolder) -> None:
    record(project, [verdict(1, "keep"), Decision(AUDIT, SPLIT, "deleted", "drop", reviewer="Ann")])
    review = Review(suspects())
    ledger = ledger_of(project, AUDIT).refreshed()
    assert [one.row_id for one in review.gone(ledger)] == ["deleted"]
    assert int((review.verdicts(ledger, "Ann") > 0).sum()) == 1
    assert set(CODES) == set(decisions.VERDICTS)
