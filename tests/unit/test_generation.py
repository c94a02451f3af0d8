"""Tracing generated pictures end to end on a tiny diffusion project: fit, generate, trace, caches, bad input."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image

from forwardinf_core.audits.context import AtOnce
from forwardinf_core.audits.fitting import FitOptions
from forwardinf_core.audits.generation.methods import METHODS, method_named
from forwardinf_core.audits.generation.opening import open_generation_audit
from forwardinf_core.audits.generation.scoring import at_both_ends, make_update, query_rows
from forwardinf_core.audits.generation.tracing import GenerationAudit, TraceOptions, group_sums
from forwardinf_core.cli import main
from forwardinf_core.errors import AuditError, CancelledError, DataError, ModelError
from forwardinf_core.influence.diffusion import Draws
from forwardinf_core.influence.update import moved_parameters
from forwardinf_core.jobs import run as jobs
from forwardinf_core.store.files import sha256

N, EPOCHS = 24, 60
FEW = {"draws": 3, "query_draws": 8}


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write_project(folder: Path) -> None:
    """Two classes of 8×8 pictures: bright on the left, or on the right, with noise."""
    rng = np.random.default_rng(0)
    for split, count in (("train", N), ("test", 4)):
        labels = np.arange(count) % 2
        pixels = rng.integers(0, 90, (count, 8, 8)).astype(np.uint8)
        for row, label in enumerate(labels):
            pixels[row, :, 4 * label : 4 * label + 4] += 150
        rows = {"id": [f"{split}-{n}" for n in range(count)], "image": [png(p) for p in pixels], "label": labels}
        pd.DataFrame(rows).to_parquet(folder / f"{split}.parquet")
    sets = {split: {"kind": "parquet", "path": f"{split}.parquet"} for split in ("train", "test")}
    config = {"name": "sides", "task": "diffusion", "model": {"kind": "baseline", "path": "model/"}, **sets}
    (folder / "project.yaml").write_text(yaml.safe_dump(config))


@pytest.fixture(scope="module")
def audit(tmp_path_factory: pytest.TempPathFactory) -> GenerationAudit:
    folder = tmp_path_factory.mktemp("diffusion")
    write_project(folder)
    jobs.run_here("fit", folder, FitOptions(epochs=EPOCHS, width=8))
    return open_generation_audit(folder)


def test_fit_gives_the_same_bytes_again(tmp_path: Path) -> None:
    written = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_project(tmp_path / name)
        jobs.run_here("fit", tmp_path / name, FitOptions(epochs=2, width=8))
        written.append((tmp_path / name / "model" / "model.safetensors").read_bytes())
    assert written[0] == written[1]


def test_the_same_seed_paints_the_same_picture_and_says_how(audit: GenerationAudit) -> None:
    one, two = (audit.generate("1", seed=5, steps=4, guidance=2.0) for _ in range(2))
    assert one == two
    assert audit.pictures.made(one.query) == {"seed": 5.0, "steps": 4.0, "guidance": 2.0}
    assert audit.generate("0", seed=5, steps=4).query != one.query


@pytest.mark.parametrize("name", sorted(METHODS))
def test_a_training_picture_helped_itself_most_and_the_unchanged_model_scores_zero(
    audit: GenerationAudit, name: str
) -> None:
    method = method_named(name, **FEW)
    (found,) = audit.trace([audit.picture("train:train-7")], method)
    assert found.unchanged_max_abs_score == 0
    assert np.isfinite(found.scores.score).all()
    assert found.by_draw.shape == (N, 3)
    once = np.ones(N, bool)
    once[at_both_ends(found.by_draw.mean(1), method.second_share) if method.second_draws else []] = False
    means = found.by_draw.mean(1)
    np.testing.assert_allclose(np.abs(means[once]), np.abs(found.scores.score[once]), rtol=1e-4, atol=1e-9)
    assert once.all() == (name == "forward-inf")
    assert found.loss_after > found.loss_before
    if name != "forward-inf":  # whose scores have no sign, and whose step is long
        assert 7 in np.argsort(-found.scores.score)[: N // 4]


def test_both_ends_take_their_score_from_other_draws(audit: GenerationAudit) -> None:
    looks = {"second_draws": 6, "second_share": 0.1, "third_draws": 9, "third_share": 0.05}
    picture, method = audit.picture("train:train-7"), method_named("sgd", **FEW, **looks)
    found = audit.trace([picture], method)[0]
    twice = audit.trace([picture], method_named("sgd", **FEW, **{**looks, "third_draws": 0}))[0].scores.score
    first = found.by_draw.mean(1)
    again, once_more = at_both_ends(first, 0.1), at_both_ends(twice, 0.05)
    assert again.tolist() == sorted([*np.argsort(first)[:2], *np.argsort(first)[-2:]])
    assert once_more.tolist() == sorted([np.argmin(twice), np.argmax(twice)])
    place = audit.place(AtOnce())
    sample = audit.model.codec.encode([audit.pictures.image(picture.query)])
    query = query_rows(place, sample, picture.label, sha256(sample.numpy().tobytes()), method)
    network, update = make_update(place, query, method)
    for row in again.tolist():
        count, seed = (9, 3) if row in once_more else (6, 2)
        batch = place.rows(Draws(count, seed=seed)).batch(count * row, count * row + count)
        before, after = (
            network.objective.losses(network.outputs(at, batch), batch).double().mean()
            for at in (network.parameters, moved_parameters(network, update))
        )
        assert found.scores.score[row] == pytest.approx(float(after - before), rel=2e-3)


def test_an_end_is_a_share_of_the_scored_images_and_never_more_than_half() -> None:
    nan = float("nan")
    scores = np.array([nan, 3, 1, nan, 2, 5, 4], np.float32)
    assert at_both_ends(scores, 0.2).tolist() == [2, 5]
    assert at_both_ends(scores, 0.5).tolist() == [2, 4, 5, 6]
    assert at_both_ends(scores, 0.0).tolist() == []


def test_an_answer_is_read_back_and_not_computed_again(audit: GenerationAudit, monkeypatch: pytest.MonkeyPatch) -> None:
    method = method_named("sgd", **FEW)
    picture = audit.picture("test:test-1")
    first = audit.trace([picture], method)[0]
    monkeypatch.setattr("forwardinf_core.audits.generation.tracing.trace", None)
    again = audit.trace([picture], method)[0]
    assert again.run_id == first.run_id
    assert np.array_equal(again.scores.score, first.scores.score)


def test_scores_do_not_depend_on_how_the_pass_is_cut(audit: GenerationAudit, monkeypatch: pytest.MonkeyPatch) -> None:
    from forwardinf_core.audits.generation import place, scoring

    picture = audit.picture("train:train-3")
    whole = audit.trace([picture], method_named("sgd", **FEW))[0].scores.score
    for module in (place, scoring):
        monkeypatch.setattr(module, "BATCH", 5)
        monkeypatch.setattr(module, "BLOCK", 10)
    parts = audit.trace([picture], method_named("sgd", **FEW, shortlist=1.0))[0]
    assert parts.scores.score_full is not None
    np.testing.assert_allclose(parts.scores.score_full, whole, rtol=2e-3, atol=1e-6)


def test_a_shortlist_keeps_both_kinds_of_scores_apart(audit: GenerationAudit) -> None:
    found = audit.trace([audit.picture("train:train-3")], method_named("sgd", **FEW, shortlist=0.25))[0]
    assert found.scores.score_full is not None
    assert int(np.isfinite(found.scores.score_full).sum()) == N // 4
    np.testing.assert_allclose(found.scores.score, found.feature)


def test_other_draws_have_outputs_of_their_own(audit: GenerationAudit) -> None:
    picture = audit.picture("train:train-3")
    one, other = (audit.trace([picture], method_named("sgd", **FEW, seed=seed))[0] for seed in (0, 1))
    assert not np.array_equal(one.timesteps, other.timesteps)
    assert one.unchanged_max_abs_score == other.unchanged_max_abs_score == 0


def test_the_model_is_byte_identical_after_every_method(audit: GenerationAudit) -> None:
    before = {name: value.clone() for name, value in audit.model.module.state_dict().items()}
    for name in METHODS:
        audit.trace([audit.picture("test:test-2")], method_named(name, **FEW))
    assert all(torch.equal(before[name], value) for name, value in audit.model.module.state_dict().items())


def test_a_name_filter_limits_what_moves(audit: GenerationAudit) -> None:
    picture = audit.picture("train:train-3")
    some = audit.trace([picture], method_named("diagonal", **FEW, parameters="mid_block.*"))[0]
    assert 3 in np.argsort(-some.scores.score)[: N // 4]
    with pytest.raises(ModelError, match="EK-FAC cannot be limited"):
        audit.trace([picture], method_named("ekfac", **FEW, parameters="mid_block.*"))


@pytest.mark.parametrize(
    ("query", "name", "said"),
    [
        ("train:none", None, "none"),
        ("image:xyz", "0", "is no picture"),
        ("image:" + "0" * 32, "0", "no longer here"),
        ("test:test-0", "a cat", "no class ‘a cat’"),
    ],
)
def test_a_picture_that_cannot_be_asked_about_gets_one_sentence(
    audit: GenerationAudit, query: str, name: str | None, said: str
) -> None:
    with pytest.raises(DataError, match=said):
        audit.picture(query, name)


def test_ascent_descent_and_central_agree_for_a_short_step(audit: GenerationAudit) -> None:
    picture = audit.picture("train:train-3")
    found = {
        direction: audit.trace([picture], method_named("sgd", **FEW, rise=0.002, direction=direction))[0].scores.score
        for direction in ("ascent", "descent", "central")
    }
    np.testing.assert_allclose((found["ascent"] + found["descent"]) / 2, found["central"], rtol=1e-3, atol=1e-9)
    assert np.corrcoef(found["ascent"], found["descent"])[0, 1] > 0.99


def test_a_trace_that_was_stopped_again_and_again_ends_in_the_same_bytes(
    audit: GenerationAudit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from forwardinf_core.audits.generation import place, scoring

    for module, name, value in ((place, "BATCH", 8), (place, "BLOCK", 24), (place, "SAVE_EVERY", 1)):
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(scoring, "BATCH", 8)
    monkeypatch.setattr(scoring, "BLOCK", 24)
    monkeypatch.setattr("forwardinf_core.jobs.context.REPORT_EVERY_S", 0.0)
    options = TraceOptions((("train:train-3", 1),), method_named("ekfac", **FEW))
    written = []
    for name in ("calm", "wild"):
        folder = tmp_path / name
        shutil.copytree(audit.project.root, folder, ignore=shutil.ignore_patterns(".audit"))
        stops, most = 0, 1
        while True:
            heard: list[float] = []

            def stop(done: float, _total: float, _note: str, heard: list[float] = heard, most: int = most) -> None:
                heard.append(done)
                if len(heard) > most:
                    raise CancelledError("Stop.")

            try:
                jobs.run_here("generation", folder, options, stop if name == "wild" else lambda *_: None)
                break
            except CancelledError:
                stops, most = stops + 1, 2 * most
        assert name == "calm" or stops > 3
        (scores,) = folder.glob(".audit/runs/*/scores.parquet")
        written.append(pd.read_parquet(scores)["score"].to_numpy().tobytes())
    assert written[0] == written[1]


def test_a_model_that_breaks_at_one_noise_level_is_named_with_the_image(
    audit: GenerationAudit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(audit.project.root, folder, ignore=shutil.ignore_patterns(".audit"))
    other = open_generation_audit(folder)
    whole = type(other.model.objective).outputs

    def breaks(self: object, call: object, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        found = whole(self, call, batch)  # type: ignore[arg-type]
        return torch.where((batch["t"] > 900).reshape(-1, 1, 1, 1), torch.nan, found)

    monkeypatch.setattr(type(other.model.objective), "outputs", breaks)
    with pytest.raises(ModelError, match=r"train-\d+ at timestep 9\d\d is not a finite number"):
        other.trace([other.picture("train:train-3")], method_named("sgd", draws=10, query_draws=1))


def test_methods_that_make_no_sense_are_refused() -> None:
    for name, changes in (("magic", {}), ("sgd", {"rise": 0.0}), ("sgd", {"draws": 0}), ("sgd", {"shortlist": 2.0})):
        with pytest.raises(AuditError):
            method_named(name, **changes)


def test_groups_add_up(audit: GenerationAudit) -> None:
    sums = group_sums(np.array([1.0, 2.0, -4.0], np.float32), ["a", "b", "a"])
    assert sums == {"b": 2.0, "a": -3.0}


def test_the_commands_generate_and_trace(
    audit: GenerationAudit, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, scores = tmp_path / "painted.png", tmp_path / "scores.parquet"
    assert main(["generate", str(audit.folder), "--out", str(out), "--prompt", "1", "--steps", "3", "--json"]) == 0
    assert Image.open(out).size == (8, 8)
    command = ["attribute", str(audit.folder), "--query", str(out), "--prompt", "1", "--method", "sgd"]
    assert main([*command, "--scores", str(scores), "--top", "3", "--json"]) == 0
    assert '"unchanged_max_abs_score": 0.0' in capsys.readouterr().out
    table = pd.read_parquet(scores)
    assert list(table.columns) == ["id", "score", "pixel", "feature"]
    assert len(table) == N
    assert main(["attribute", str(audit.folder), "--query", str(tmp_path / "none.png")]) == 2
