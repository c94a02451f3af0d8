"""How much leaked, what it does to the accuracy, and how far the verdicts can be trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from forwardinf_core.ui.attribution.question import Project
from forwardinf_core.ui.wording import counted, plain, share

if TYPE_CHECKING:
    from forwardinf_core.audits.leakage.records import Accuracy, Leakage


def summary(project: Project, found: Leakage) -> None:
    """Draw the figures of the audit in one row, and its notes."""
    from forwardinf_core.audits.leakage import deciding, report

    audit = project.audit
    said = report.accuracies(audit, found)
    decided = deciding.current(audit)
    kept = report.accuracy(audit, deciding.kept_test_rows(audit, decided))
    leaked, everything = len(found.leaked()), len(found.pairs)
    first, second, third, fourth = st.columns(4)
    first.metric(
        "Test rows with a copy",
        f"{leaked:,}",
        f"{share(leaked / everything)} of {everything:,}",
        delta_color="off",
        delta_arrow="off",
        border=True,
        height="stretch",
    )
    second.metric(
        "Accuracy on all test rows",
        _share(said["all"]),
        _interval(said["all"]),
        delta_color="off",
        delta_arrow="off",
        border=True,
        height="stretch",
        help="The model's accuracy now, with its 95% interval (Wilson).",
    )
    third.metric(
        "Without the copies",
        _share(said["without_leaked"]),
        f"on the copies {_share(said['leaked'])}" if said["leaked"].rows else "there are none",
        delta_color="off",
        delta_arrow="off",
        border=True,
        height="stretch",
        help="What is left when every test row with a copy is set aside; nothing is retrained.",
    )
    if kept.rows != said["all"].rows:
        value, note = _share(kept), f"{kept.rows:,} labelled rows kept"
    else:
        value, note = "–", "nothing dropped from test yet"
    fourth.metric(
        "As you decided",
        value,
        note,
        delta_color="off",
        delta_arrow="off",
        border=True,
        height="stretch",
        help="Accuracy over the test rows that nobody dropped on this page.",
    )
    for note in found.notes:
        st.caption(f":material/info: {plain(note)}")


def trust(found: Leakage) -> None:
    """Say what the confidence was worth on copies planted for that purpose."""
    check = found.check
    with st.expander("How sure are the verdicts?", type="compact"):
        st.markdown(
            f"Altered copies of **{check['n_planted']} training rows** were planted, and {check['n_others']} rows "
            "without a copy asked as well; the verdict was learned on one half and checked on these."
        )
        first, recall, precision = (share(_number(check[name])) for name in ("top1", "recall", "precision"))
        st.caption(
            f"The origin came first for {first} of the copies. At a confidence of 50% and even odds, {recall} of the "
            f"copies were found and {precision} of what was called a copy was one; mean squared error of the "
            f"confidence {_number(check['brier']):.3f}."
        )
        kinds = check["by_kind"]
        assert isinstance(kinds, dict)
        by_kind = ", ".join(f"{plain(kind)} {share(value)}" for kind, value in sorted(kinds.items()))
        st.caption(f"Found, by alteration: {by_kind}.")
        st.caption(
            "First by one signal alone: "
            + ", ".join(f"{plain(name)} {share(value)}" for name, value in found.alone.items())
            + "."
        )
        st.caption(
            f"{counted(len(found.pairs), 'test row')} compared with every training row; estimated share with an "
            f"altered copy: {share(found.prior)}."
        )


def _share(one: Accuracy) -> str:
    return f"{one.share:.1%}" if one.rows else "–"


def _interval(one: Accuracy) -> str | None:
    return f"{one.low:.1%} to {one.high:.1%}" if one.rows else None


def _number(value: object) -> float:
    assert isinstance(value, int | float)
    return float(value)
