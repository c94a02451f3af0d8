"""Scores of rows: closed forms, exactness of the unchanged model, invariances, planted answers, bad luck."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from tiny_problems import (
    DenseFisher,
    classifier,
    digest,
    fit,
    flat,
    regression,
    row,
    row_gradients,
    trained_on_digits,
)
from torch import Tensor, nn

from forwardinf_core.errors import CancelledError, ModelError
from forwardinf_core.influence.network import FullNetwork, Parameters, TensorRows, losses
from forwardinf_core.influence.objective import Batch, Classification
from forwardinf_core.influence.released import released_update
from forwardinf_core.influence.scoring import (
    base_pass,
    candidate_scores,
    output_changes,
    score_batch,
    score_rows,
    score_tables,
)
from forwardinf_core.influence.step import query_gradient, take_steps
from forwardinf_core.influence.update import StepOptions, Update, moved_parameters

ATOL_FP32 = 2e-6  # of scores from float32 logits of size up to 5: a few roundings of 2⁻²⁴ · 5 before the difference
FORMS = ("precise", "difference")
DIRECTIONS = ("ascent", "descent", "central")


@pytest.fixture(autouse=True)
def _threads_as_before() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def all_updates(network: FullNetwork, query: Batch) -> list[Update]:
    steps = [StepOptions(method, direction) for method in ("sgd", "adam") for direction in DIRECTIONS]  # type: ignore[arg-type]
    return [take_steps(network, [query], options)[0] for options in steps] + [released_update(network, query)]


def tiny(network: FullNetwork, query: Batch, method: str, direction: str, length: float = 1e-6) -> Update:
    options = StepOptions(method, direction, rise=None, learning_rate=length, unsaturated=False)  # type: ignore[arg-type]
    return take_steps(network, [query], options)[0]


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("form", FORMS)
def test_a_tiny_sgd_step_gives_the_gradient_dot_product(direction: str, form: str) -> None:
    network, rows = classifier(torch.float64)
    update = tiny(network, row(rows, 2), "sgd", direction)
    gradients = row_gradients(network, rows)
    found = score_batch(network, rows, [update], None, form=form)[:, 0] / 1e-6  # type: ignore[arg-type]
    # one-sided differences leave the second order, 1e-6 of the first; rounding 1e-16 / 1e-6
    torch.testing.assert_close(found, gradients @ gradients[2], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_tiny_adam_step_gives_the_product_with_the_sign_of_the_gradient(direction: str) -> None:
    network, rows = classifier(torch.float64)
    update = tiny(network, row(rows, 2), "adam", direction)
    gradients = row_gradients(network, rows)
    found = score_batch(network, rows, [update], None)[:, 0] / 1e-6
    torch.testing.assert_close(found, gradients @ gradients[2].sign(), rtol=1e-3, atol=1e-3)


def test_scores_of_a_quadratic_are_exact_for_any_step_length() -> None:
    network, rows = regression()
    (update,) = take_steps(network, [row(rows, 0)], StepOptions("sgd", rise=0.5))
    shift = rows["x"] @ update.changes["weight"][0]
    residual = network.outputs(network.parameters, rows) - rows["y"]
    for form in FORMS:
        found = score_batch(network, rows, [update], None, form=form)[:, 0]  # type: ignore[arg-type]
        torch.testing.assert_close(found, residual * shift + 0.5 * shift**2)


def test_a_tiny_fisher_step_on_logistic_regression_gives_the_influence_function() -> None:
    generator = torch.Generator().manual_seed(2)
    module = nn.Linear(5, 3).double().eval()
    rows = {
        "x": torch.randn(40, 5, generator=generator, dtype=torch.float64),
        "label": torch.randint(0, 3, (40,), generator=generator),
    }
    network = FullNetwork(module, Classification())
    options = StepOptions("curvature", rise=None, learning_rate=1e-6, damping=1e-2, unsaturated=False)
    updates = take_steps(network, [row(rows, 0), row(rows, 1)], options, DenseFisher(network, rows))
    found = score_batch(network, rows, updates, None) / 1e-6
    gradients = row_gradients(network, rows)
    fisher = gradients.T @ gradients / 40
    matrix = fisher + 1e-2 * fisher.trace() * torch.eye(18, dtype=torch.float64)
    expected = gradients @ torch.linalg.solve(matrix, gradients[:2].T)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("batch_size", [1, 7, 60])
def test_the_unchanged_model_scores_exactly_zero_on_every_row(form: str, batch_size: int) -> None:
    network, rows = classifier()
    base = base_pass(network, TensorRows(rows), batch_size)
    unchanged = [
        take_steps(network, [row(rows, 0)], StepOptions(direction=direction, rise=None, learning_rate=0.0))[0]  # type: ignore[arg-type]
        for direction in DIRECTIONS
    ]
    scores = score_rows(network, TensorRows(rows), unchanged, base.outputs, batch_size=batch_size, form=form)  # type: ignore[arg-type]
    assert torch.equal(scores, torch.zeros(60, 3))


def test_scores_do_not_depend_on_batch_size() -> None:
    network, rows = classifier()
    updates = all_updates(network, row(rows, 0))
    expected = score_rows(network, TensorRows(rows), updates, None, batch_size=60)
    for batch_size in (1, 7, 59):
        base = base_pass(network, TensorRows(rows), batch_size)
        found = score_rows(network, TensorRows(rows), updates, base.outputs, batch_size=batch_size)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=ATOL_FP32)


def test_scores_do_not_depend_on_the_order_of_rows() -> None:
    network, rows = classifier()
    updates = all_updates(network, row(rows, 0))
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    expected = score_rows(network, TensorRows(rows), updates, None, batch_size=16)
    shuffled = TensorRows({name: value[order] for name, value in rows.items()})
    found = score_rows(network, shuffled, updates, None, batch_size=16)
    torch.testing.assert_close(found, expected[order], rtol=1e-5, atol=ATOL_FP32)


def test_scores_do_not_depend_on_the_number_of_threads() -> None:
    module, rows = trained_on_digits(epochs=5)
    network = FullNetwork(module, Classification())
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        updates = take_steps(network, [row(rows, 0)], StepOptions("sgd"))
        base = base_pass(network, TensorRows(rows), 100)
        found.append(score_rows(network, TensorRows(rows), updates, base.outputs, batch_size=100))
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=ATOL_FP32)


def test_queries_scored_together_equal_queries_scored_alone_and_share_each_read() -> None:
    network, rows = classifier()
    reads: list[tuple[int, int]] = []

    class Counted(TensorRows):
        def batch(self, start: int, stop: int) -> Batch:
            reads.append((start, stop))
            return super().batch(start, stop)

    queries = [row(rows, i) for i in range(4)]
    updates = take_steps(network, queries, StepOptions())
    together = score_rows(network, Counted(rows), updates, None, batch_size=25)
    assert reads == [(0, 25), (25, 50), (50, 60)]
    for i, update in enumerate(updates):
        alone = score_rows(network, TensorRows(rows), [update], None, batch_size=25)
        assert torch.equal(together[:, i], alone[:, 0])


def test_scores_of_a_set_of_queries_are_the_sum_of_single_scores_to_first_order() -> None:
    network, rows = classifier(torch.float64)
    options = StepOptions("sgd", "central", rise=None, learning_rate=1e-5)
    singles = score_batch(network, rows, take_steps(network, [row(rows, i) for i in range(4)], options), None)
    together = score_batch(
        network, rows, take_steps(network, [{name: value[:4] for name, value in rows.items()}], options), None
    )
    torch.testing.assert_close(together[:, 0], singles.sum(1), rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("form", FORMS)
def test_ascent_descent_and_central_agree_to_first_order_and_central_is_their_mean(form: str) -> None:
    network, rows = classifier(torch.float64)
    ascent, descent, central = (
        score_batch(network, rows, [tiny(network, row(rows, 1), "sgd", direction)], None, form=form)[:, 0]  # type: ignore[arg-type]
        for direction in DIRECTIONS
    )
    torch.testing.assert_close(central, (ascent + descent) / 2, rtol=1e-6, atol=1e-14)
    # a step of 1e-6 leaves a second order of about 1e-6 of the largest score, and rounding of 1e-16 of the losses
    torch.testing.assert_close(ascent, descent, rtol=1e-4, atol=1e-4 * float(ascent.abs().max()))


def test_the_precise_form_agrees_with_the_float64_difference() -> None:
    single, rows = classifier()
    double, rows_double = classifier(torch.float64)
    (update,) = take_steps(double, [row(rows_double, 0)], StepOptions("sgd", rise=0.5))
    changes = {name: value.float() for name, value in update.changes.items()}
    twin = Update(changes, "ascent", 0, 0, 0, 0, update.options)
    expected = score_batch(double, rows_double, [update], None, form="difference")
    found = score_batch(single, rows, [twin], None)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=ATOL_FP32)


def test_a_fitted_row_keeps_a_score_where_the_plain_difference_has_none() -> None:
    network, rows = classifier()
    network.parameters = network.parameters | {"3.bias": torch.tensor([24.0, 0.0, 0.0, 0.0])}
    query = row(rows, 0) | {"label": torch.tensor([1])}
    fitted = row(rows, 1) | {"label": torch.tensor([0])}
    assert losses(network, network.parameters, fitted).item() < 1e-7
    (update,) = take_steps(network, [query], StepOptions("sgd", rise=0.1))
    precise = score_batch(network, fitted, [update], None).double()

    double, _ = classifier(torch.float64)
    double.parameters = {name: value.double() for name, value in network.parameters.items()}
    exact = Update({n: c.double() for n, c in update.changes.items()}, "ascent", 0, 0, 0, 0, update.options)
    fitted_double = {name: value.double() if value.is_floating_point() else value for name, value in fitted.items()}
    expected = score_batch(double, fitted_double, [exact], None)
    assert 0 < abs(expected.item()) < 1e-9
    # the change of the logits itself is a difference of float32 numbers near 24: 2⁻²⁰ of absolute error on about 0.1
    torch.testing.assert_close(precise, expected, rtol=2e-4, atol=0.0)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_candidate_scores_equal_scoring_again_with_the_label_replaced(direction: str) -> None:
    network, rows = classifier()
    (update,) = take_steps(network, [row(rows, 0)], StepOptions("sgd", direction, rise=0.5))  # type: ignore[arg-type]
    base = base_pass(network, TensorRows(rows), 60)
    changes = output_changes(network, rows, update, base.outputs)
    objective = Classification()
    candidates = candidate_scores(objective, base.outputs, changes, update.direction)
    assert candidates.shape == (60, 4)
    for label in range(4):
        relabelled = rows | {"label": torch.full((60,), label)}
        expected = score_batch(network, relabelled, [update], base.outputs)[:, 0]
        torch.testing.assert_close(candidates[:, label], expected, rtol=1e-5, atol=ATOL_FP32)


def test_candidate_scores_of_the_released_recipe_have_no_sign() -> None:
    network, rows = classifier()
    update = released_update(network, row(rows, 0))
    changes = output_changes(network, rows, update)
    base = base_pass(network, TensorRows(rows), 60)
    candidates = candidate_scores(Classification(), base.outputs, changes, "absolute")
    own = candidates.gather(1, rows["label"].unsqueeze(1))[:, 0]
    torch.testing.assert_close(own, score_batch(network, rows, [update], None)[:, 0], rtol=1e-4, atol=ATOL_FP32)
    assert (candidates >= 0).all()


COPY, WRONG_COPY = 50, 150
Planted = tuple[nn.Module, Batch, Batch]


@pytest.fixture(scope="module")
def planted() -> Planted:
    """A network trained on 200 digits, among them a copy of the query and a copy with a wrong label."""
    _, rows = trained_on_digits(n=260, epochs=0)
    query = row(rows, 255)
    rows = {name: value[:200].clone() for name, value in rows.items()}
    wrong = (query["label"] + 3) % 10
    for position, label in ((COPY, query["label"]), (WRONG_COPY, wrong)):
        rows["x"][position] = query["x"][0]
        rows["label"][position] = label[0]
    return fit(rows, epochs=40), rows, query


@pytest.mark.parametrize("scope", ["head", "full"])
@pytest.mark.parametrize(
    "options",
    [
        StepOptions("sgd"),
        StepOptions("sgd", "descent"),
        StepOptions("sgd", "central"),
        StepOptions("adam"),
        StepOptions("curvature", damping=1e-2),
        StepOptions("curvature", "central", damping=1e-2),
    ],
    ids=lambda options: f"{options.method}-{options.direction}",
)
def test_planted_copies_of_the_query_rank_first_and_last(options: StepOptions, scope: str, planted: Planted) -> None:
    module, rows, query = planted
    network = FullNetwork(module, Classification(), {"head": ["2.weight", "2.bias"], "full": None}[scope])
    curvature = DenseFisher(network, rows) if options.method == "curvature" else None
    (update,) = take_steps(network, [query], options, curvature)
    scores = score_rows(network, TensorRows(rows), [update], None, batch_size=64)[:, 0]
    assert int(scores.argmax()) == COPY
    assert int(scores.argmin()) == WRONG_COPY
    assert scores[COPY] > 0 > scores[WRONG_COPY]


def test_the_released_recipe_finds_the_copy_of_a_memorized_query_near_the_top(planted: Planted) -> None:
    module, rows, query = planted
    network = FullNetwork(module, Classification())
    scores = score_rows(network, TensorRows(rows), [released_update(network, query)], None, batch_size=64)[:, 0]
    assert (scores >= 0).all()
    assert int((scores > scores[COPY]).sum()) < 20  # without a sign both copies and their class compete


def test_no_method_changes_a_byte_of_the_weights() -> None:
    network, rows = classifier()
    before = digest(network.module)
    updates = all_updates(network, row(rows, 0))
    base = base_pass(network, TensorRows(rows), 16)
    score_rows(network, TensorRows(rows), updates, base.outputs, batch_size=16)
    assert digest(network.module) == before


def test_nothing_is_recorded_for_gradients() -> None:
    network, rows = classifier()
    base = base_pass(network, TensorRows(rows), 16)
    scores = score_rows(network, TensorRows(rows), all_updates(network, row(rows, 0)), base.outputs, batch_size=16)
    assert not base.outputs.requires_grad
    assert not base.losses.requires_grad
    assert not scores.requires_grad


class Starved:
    """A network that runs out of memory on more than ``limit`` rows, like torch's allocator does."""

    def __init__(self, network: FullNetwork, limit: int, error: Exception) -> None:
        self.network, self.limit, self.error = network, limit, error
        self.objective, self.parameters = network.objective, network.parameters

    def outputs(self, parameters: Parameters, batch: Batch) -> Tensor:
        if len(batch["x"]) > self.limit:
            raise self.error
        return self.network.outputs(parameters, batch)


NO_MEMORY = (
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: you tried to"),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
    MemoryError(),
)


@pytest.mark.parametrize("error", NO_MEMORY, ids=["cpu", "cuda", "python"])
def test_a_batch_that_does_not_fit_is_halved_and_the_work_goes_on(error: Exception) -> None:
    network, rows = classifier()
    updates = take_steps(network, [row(rows, 0)], StepOptions())
    unchanged = take_steps(network, [row(rows, 0)], StepOptions(rise=None, learning_rate=0.0))
    notes: list[tuple[float, str]] = []
    starved = Starved(network, 10, error)
    base = base_pass(network, TensorRows(rows), 40)  # fitted; later there is less memory
    scores = score_rows(
        starved,
        TensorRows(rows),
        [*updates, *unchanged],
        base.outputs,
        batch_size=40,
        report=lambda share, note: notes.append((share, note)),
    )
    expected = score_rows(network, TensorRows(rows), updates, base.outputs, batch_size=40)
    torch.testing.assert_close(scores[:, :1], expected, rtol=1e-5, atol=ATOL_FP32)
    assert torch.equal(scores[:, 1], torch.zeros(60))
    assert [note for _, note in notes if note] == [
        "Out of memory: going on with 20 rows at a time.",
        "Out of memory: going on with 10 rows at a time.",
    ]
    assert notes[-1] == (1.0, "")


def test_the_base_pass_starts_over_with_half_the_batch_and_tells_the_size_it_used() -> None:
    network, rows = classifier()
    starved = Starved(network, 10, NO_MEMORY[0])
    base = base_pass(starved, TensorRows(rows), 40)
    assert base.batch_size == 10
    assert torch.equal(base.outputs, base_pass(network, TensorRows(rows), 10).outputs)
    unchanged = take_steps(network, [row(rows, 0)], StepOptions(rise=None, learning_rate=0.0))
    scores = score_rows(starved, TensorRows(rows), unchanged, base.outputs, batch_size=base.batch_size)
    assert torch.equal(scores, torch.zeros(60, 1))


def test_memory_for_not_even_one_row_is_told_in_a_sentence() -> None:
    network, rows = classifier()
    starved = Starved(network, 0, NO_MEMORY[0])
    with pytest.raises(ModelError, match="not enough memory"):
        base_pass(starved, TensorRows(rows), 8)
    updates = take_steps(network, [row(rows, 0)], StepOptions())
    with pytest.raises(ModelError, match="not enough memory"):
        score_rows(starved, TensorRows(rows), updates, None, batch_size=8)


def test_other_runtime_errors_pass_through() -> None:
    network, rows = classifier()
    broken = Starved(network, 0, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        base_pass(broken, TensorRows(rows), 8)


def test_a_report_may_stop_the_work() -> None:
    network, rows = classifier()

    def stop(share: float, note: str) -> None:
        raise CancelledError("Stopped.")

    with pytest.raises(CancelledError):
        base_pass(network, TensorRows(rows), 8, report=stop)


def test_a_row_whose_loss_is_not_finite_is_named() -> None:
    network, rows = classifier()
    rows["x"][37, 2] = float("nan")
    with pytest.raises(ModelError, match="row 37 is nan"):
        base_pass(network, TensorRows(rows), 16)


def test_a_step_that_breaks_the_model_on_the_rows_is_told_in_a_sentence() -> None:
    network, rows = classifier()
    options = StepOptions(rise=None)
    good = take_steps(network, [row(rows, 0)], options)[0]
    gradient = query_gradient(network, row(rows, 0))[1]
    bad = Update({n: v * float("inf") for n, v in gradient.items()}, "ascent", 0, 0, 0, 0, options)
    with pytest.raises(ModelError, match="query 2 of 2 breaks the model"):
        score_rows(network, TensorRows(rows), [good, bad], None, batch_size=16)


def test_tables_hold_the_scores_of_each_query_in_float32() -> None:
    network, rows = classifier(torch.float64)
    base = base_pass(network, TensorRows(rows), 60)
    updates = take_steps(network, [row(rows, 0), row(rows, 1)], StepOptions())
    scores = score_rows(network, TensorRows(rows), updates, base.outputs, batch_size=60)
    assert scores.dtype == torch.float64
    tables = score_tables(scores, base.losses, "full")
    assert [table.scope for table in tables] == ["full", "full"]
    for i, table in enumerate(tables):
        assert table.score.dtype == table.base_loss.dtype == "float32"
        assert torch.equal(torch.from_numpy(table.score), scores[:, i].float())


def test_the_moved_head_alone_equals_the_dot_product_with_the_head_gradients() -> None:
    network, rows = classifier(torch.float64)
    head = FullNetwork(network.module, network.objective, ["3.weight", "3.bias"])
    update = tiny(head, row(rows, 5), "sgd", "central")
    gradients = row_gradients(head, rows)
    found = score_batch(head, rows, [update], None)[:, 0] / 1e-6
    torch.testing.assert_close(found, gradients @ gradients[5], rtol=1e-5, atol=1e-6)
    assert flat(moved_parameters(head, update)).shape == (16 * 4 + 4,)
