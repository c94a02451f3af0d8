"""The generation tracing screen on a tiny trained model: start, painting, at work, stopped, traced, compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from streamlit.testing.v1 import AppTest

from forwardinf_core.audits.generation import costs as of_pictures
from forwardinf_core.audits.generation.methods import method_named
from forwardinf_core.audits.generation.opening import open_generation_audit
from forwardinf_core.audits.generation.painting import Wish, paint
from forwardinf_core.audits.generation.tracing import GenerationAudit
from forwardinf_core.jobs import queue
from forwardinf_core.jobs import run as jobs
from forwardinf_core.store.runs import list_runs
from forwardinf_core.ui import opening
from forwardinf_core.verification import picture_removal as removal
from tests.pages.conftest import PAGES, SHELL, given, linked, texts_of
from tests.pages.small_painter import make_painter
from tests.unit.pipelines import write_text_to_image

Show = Callable[..., AppTest]
LEFT = {"prompt": "left", "seed": "1", "steps": "4"}
WISH = Wish("left", 1, 4, 1.0)
FIRST, SECOND = WISH, Wish("left", 2, 4, 1.0)


@pytest.fixture(scope="module")
def painter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GenerationAudit]:
    with torch.backends.mkldnn.flags(enabled=False):
        audit = open_generation_audit(make_painter(tmp_path_factory.mktemp("painter")))
        pictures = [paint(audit, wish) for wish in (FIRST, SECOND)]
        audit.trace(pictures, method_named("sgd"))
        audit.trace(pictures[:1], method_named("sgd", shortlist=0.25))
        yield audit


@pytest.fixture
def show(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, painter: GenerationAudit) -> Show:
    """Return a function that opens a page on the project, with an empty queue and no worker."""
    monkeypatch.setenv("FORWARDINF_HOME", str(tmp_path))
    monkeypatch.setattr(jobs, "ensure_worker", lambda: False)

    def shown(page: str = "generation.py", **link: str) -> AppTest:
        opened = opening.Opening("/sides", lambda _ref, _report: painter)
        opened.start()
        opened.wait(5)
        monkeypatch.setattr(opening, "_current", opened)
        app = AppTest.from_file(str(SHELL), default_timeout=60)
        app.run()
        app.switch_page(str(PAGES / page))
        for name, value in link.items():
            app.query_params[name] = value
        return app.run()

    return shown


def written(app: AppTest) -> str:
    assert not app.exception
    parts = [*app.title, *app.markdown, *app.caption, *app.warning, *app.error]
    return "\n".join(str(part.value) for part in parts).replace("\\", "")


def ids_of(side: object) -> list[str]:
    assert isinstance(side, dict)
    return [tile["id"] for tile in side["tiles"]]


def sides_of(app: AppTest, number: int = 0) -> list[object]:
    sides = given(app, "board")[number]["sides"]
    assert isinstance(sides, list)
    return sides


def test_without_a_picture_the_settings_and_what_was_painted_before_are_shown(show: Show) -> None:
    app = show()
    assert app.number_input(key="gen-seed").value == 0
    assert app.selectbox(key="gen-prompt").value == "left"
    assert "seed 2" in texts_of(given(app, "gallery"))


def test_paint_puts_every_setting_into_the_link_and_queues_the_painting(show: Show, painter: GenerationAudit) -> None:
    app = show()
    app.selectbox(key="gen-prompt").set_value("right")
    app.number_input(key="gen-seed").set_value(7)
    app.number_input(key="gen-guidance").set_value(2.5)
    app.button(key="gen-paint").click().run()
    assert not app.exception
    found = {name: linked(app, name) for name in ("prompt", "seed", "steps", "guidance")}
    assert found == {"prompt": "right", "seed": "7", "steps": "50", "guidance": "2.5"}
    (job,) = jobs.list_jobs(painter.folder)
    assert (job.kind, job.options["seed"]) == ("generate", 7)
    assert given(app, "watch")[0]["job"] == str(job.id)
    app.run()
    assert len(jobs.list_jobs(painter.folder)) == 1


def test_the_fields_begin_with_what_the_link_says_while_it_is_painted_and_after(
    show: Show, painter: GenerationAudit
) -> None:
    app = show(prompt="right", seed="9", steps="4")
    (job,) = jobs.list_jobs(painter.folder)
    assert given(app, "watch")[0]["job"] == str(job.id)
    began = values_of(app)
    assert began == {"Class": "right", "Seed": "9", "Steps": "4", "Guidance": "1.0"}
    app.run()  # a browser that missed the first drawing is told the same by the next
    assert values_of(app) == began
    paint(painter, Wish("right", 9, 4, 1.0))
    assert "Painted as **right**: seed 9, 4 steps." in written(app.run())
    assert values_of(app) == began
    next(button for button in app.button if button.label == "Same with the next seed").click().run()
    assert values_of(app) == {**began, "Seed": "10"}


def values_of(app: AppTest) -> dict[str, str]:
    """Return what a browser that draws the form for the first time shows in its fields."""
    fields = {field.label: str(field.proto.default) for field in app.number_input}
    (classes,) = [field for field in app.selectbox if field.label == "Class"]
    fields["Class"] = classes.options[classes.proto.default]
    return {name: value.removesuffix(".0") if name != "Guidance" else value for name, value in fields.items()}


def test_a_painted_picture_is_shown_and_its_tracing_is_offered_then_watched(
    show: Show, painter: GenerationAudit
) -> None:
    of_pictures.dry_run_of(painter).measure()
    app = show(**LEFT, method="adam")
    assert "Painted as **left**: seed 1, 4 steps." in written(app)
    assert written(app).count("MB of memory") == 2  # painting another, and this trace
    assert "looks at 24 training images again, 10 times each, those that matter most 100 more times." in written(app)
    assert not given(app, "board")
    usual = written(show(**LEFT))  # of 24 images 0.5% are none
    assert "10 times each, those that matter most 100 more times." in usual
    assert "the very first and last" not in usual
    app.button(key="gen-trace-").click().run()
    (job,) = jobs.list_jobs(painter.folder)
    assert given(app, "watch")[0]["job"] == str(job.id)


def test_work_that_stopped_says_why_and_can_go_on(show: Show, painter: GenerationAudit) -> None:
    app = show(**LEFT, method="adam")
    app.button(key="gen-trace-").click().run()
    (job,) = jobs.list_jobs(painter.folder)
    jobs.cancel(job.id)
    assert "The work was cancelled" in app.run().warning[0].proto.title
    app.button(key=f"retry-work-{job.id}").click().run()
    assert jobs.status(job.id).is_active or len(jobs.list_jobs(painter.folder)) == 2


def test_an_answer_shows_both_galleries_the_opened_image_its_noise_levels_and_every_option(show: Show) -> None:
    app = show(**LEFT, method="sgd")
    text = written(app)
    helped, hurt = sides_of(app)
    assert 0 < len(ids_of(helped)) <= 12
    assert not set(ids_of(helped)) & set(ids_of(hurt))
    assert f"**{ids_of(helped)[0]}**, class" in text
    assert "By noise level" in text
    assert "An unchanged model scores exactly 0" in text
    assert "query_draws: `100`" in text
    assert len(app.get("vega_lite_chart")) == 1


def test_a_row_in_the_link_is_opened_and_an_unknown_one_is_said_calmly(show: Show) -> None:
    assert "**train-5**, class **right**" in written(show(**LEFT, method="sgd", row="train-5"))
    assert "does not have" in written(show(**LEFT, method="sgd", row="nobody"))


def test_what_looks_alike_is_shown_beside_what_made_it(show: Show) -> None:
    app = show(**LEFT, method="sgd", view="alike")
    assert "what the picture looks like, not what made it" in written(app)
    assert [side["label"] for side in given(app, "board")[0]["sides"]] == [  # type: ignore[attr-defined]
        "Images alike in pixels",
        "Images alike to the model",
    ]


def test_a_shortlist_is_said_and_what_it_left_out_is_marked(show: Show) -> None:
    app = show(**LEFT, method="sgd", shortlist="0.25", view="alike", row="train-1")
    text = written(app)
    assert "Only the 6 images most alike to the model were scored; the other 18 of 24" in text
    assert "not scored" in texts_of(given(app, "board"))
    in_ranking = {own for side in sides_of(show(**LEFT, method="sgd", shortlist="0.25")) for own in ids_of(side)}
    assert len(in_ranking) <= 6


def test_groups_by_class_and_by_a_column_add_up_to_the_same(show: Show) -> None:
    by_class = given(show(**LEFT, method="sgd"), "bars")[0]["bars"]
    by_artist = given(show(**LEFT, method="sgd", column="artist"), "bars")[0]["bars"]
    assert isinstance(by_class, list)
    assert isinstance(by_artist, list)
    assert {bar["name"] for bar in by_class} == {"left", "right"}
    assert {bar["name"] for bar in by_artist} == {"Ada", "Ben"}
    assert "8 images" in {bar["name"]: bar["mark"] for bar in by_artist}["Ada"]


def test_two_pictures_that_differ_in_the_seed_stand_side_by_side(show: Show) -> None:
    app = show(**LEFT, method="sgd", differ="seed", other="2")
    text = written(app)
    assert "Seed **1** beside **2**." in text
    assert "Rank agreement over all images" in text
    assert len(given(app, "board")) == 2
    app.button(key="gen-swap").click().run()
    assert (linked(app, "seed"), linked(app, "other")) == ("2", "1")


def test_a_run_in_a_link_opens_its_answer_with_its_own_options(show: Show, painter: GenerationAudit) -> None:
    few = method_named("sgd", draws=3)
    found = painter.trace([paint(painter, FIRST)], few)[0]
    app = show(run=found.run_id)
    assert "draws: `3`" in written(app)
    app.selectbox(key="gen-method").set_value("adam").run()
    assert linked(app, "run") == ""
    assert linked(app, "picture") == found.picture.query


def test_a_training_image_can_be_asked_about(show: Show) -> None:
    app = show(**LEFT, method="sgd", row="train-5")
    app.button(key="gen-row-ask").click().run()
    assert linked(app, "picture") == "train:train-5"
    assert "Training image **train-5**, asked about as **right**." in written(app)


@pytest.mark.parametrize(
    ("link", "said"),
    [
        ({"prompt": "a cat", "seed": "1"}, "no class ‘a cat’"),
        ({"prompt": "left", "seed": "x"}, "no whole number"),
        ({"prompt": "left", "seed": "1", "steps": "5000"}, "5000 steps are not possible"),
        ({"prompt": "left", "seed": "1", "guidance": "nan"}, "no number"),
        ({"prompt": "left", "seed": "1", "guidance": "900"}, "A guidance of 900.0 is not possible"),
        ({"picture": "image:nowhere"}, "is no picture"),
        ({"picture": "train:nobody"}, "nobody"),
        ({"run": "generation-0000000000000000"}, "no finished run"),
        ({**LEFT, "method": "magic"}, "no method ‘magic’"),
        ({**LEFT, "shortlist": "7"}, "no share of the rows"),
        ({**LEFT, "differ": "row", "other": "2"}, "is no setting of this picture"),
    ],
)
def test_a_link_that_makes_no_sense_gets_one_sentence(
    show: Show, painter: GenerationAudit, link: dict[str, str], said: str
) -> None:
    app = show(**link)
    assert not app.exception
    assert said in app.warning[0].proto.title.replace("\\", "")
    assert not jobs.list_jobs(painter.folder)


def test_the_overview_shows_the_classes_and_leads_to_the_screen(show: Show) -> None:
    app = show("overview.py")
    assert "Sides" in written(app)
    assert [metric.value for metric in app.metric] == ["24", "4", "2", "8 × 8"]
    assert "left: 12 training images, 2 test images" in texts_of(given(app, "gallery"))
    assert "The model paints by class." in written(app)


def test_the_navigation_of_a_diffusion_project_has_no_pages_of_other_tasks(show: Show) -> None:
    app = show("attribution.py")
    assert "Attribution is not for this project" in written(app)


def test_jobs_are_named_and_lead_to_their_picture(show: Show, painter: GenerationAudit) -> None:
    from forwardinf_core.ui.work.lines import lines

    show(prompt="left", seed="99", steps="4")
    (line,) = lines(painter.folder)
    assert (line.title, line.subject) == ("Painting a picture", "left · seed 99")
    assert queue.read(line.id).kind == "generate"


def test_an_answer_is_checked_by_retraining_once_a_person_asks(
    show: Show, painter: GenerationAudit, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_pictures.dry_run_of(painter).measure()
    app = show(**LEFT, method="sgd")
    assert "12 trainings" in written(app)
    app.button(key="gen-check").click().run()
    (job,) = [one for one in jobs.list_jobs(painter.folder) if one.kind == removal.KIND]
    assert str(job.id) in [watched["job"] for watched in given(app, "watch")]
    jobs.cancel(job.id)
    options = removal.options_of(painter, paint(painter, FIRST), method_named("sgd"), seeds=2)
    monkeypatch.setattr(removal, "SEEDS", 2)
    found = removal.checked(painter, options, lambda _share, _note: None)
    app = show(**LEFT, method="sgd")
    text = written(app)
    assert "Without the image that helped most" in text
    assert {"green": "the answer holds", "amber": "On average", "red": "does not hold"}[found.verdict] in text
    assert "apart" in texts_of(given(app, "gallery"))


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> GenerationAudit:
    """Return a small text-to-image model, not trained."""
    return open_generation_audit(write_text_to_image(tmp_path_factory.mktemp("told")))


def test_a_model_that_is_told_in_words_is_asked_in_words(
    told: GenerationAudit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORWARDINF_HOME", str(tmp_path))
    monkeypatch.setattr(jobs, "ensure_worker", lambda: False)
    picture = paint(told, Wish("left side", 1, 4, 1.0))
    told.trace([picture], method_named("sgd", query_draws=10, draws=2))
    opened = opening.Opening("/told", lambda _ref, _report: told)
    opened.start()
    opened.wait(5)
    monkeypatch.setattr(opening, "_current", opened)
    app = AppTest.from_file(str(SHELL), default_timeout=60)
    app.run()
    app.switch_page(str(PAGES / "generation.py"))
    (run,) = [record.id for record in list_runs(told.project, "generation")]
    app.query_params["run"] = run
    text = written(app.run())
    assert "Painted as **left side**: seed 1, 4 steps." in text
    assert "cannot be retrained here" in text
    assert "mirror image" not in text
    monkeypatch.setattr(GenerationAudit, "mirrors", True)
    assert "Half of the looks at a training image are at its mirror image" in written(app.run())
    app.text_input(key="gen-prompt").set_value("right side")
    next(button for button in app.button if button.label == "Paint").click()
    app.run()
    assert linked(app, "prompt") == "right side"
    assert [job.kind for job in jobs.list_jobs(told.folder)] == ["generate"]
    (prompt,) = [field for field in app.text_input if field.label == "Prompt"]  # another link, another key
    prompt.set_value("right side " * 12)
    next(button for button in app.button if button.label == "Paint").click()
    assert any("of this one are cut off" in warning.value for warning in app.run().warning)
