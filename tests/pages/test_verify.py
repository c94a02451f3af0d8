"""The verify screen and the traffic lights: what was checked, what was not, and what both mean."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from forwardinf_core.audits import costs
from forwardinf_core.audits.methods import method_named
from forwardinf_core.errors import ModelError
from forwardinf_core.jobs.forecast import Forecast
from forwardinf_core.ui import state
from forwardinf_core.verification import canaries, fidelity, hypothesis, hypothesis_cost, removal
from forwardinf_core.verification.canaries import CanaryOptions
from forwardinf_core.verification.checks import Check
from forwardinf_core.verification.fidelity import Fidelity, LdsOptions
from forwardinf_core.verification.hypothesis_records import Hypothesis, Part
from forwardinf_core.verification.removal import Removal, RemovalOptions
from forwardinf_core.verification.removal_ladder import KINDS, Change, Interval, beyond, verdict_of
from tests.pages.conftest import Measured, Screens, linked
from tests.pages.fake_services import FakeAudit
from tests.pages.fake_verification import fake_check
from tests.pages.test_overview import written

PAGE = "verify.py"
COST = Forecast(60.0, 7 * 10**8, 4 * 10**7, 10**12, 10**12)


def test_the_controls_are_shown_with_their_thresholds(screens: Screens, audit: FakeAudit) -> None:
    app = screens(audit, PAGE, part="canaries")
    assert not app.exception
    assert "Controls" in written(app)
    assert "Green: exactly 0" in written(app)


def test_a_part_that_does_not_exist_opens_the_first(screens: Screens, audit: FakeAudit) -> None:
    app = screens(audit, PAGE, part="nonsense")
    assert not app.exception
    assert "Choose a prediction" in written(app)


def fake_removal(seed_rises: dict[str, list[float]], **changed: object) -> Removal:
    """Return a finished check with these rises of the loss, one a seed."""
    found = {kind: Change(kind, rise := np.array(seed_rises[kind]), -rise, -rise / 3, 0.0) for kind in KINDS}
    made = Removal(
        run_id="removal-0",
        query="test:test-0003",
        target=3,
        method="head",
        k=12,
        scope="head",
        seeds=(0, 1, 2),
        failed=(),
        changes=found,
        rise=Interval.of(found["top"].rise),
        more=beyond(found["top"], found["random"]),
        alike=beyond(found["top"], found["alike"]),
        before=0.9,
        after=0.7,
        top=np.arange(12),
        verdict=verdict_of(found),
    )
    return replace(made, **changed)  # type: ignore[arg-type]  # names of the fields of Removal


HELD = {"top": [0.2, 0.21, 0.19], "random": [0.0, 0.01, -0.01], "alike": [0.02, 0.0, 0.01], "lowest": [-0.1] * 3}
OPTIONS = RemovalOptions("test:test-0003", 3, method_named("head"), 12, "head", 3)


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """Stand in for the removal service; tests change what it answers."""
    said: dict[str, object] = {"stored": None, "instant": True, "made": fake_removal(HELD)}
    started: list[RemovalOptions] = []
    said["started"] = started
    monkeypatch.setattr(removal, "removal_options", lambda *_a, **given: replace(OPTIONS, scope=given["scope"]))
    monkeypatch.setattr(removal, "stored_removal", lambda *_: said["stored"])
    monkeypatch.setattr(removal, "is_instant", lambda *_: said["instant"])
    monkeypatch.setattr(removal, "check_removal", lambda *_: said["made"])
    monkeypatch.setattr(costs, "of_trainings", lambda *_a, **_k: replace(COST, seconds=312.0))
    monkeypatch.setattr(removal, "start_removal", lambda _audit, options: started.append(options))
    return said


LINK = {"part": "removal", "query": "test:test-0003"}


def test_an_instant_check_needs_no_click(screens: Screens, audit: FakeAudit, service: dict[str, object]) -> None:
    app = screens(audit, PAGE, **LINK)
    assert not app.exception
    assert service["made"] is not None
    text = written(app)
    assert "So the answer holds" in text
    assert "rises by **0.20**" in text
    assert {metric.label: metric.value for metric in app.metric}["Probability of 3"] == "70%"


@pytest.mark.parametrize(
    ("rises", "expected"),
    [([0.3, 0.1, -0.2], "cannot tell it from chance"), ([-0.2, -0.1, -0.2], "does not hold")],
)
def test_doubt_and_failure_are_said_as_plainly_as_success(
    screens: Screens, audit: FakeAudit, service: dict[str, object], rises: list[float], expected: str
) -> None:
    service["stored"] = fake_removal({**HELD, "top": rises})
    assert expected in written(screens(audit, PAGE, **LINK))


def test_a_failed_training_is_named(screens: Screens, audit: FakeAudit, service: dict[str, object]) -> None:
    service["stored"] = fake_removal(HELD, failed=("without random rows, seed 4",))
    assert "Failed and left out, with its seed: without random rows, seed 4" in written(screens(audit, PAGE, **LINK))


def test_what_takes_long_says_what_it_costs_and_waits_for_a_click(
    screens: Screens, audit: FakeAudit, service: dict[str, object]
) -> None:
    service["instant"] = False
    app = screens(audit, PAGE, **LINK, scope="model")
    assert "15 trainings" in written(app)
    assert "5 min" in written(app)
    assert service["started"] == []
    app.button(key=state.START_REMOVAL).click().run()
    assert [one.scope for one in service["started"]] == ["model"]  # type: ignore[attr-defined]


def test_a_model_that_cannot_be_retrained_says_what_is_possible(
    screens: Screens, audit: FakeAudit, service: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_a: object, **_k: object) -> RemovalOptions:
        raise ModelError("A model of kind adapter cannot be retrained here.", hint="Its last layer can.")

    monkeypatch.setattr(removal, "removal_options", refuse)
    app = screens(audit, PAGE, **LINK, scope="model")
    assert not app.exception
    assert "Its last layer can" in app.warning[0].value


def test_the_attribution_screen_leads_to_the_check_in_one_click(
    screens: Screens, audit: FakeAudit, service: dict[str, object]
) -> None:
    app = screens(audit, "attribution.py", query="test:test-0003", method="tail")
    app.button(key=state.CHECK_ANSWER).click().run()
    assert (linked(app, "part"), linked(app, "query"), linked(app, "method")) == ("removal", "test:test-0003", "tail")
    assert "So the answer holds" in written(app)


def test_choosing_another_number_of_rows_changes_the_link(
    screens: Screens, audit: FakeAudit, service: dict[str, object]
) -> None:
    app = screens(audit, PAGE, **LINK)
    app.number_input(key=state.REMOVAL_K).set_value(30).run()
    assert linked(app, "k") == "30"


@pytest.mark.parametrize("k", ["0", "-3", "99999999", "many"])
def test_a_strange_number_in_the_link_is_brought_into_range(
    screens: Screens, audit: FakeAudit, service: dict[str, object], k: str
) -> None:
    app = screens(audit, PAGE, **LINK, k=k)
    assert not app.exception
    assert 1 <= app.number_input(key=state.REMOVAL_K).value <= 150


def test_canaries_that_were_found_are_shown_and_others_offered(
    screens: Screens, audit: FakeAudit, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[Check] = []
    monkeypatch.setattr(canaries, "canary_options", lambda _audit, scope: CanaryOptions(scope, method="head"))
    monkeypatch.setattr(canaries, "stored_canaries", lambda *_: tuple(found) or None)
    monkeypatch.setattr(canaries, "is_instant", lambda *_: True)
    monkeypatch.setattr(
        canaries, "check_canaries", lambda *_: found.append(fake_check("copies", "Planted copies", recall=0.9, k=7))
    )
    app = screens(audit, PAGE, part="canaries")
    assert "It takes a few seconds" in written(app)
    app.button(key=state.START_CANARIES).click().run()
    assert not app.exception
    assert "Nothing planted yet" not in written(app)
    assert "**Planted copies.**" in written(app)


def test_the_overview_shows_the_lights(screens: Screens, audit: FakeAudit) -> None:
    app = screens(audit)
    assert "Can the answers be trusted?" in written(app)


def fake_fidelity(**changed: object) -> Fidelity:
    """Return a finished linear datamodelling score of two methods."""
    made = Fidelity(
        run_id="lds-0",
        method="tail",
        lds=0.21,
        low=0.15,
        high=0.26,
        ceiling=0.56,
        lines={"tail": (0.21, 0.15, 0.26), "random": (0.0, -0.03, 0.03)},
        left_out=(),
        failed=(),
        n_rows=600,
        n_queries=50,
        options={},
        seconds=90.0,
        points=pd.DataFrame(),
        queries=pd.DataFrame(),
    )
    return replace(made, **changed)  # type: ignore[arg-type]  # names of the fields of Fidelity


def test_a_fidelity_is_shown_with_its_interval_and_ceiling(
    screens: Screens, audit: FakeAudit, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = fake_fidelity(failed=("half 3, seed 1",), left_out=("test-0001",))
    monkeypatch.setattr(fidelity, "latest_lds", lambda _audit: failed)
    app = screens(audit, PAGE, part="lds")
    assert not app.exception
    values = {metric.label: (metric.value, metric.delta) for metric in app.metric}
    assert values["Fidelity of tail"] == ("0.210", "0.150 to 0.260")
    assert values["Noise ceiling"] == ("0.56", "37% of it reached")
    assert "half 3, seed 1" in written(app)
    assert "1 query could not be compared" in written(app)


def test_a_fidelity_that_was_not_measured_says_what_it_costs(
    screens: Screens, audit: FakeAudit, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[LdsOptions] = []
    monkeypatch.setattr(fidelity, "latest_lds", lambda _audit: None)
    monkeypatch.setattr(fidelity, "lds_options", lambda _audit: LdsOptions("tail"))
    monkeypatch.setattr(costs, "of_trainings", lambda *_a, **_k: replace(COST, seconds=1234.0))
    monkeypatch.setattr(fidelity, "start_lds", lambda _audit, options: started.append(options))
    app = screens(audit, PAGE, part="lds")
    assert "200 trainings" in written(app)
    assert "21 min" in written(app)
    app.button(key=state.START_LDS).click().run()
    assert started == [LdsOptions("tail")]


def test_what_will_not_fit_has_to_be_confirmed_before_it_starts(
    screens: Screens, audit: FakeAudit, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[LdsOptions] = []
    monkeypatch.setattr(fidelity, "latest_lds", lambda _audit: None)
    monkeypatch.setattr(fidelity, "lds_options", lambda _audit: LdsOptions("tail"))
    monkeypatch.setattr(costs, "of_trainings", lambda *_a, **_k: replace(COST, free_disk_bytes=1_000_000))
    monkeypatch.setattr(fidelity, "start_lds", lambda _audit, options: started.append(options))
    app = screens(audit, PAGE, part="lds")
    assert "only 1 MB of disk are free" in str([warning.value for warning in app.warning]).replace("\\", "")
    assert app.button(key=state.START_LDS).disabled
    app.checkbox(key=f"{state.START_LDS}-anyway").check().run()
    app.button(key=state.START_LDS).click().run()
    assert len(started) == 1


def fake_hypothesis(part: Part) -> Hypothesis:
    """Return a finished verification of this part on a few points."""
    points = pd.DataFrame({"train_to_test": [0.1, -0.2, 0.3], "mirrored": [0.11, -0.19, 0.29], "label": [0, 1, 2]})
    if part == "convex":
        points["query_id"], points["id"] = "test-0003", ["train-0001", "train-0002", "nowhere"]
    else:
        points["group"], points["wrong_share"] = [1, 2, 3], [0.0, 0.5, 1.0]
    queries = pd.DataFrame({"query_id": ["test-0003"], "chosen": ["random"], "pearson": [0.99]})
    repeatable = (0.5, 0.98) if part == "network" else ()
    head = {"head": (0.8, 0.7)}
    return Hypothesis(
        "hypothesis-0", part, 0.991, 0.9, (0.98, 0.995), 3, 1, head, {}, repeatable, (), {}, 4.0, points, queries
    )


@pytest.mark.parametrize("part", ["convex", "network"])
def test_a_verified_hypothesis_is_shown_with_its_points_and_estimates(
    screens: Screens, audit: FakeAudit, monkeypatch: pytest.MonkeyPatch, part: Part
) -> None:
    monkeypatch.setattr(FakeAudit, "project", None, raising=False)
    monkeypatch.setattr(hypothesis, "latest_hypothesis", lambda _project, asked: fake_hypothesis(asked))
    app = screens(audit, PAGE, part="hypothesis", kind=part)
    assert not app.exception
    assert not app.warning
    assert {metric.label: metric.value for metric in app.metric}["Pearson"] == "0.991"
    assert ("more than about 0.70 between the two" in written(app)) == (part == "network")
    assert app.get("arrow_vega_lite_chart") or app.get("vega_lite_chart")


def test_a_hypothesis_that_was_not_verified_is_offered(
    screens: Screens, audit: FakeAudit, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []
    monkeypatch.setattr(FakeAudit, "project", None, raising=False)
    monkeypatch.setattr(hypothesis, "latest_hypothesis", lambda *_: None)
    monkeypatch.setattr(hypothesis, "start_hypothesis", lambda _project, options: started.append(options.part))
    monkeypatch.setattr(hypothesis_cost, "dry_run_of", lambda _project, _options: Measured())
    monkeypatch.setattr(hypothesis_cost, "of_verification", lambda _project, _rates: replace(COST, seconds=200.0))
    app = screens(audit, PAGE, part="hypothesis", kind="network")
    assert "Not verified here yet" in written(app)
    assert "About 3 min" in written(app)
    app.button(key=state.START_HYPOTHESIS).click().run()
    assert started == ["network"]
