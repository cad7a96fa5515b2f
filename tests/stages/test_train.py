import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from chain import ROOT, TINY, curves, entry, forget_training, run_data_stages, run_stage
from drawn import grey, tree_drawn
from PIL import Image
from safetensors.torch import load_file
from trees import tree_folder

import stages.train
from affectnet.errors import UserError
from affectnet.files.cache_dir import cache_folder
from affectnet.models.backbones.registry import TRAINING
from affectnet.models.checkpoint import load_model
from affectnet.models.dataset import FaceDataset
from affectnet.models.transforms import normalised
from affectnet.params import parse, read_document
from affectnet.predict.info import text
from affectnet.running.progress_file import PROGRESS_FILE
from affectnet.running.run_stage import _guarded
from affectnet.tables.sampling_plan import CLASS_WEIGHTS
from affectnet.training.resume import TrainingState
from affectnet.training.samplers import SAMPLERS
from affectnet.training.tasks import ExpressionTask
from affectnet.training.trainer import ANSWERED, Trainer, learned_classes, targets_of
from stages.train import TrainParams, _log_skew, check_curves

MODEL = Path("models/model.safetensors")
DOCUMENT = read_document(ROOT / "params.yaml")
CONSTANT = {"shape": "constant", "warmup_epochs": 0.0, "step_epochs": 10, "gamma": 0.9}


def fit(**changes: Any) -> str:
    return run_stage("train", **{"model": TINY, "epochs": 3, "batch": 16, **changes})


def test_the_same_inputs_give_the_same_bytes_and_another_seed_others(prepared: Path) -> None:
    fit()
    first, logged = MODEL.read_bytes(), curves()
    forget_training()
    fit()
    assert MODEL.read_bytes() == first and curves() == logged
    fit(seed=12)
    assert MODEL.read_bytes() != first


def test_half_the_precision_is_the_same_training_in_half_a_file(prepared: Path) -> None:
    fit()
    whole, logged = load_file(MODEL), curves()
    fit(stored_precision="float16")
    assert curves() == logged
    half = load_file(MODEL)
    assert all(torch.equal(tensor, whole[name].to(tensor.dtype)) for name, tensor in half.items())
    assert {tensor.dtype for name, tensor in half.items() if name.endswith("weight")} == {torch.float16}


def test_a_training_learns_what_it_is_shown(prepared: Path) -> None:
    fit(
        epochs=12,
        batch=8,
        augmentation=entry("augmentation", "none"),
        optimizer=entry("optimizer", "adam", lr=3e-3),
        model={**TINY, "dropout": 0.0},
    )
    assert curves()["train/loss"][-1] < 0.5 * curves()["train/loss"][0]


def test_the_model_file_says_all_that_is_needed_to_use_it(prepared: Path) -> None:
    line = fit()
    _, metadata = load_model(MODEL)
    assert (metadata.labels[0], metadata.labels[-1], metadata.image_px) == ("Neutral", "Contempt", 32)
    assert (
        not metadata.grey and metadata.crop["image_px"] == 224 and len(metadata.data) == 64 and metadata.training["params"]["epochs"] == 3
    )
    best = int(np.argmax(curves()["validation/macro_f1"]))
    assert metadata.training["epoch"] == best + 1 and metadata.training["validation/macro_f1"] == curves()["validation/macro_f1"][best]
    assert f"best is epoch {best + 1}" in line
    assert json.loads(Path("metrics/train/environment.json").read_text())["torch"] == torch.__version__


def test_a_training_on_faces_without_colour_takes_it_from_others(workspace: Path) -> None:
    tree = tree_drawn(workspace / "root", each=6, tests=2)
    for path in Path(tree.root).rglob("*.png"):
        Image.open(path).convert("L").save(path)
    run_data_stages(tree)
    fit()
    network, metadata = load_model(MODEL)
    colour = torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8)
    with torch.no_grad():
        of_colour, of_grey = (
            network(normalised(images, metadata.mean, metadata.std)) for images in (colour, torch.from_numpy(grey(colour.numpy())))
        )
    assert metadata.grey and torch.allclose(of_colour, of_grey, atol=0.05) and of_colour.std(0).min() > 0


def test_an_interrupted_training_ends_as_an_uninterrupted_one(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fit(epochs=4)
    whole, logged = MODEL.read_bytes(), curves()
    MODEL.unlink()
    forget_training()
    original = Trainer.validate

    def interrupted(self: Trainer) -> Any:
        interrupted.calls += 1  # type: ignore[attr-defined]
        if interrupted.calls == 3:  # type: ignore[attr-defined]
            raise KeyboardInterrupt
        return original(self)

    interrupted.calls = 0  # type: ignore[attr-defined]
    monkeypatch.setattr(Trainer, "validate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit(epochs=4)
    assert not MODEL.exists()
    resumed: list[int] = []

    def counting(self: Trainer) -> Any:
        resumed.append(1)
        return original(self)

    monkeypatch.setattr(Trainer, "validate", counting)
    fit(epochs=4)
    assert len(resumed) == 2 and MODEL.read_bytes() == whole and curves() == logged


def test_training_ends_when_patience_does(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter([0.1, 0.5, 0.5, 0.2, 0.9, 0.9])
    monkeypatch.setattr(Trainer, "validate", lambda _: ({"validation/loss": 1.0, "validation/macro_f1": next(scores)}, torch.zeros(8)))
    assert "4 epochs on cpu from drawn weights; best is epoch 2" in fit(epochs=6, patience=2)


def test_the_plan_and_not_the_split_is_what_an_epoch_shows(prepared: Path) -> None:
    run_stage("rebalance", method="downsample", limit=3)
    assert "train: 24 faces per epoch" in fit(epochs=1)


def test_frozen_epochs_change_only_the_head(prepared: Path) -> None:
    fit(epochs=1, model={**TINY, "freeze_epochs": 1})
    frozen = load_file(MODEL)
    fit(epochs=1, model={**TINY, "freeze_epochs": 1}, optimizer=entry("optimizer", "adam", lr=1e-2))
    other = load_file(MODEL)
    changed = {name.split(".")[0] for name in frozen if not torch.equal(frozen[name], other[name])}
    assert changed == {"classifier"}


def test_the_models_entry_scales_the_optimisers_rate_and_the_line_says_so(prepared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = fit(model={**TINY, "lr_factor": 0.1}, schedule=CONSTANT)
    assert curves()["learning_rate"] == pytest.approx([1e-4] * 3)
    said = "learning rate 0.0001 at most, optimizers.<name>.lr 0.001 × models.<name>.lr_factor 0.1"
    assert said in line and f"train: 3 epochs; {said}" in capsys.readouterr().err
    assert "learning rate" not in fit(schedule=CONSTANT) and curves()["learning_rate"] == pytest.approx([1e-3] * 3)


def test_the_models_entry_and_the_optimisers_slow_the_lower_layers_together() -> None:
    params = parse(
        {**DOCUMENT, "model": "vit_b_16", "optimizers": {"adam": entry("optimizer", "adam", layer_decay=0.5)}}, "train", TrainParams
    )
    assert params.scaled_optimizer.layer_decay == 0.325 and params.scaled_optimizer.lr == 1.25e-4


def test_the_models_entry_says_how_many_epochs_and_how_large_a_step_unless_train_does() -> None:
    for model, epochs, batch in (("vgg16", 8, 64), ("vgg16_small", 10, 16), ("efficientnet_b2", 9, 64)):
        params = parse({**DOCUMENT, "model": model}, "train", TrainParams)
        assert (params.epochs, params.batch) == (epochs, batch)
        params = parse({**DOCUMENT, "model": model, "train": {**DOCUMENT["train"], "epochs": 30, "batch": 48}}, "train", TrainParams)
        assert (params.epochs, params.batch) == (30, 48)


@pytest.mark.parametrize("name", [name for name, model in DOCUMENT["models"].items() if model["weights"] != "none"])
@pytest.mark.parametrize("optimizer", DOCUMENT["optimizers"])
def test_whatever_starts_from_weights_is_fine_tuned_as_published(name: str, optimizer: str) -> None:
    """Adam, AdamW and SAM: between CAGE's 4e-5 and LDL-FER's 3e-4; SGD: between Emotion-GCN's 1e-3 and a tenth of ESR-9's 0.1."""
    params = parse({**DOCUMENT, "model": name, "optimizer": optimizer}, "train", TrainParams)
    low, high = (1e-3, 1e-2) if optimizer == "sgd" else (4e-5, 3e-4)
    assert low <= params.scaled_optimizer.lr <= high
    assert params.epochs <= (20 if name == "vit_b_16" else 10) and params.model.freeze_epochs <= params.epochs / 3


def test_what_learns_from_nothing_has_the_optimisers_rate_or_a_higher_one() -> None:
    for name, factor in (("vgg16_small", 2), ("vgg16_48", 1)):
        params = parse({**DOCUMENT, "model": name}, "train", TrainParams)
        expected = params.optimizer.model_copy(update={"lr": factor * params.optimizer.lr})
        assert params.model.weights == "none" and params.scaled_optimizer == expected and params.epochs >= 10


def test_sgds_rate_is_in_proportion_to_the_batch_and_the_line_says_so(prepared: Path) -> None:
    for batch, rate in ((16, 0.00625), (128, 0.05), (256, 0.1)):
        params = parse(
            {**DOCUMENT, "optimizer": "sgd", "model": "vgg16_48", "train": {**DOCUMENT["train"], "batch": batch}}, "train", TrainParams
        )
        assert params.scaled_optimizer.lr == rate and (params.scaled_rate == "") == (batch == 128)
    line = fit(optimizer={**entry("optimizer", "sgd"), "reference_batch": 32}, batch=8, schedule=CONSTANT)
    assert curves()["learning_rate"] == pytest.approx([0.0125] * 3)
    assert "learning rate 0.0125 at most, optimizers.<name>.lr 0.05 × models.<name>.lr_factor 1 × batch 8 / reference_batch 32" in line


def test_a_model_file_says_nothing_of_how_it_was_fine_tuned_but_in_its_training(prepared: Path) -> None:
    fit(epochs=1, model={**TINY, "lr_factor": 0.5})
    _, metadata = load_model(MODEL)
    assert set(metadata.model) == TINY.keys() - TRAINING and metadata.training["params"]["model"]["lr_factor"] == 0.5


def test_a_network_that_answers_one_expression_is_said_at_each_epoch_and_at_the_end(
    prepared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steep = entry("optimizer", "adam", lr=10.0)
    line = fit(optimizer=steep, model={**TINY, "architecture": "vgg16"}, schedule=CONSTANT)
    assert curves()[ANSWERED] == [1, 1, 1]
    collapse = "the network predicts one expression for all of validation"
    lines = [f"train: epoch {epoch}: {collapse}; if it stays so, lower optimizers.<name>.lr" for epoch in (1, 2, 3)]
    assert capsys.readouterr().err.splitlines() == lines
    assert line.endswith(f"; {collapse} after 3 of 3 epochs, last after epoch 3: lower optimizers.<name>.lr")


def test_a_network_that_answers_several_expressions_has_not_collapsed(prepared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = fit(
        epochs=12,
        batch=8,
        augmentation=entry("augmentation", "none"),
        optimizer=entry("optimizer", "adam", lr=3e-3),
        model={**TINY, "dropout": 0.0},
    )
    answered = curves()[ANSWERED]
    assert answered[-1] > 1 and "last after epoch 12" not in line
    assert len(capsys.readouterr().err.splitlines()) == answered.count(1.0)


def test_a_loss_that_is_nan_is_one_line_that_names_the_place(prepared: Path) -> None:
    with pytest.raises(UserError, match=r"the loss is NaN or infinite at epoch 1, step \d+, learning rate .*; lower optimizers") as caught:
        fit(optimizer=entry("optimizer", "sgd", lr=1e12))
    assert not MODEL.exists() and "\n" not in str(caught.value)


def test_a_class_without_faces_is_no_output_of_the_network(workspace: Path) -> None:
    run_data_stages(tree_folder(workspace / "root"))
    fit(epochs=1)
    network, metadata = load_model(MODEL)
    assert len(metadata.labels) == 7 and "Contempt" not in metadata.labels
    assert network(torch.zeros(1, 3, 32, 32)).shape == (1, 7)


def test_the_test_split_is_never_opened(prepared: Path) -> None:
    for shard in Path("data/faces").glob("test-*"):
        shard.unlink()
    fit(epochs=1)


def test_decoded_pixels_are_kept(prepared: Path) -> None:
    fit(epochs=1)
    assert len(list(cache_folder("decoded").iterdir())) == 2


WITHOUT: dict[str, bool] = {}
WITH = {"avx512_bf16": True}
"""torch's capabilities of a CPU."""


@pytest.mark.parametrize(("capabilities", "resolved"), [(WITHOUT, "float32"), (WITH, "bfloat16")])
def test_auto_is_the_training_of_the_precision_that_the_processor_has(
    prepared: Path, monkeypatch: pytest.MonkeyPatch, epochs: list[int], capabilities: dict[str, bool], resolved: str
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    fit(epochs=1, precision=resolved)
    weights, logged = load_file(MODEL), curves()
    fit(epochs=1, precision="auto")
    assert epochs == [0] and curves() == logged  # resumed: both have the same resume key
    forget_training()
    fit(epochs=1, precision="auto")
    assert epochs == [0, 0] and curves() == logged and all(torch.equal(tensor, weights[name]) for name, tensor in load_file(MODEL).items())
    _, metadata = load_model(MODEL)
    assert (metadata.training["precision"], metadata.training["params"]["precision"]) == (resolved, "auto")
    assert json.loads(Path("metrics/train/environment.json").read_text())["precision"] == resolved
    assert f"precision {resolved}," in text(MODEL)


def test_auto_on_another_processor_is_another_training(prepared: Path, monkeypatch: pytest.MonkeyPatch, epochs: list[int]) -> None:
    logged = []
    for capabilities in (WITHOUT, WITH):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)  # noqa: B023
        fit(epochs=1, precision="auto")
        logged.append(curves()["train/loss"])
    assert epochs == [0, 0] and logged[0] != logged[1]


@pytest.mark.parametrize(("precision", "lines"), [("bfloat16", 1), ("auto", 0), ("float32", 0)])
def test_a_precision_that_the_processor_emulates_is_logged(
    prepared: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], precision: str, lines: int
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: WITHOUT)
    fit(epochs=1, precision=precision)
    log = [line for line in capsys.readouterr().err.splitlines() if "precision: bfloat16, for which this cpu has no instructions" in line]
    assert len(log) == lines


@pytest.mark.parametrize(
    ("loss", "targets", "mass", "said"),
    [
        ("gce", "hard", [0.2, 0.7, 0.1], "choose balanced\n"),
        ("elr", "soft", [0.2, 0.7, 0.1], "choose balanced, and train.targets=hard, for soft targets keep the skew of the data\n"),
        ("sce", "hard", [0.4, 0.3, 0.3], ""),
        ("eac", "hard", [0.2, 0.7, 0.1], ""),
    ],
)
def test_a_loss_that_does_not_correct_for_the_skew_is_named(
    prepared: Path, capsys: pytest.CaptureFixture[str], loss: str, targets: str, mass: list[float], said: str
) -> None:
    document = read_document()
    document["train"]["targets"], document["loss"] = targets, loss
    _log_skew(parse(document, "train", TrainParams), torch.tensor(mass))
    start = f"train.sampler: plan: the targets hold 7 times as much of one expression as of another, for which loss {loss} does not"
    log = capsys.readouterr().err
    assert log.endswith(said) and log.startswith(start if said else "") and bool(log) == bool(said)


@pytest.mark.parametrize(("frozen", "lines"), [(1, 1), (0, 0)])
def test_a_training_of_the_head_only_is_named(prepared: Path, capsys: pytest.CaptureFixture[str], frozen: int, lines: int) -> None:
    fit(model={**TINY, "freeze_epochs": frozen}, epochs=1)
    log = capsys.readouterr().err
    assert log.count("train: only the head learns, for models.<name>.freeze_epochs is 1") == lines
    assert log.count("train: random weights stay fixed for 1 epoch; set models.<name>.freeze_epochs to 0") == lines


@pytest.mark.parametrize(("share", "stop_after", "lines"), [(0.5, 1, 1), (0.5, 0, 0), (0.9, 0, 1), (1.0, 0, 0)])
def test_class_weights_that_had_no_part_in_the_training_are_named(
    prepared: Path, capsys: pytest.CaptureFixture[str], share: float, stop_after: int, lines: int
) -> None:
    fit(epochs=2, stop_after=stop_after, loss=entry("loss", "ldam", reweight_from=share))
    assert capsys.readouterr().err.count("train: loss ldam: the class weights count from epoch ") == lines


@pytest.fixture
def epochs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Records the epochs that are trained, counted from 0."""
    original, trained = Trainer.train_epoch, list[int]()

    def counting(trainer: Trainer, epoch: int) -> float:
        trained.append(epoch)
        return original(trainer, epoch)

    monkeypatch.setattr(Trainer, "train_epoch", counting)
    return trained


def results() -> dict[Path, bytes]:
    return {path: path.read_bytes() for folder in (MODEL.parent, Path("metrics/train")) for path in folder.rglob("*") if path.is_file()}


def test_a_training_whose_outputs_are_lost_after_its_end_ends_at_once_with_the_same_bytes(
    prepared: Path, epochs: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    """As when DVC is killed before it stores the outputs: it removes them before the stage runs again."""
    line, whole = fit(), results()
    shutil.rmtree(MODEL.parent)
    shutil.rmtree("metrics/train")
    assert fit() == line and results() == whole and epochs == [0, 1, 2]
    assert capsys.readouterr().err.startswith("resume: continuing after epoch 3 of ")


def test_a_training_that_launch_refuses_ends_at_once_when_it_runs_again(
    prepared: Path, epochs: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The result is refused because params.yaml is edited while the stage runs; then the edit is reverted."""
    document = read_document()
    document["train"] |= {"epochs": 3, "batch": 16}
    document["models"]["vgg16_small"], document["runtime"]["device"] = TINY, "cpu"
    params, edited = (json.dumps(content) for content in (document, {**document, "loss": "plain"}))
    Path("params.yaml").write_text(params)
    with monkeypatch.context() as while_it_runs:
        while_it_runs.setattr(stages.train, "check_curves", lambda *_: Path("params.yaml").write_text(edited))
        with pytest.raises(UserError, match=r"changed while it ran, 2: losses\.logit_adjusted, losses\.plain"):
            _guarded(stages.train.run)
    whole = results()
    Path("params.yaml").write_text(params)
    _guarded(stages.train.run)
    assert results() == whole and epochs == [0, 1, 2]


def test_the_best_weights_are_copied_once_and_are_not_the_networks(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores, saved = iter([0.1, 0.5, 0.4, 0.2, 0.9]), list[tuple[int, dict[str, torch.Tensor], dict[str, torch.Tensor]]]()
    monkeypatch.setattr(Trainer, "validate", lambda _: ({"validation/loss": 1.0, "validation/macro_f1": next(scores)}, torch.zeros(8)))

    def recording(_: TrainingState, state: dict[str, Any]) -> None:
        saved.append((state["progress"]["best_epoch"], state["progress"]["best_weights"], state["network"]))

    monkeypatch.setattr(TrainingState, "save", recording)
    fit(epochs=5)
    assert [best for best, _, _ in saved] == [1, 2, 2, 2, 5]
    assert saved[1][1] is saved[2][1] is saved[3][1] and saved[0][1] is not saved[1][1] is not saved[4][1]
    for _, weights, network in saved:
        assert all(tensor.device.type == "cpu" and tensor.data_ptr() != network[name].data_ptr() for name, tensor in weights.items())
    name = next(iter(saved[0][1]))
    assert len({tuple(weights[name].flatten().tolist()) for _, weights, _ in saved}) == 3


def test_a_damaged_shard_is_one_line(prepared: Path) -> None:
    shard = next(Path("data/faces").glob("train-*"))
    table = pq.read_table(shard)
    images = [{"bytes": b"no image", "path": row["path"]} for row in table["image"].to_pylist()]
    pq.write_table(table.set_column(0, table.schema.field("image"), pa.array(images, table.schema.field("image").type)), shard)
    with pytest.raises(UserError, match=r"train-00000-of-00001\.parquet: row 1: unreadable image") as caught:
        fit(epochs=1)
    assert "\n" not in str(caught.value)


def weights(planned: list[int]) -> pa.Table:
    codes = range(8)
    columns = {
        "expression": codes,
        "name": ["x"] * 8,
        "count": planned,
        "planned": planned,
        "weight": [float(n > 0) * (n + 1) for n in planned],
    }
    return pa.table({name: pa.array(list(values), CLASS_WEIGHTS.schema.field(name).type) for name, values in columns.items()})


def test_only_planned_expressions_are_learned_and_others_do_not_count_in_the_loss() -> None:
    classes = learned_classes(weights([5, 0, 7, 0, 0, 0, 0, 9]), ExpressionTask(outputs="expression"))
    assert (classes.codes.tolist(), classes.weights.tolist(), classes.plan_counts.tolist()) == ([0, 2, 7], [6, 8, 10], [5, 7, 9])
    nothing = torch.full((4,), float("nan"))
    targets = targets_of(FaceDataset(torch.empty(4), torch.tensor([0, 1, 2, 7]), nothing, nothing), classes)
    assert targets.expression.tolist() == [[1, 0, 0], [0, 0, 0], [0, 1, 0], [0, 0, 1]]
    with pytest.raises(UserError, match="the plan shows 1 expression"):
        learned_classes(weights([5, 0, 0, 0, 0, 0, 0, 0]), ExpressionTask(outputs="expression"))


def test_unknown_keys_of_the_selected_entry_are_refused() -> None:
    with pytest.raises(ValueError, match="extra"):
        TrainParams.model_validate({"model": {**TINY, "depth": 3}})


ALIKE_OR_BELOW = {"logit_adjusted", "balanced_softmax", "weighted"}
"""The default loss, the one that equals it at τ = 1, and the one tested with label smoothing."""

SWITCHES: dict[str, dict[str, Any]] = {
    **{f"loss {name}": {"loss": entry("loss", name)} for name in DOCUMENT["losses"] if name not in ALIKE_OR_BELOW},
    **{f"optimizer {name}": {"optimizer": entry("optimizer", name)} for name in DOCUMENT["optimizers"] if name != "adam"},
    **{f"task {name}": {"task": entry("task", name)} for name in ("affect", "both")},
    **{f"sampler {name}": {"sampler": name} for name in SAMPLERS if name != "plan"},
    "uncertainty": {"task": entry("task", "both", weighting="uncertainty")},
    "layer decay": {"optimizer": entry("optimizer", "adam", layer_decay=0.8)},
    "moving average": {"ema": 0.5},
    "clipping": {"clip_norm": 0.01},
    "accumulation": {"accumulate": 2},
    "strong augmentation": {"augmentation": entry("augmentation", "strong")},
    "bfloat16": {"precision": "bfloat16"},
    "label smoothing": {"loss": entry("loss", "weighted", label_smoothing=0.2)},
}


@pytest.fixture(scope="module")
def usual(prepared_once: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The model file without a change."""
    folder = tmp_path_factory.mktemp("usual")
    shutil.copytree(prepared_once, folder, dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        fit(epochs=2)
    return (folder / MODEL).read_bytes()


@pytest.mark.parametrize("changes", SWITCHES.values(), ids=SWITCHES)
def test_each_switch_trains_another_model_the_same_one_twice_and_resumes_to_it(
    usual: bytes, prepared: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    fit(epochs=2, **changes)
    switched = MODEL.read_bytes()
    forget_training()
    assert switched != usual and np.isfinite(curves()["train/loss"]).all()
    original, calls = Trainer.validate, []

    def interrupted(self: Trainer) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(self)

    monkeypatch.setattr(Trainer, "validate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit(epochs=2, **changes)
    fit(epochs=2, **changes)
    assert MODEL.read_bytes() == switched and len(calls) == 3


def test_an_unclipped_gradient_a_radius_of_0_and_a_decay_of_0_change_nothing(prepared: Path) -> None:
    fit()
    usual = load_file(MODEL)
    fit(clip_norm=1e9)
    assert all(torch.equal(tensor, usual[name]) for name, tensor in load_file(MODEL).items())


def test_valence_and_arousal_only_have_no_expression_output(prepared: Path) -> None:
    line = fit(task=entry("task", "affect"))
    network, metadata = load_model(MODEL)
    assert (metadata.labels, metadata.affect, metadata.temperature) == ((), True, 1.0) and network(torch.zeros(1, 3, 32, 32)).shape == (
        1,
        2,
    )
    assert "valence_ccc" in line and "macro_f1" not in line
    mean = (np.array(curves()["validation/valence_ccc"]) + curves()["validation/arousal_ccc"]) / 2
    assert metadata.training["score"] == mean.max()


def test_curves_that_are_not_what_was_logged_are_refused_and_nan_equals_nan(tmp_path: Path) -> None:
    folder = tmp_path / "plots" / "metrics" / "train"
    folder.mkdir(parents=True)
    history = [{"train/loss": 0.1}, {"train/loss": float("nan")}]
    (folder / "loss.tsv").write_text("step\tloss\n0\t0.1\n1\tnan\n")
    check_curves(tmp_path, history)
    for wrong in ("step\tloss\n0\t0.1\n", "step\tloss\n0\t0.1\n1\t0.2\n"):
        (folder / "loss.tsv").write_text(wrong)
        with pytest.raises(UserError, match="not what was logged"):
            check_curves(tmp_path, history)
    (folder / "loss.tsv").unlink()
    with pytest.raises(UserError, match=r"train/loss\.tsv: not what was logged"):
        check_curves(tmp_path, history)


def test_a_split_without_valence_and_arousal_cannot_be_asked_for_them(workspace: Path) -> None:
    run_data_stages(tree_folder(workspace / "root"))
    with pytest.raises(UserError, match="task: 0 faces of the split train have valence and arousal"):
        fit(task=entry("task", "both"))


def test_both_tasks_share_a_trunk_and_the_best_epoch_is_best_in_both(prepared: Path) -> None:
    fit(task=entry("task", "both"))
    network, metadata = load_model(MODEL)
    assert (len(metadata.labels), metadata.affect) == (8, True) and network(torch.zeros(1, 3, 32, 32)).shape == (1, 10)
    logged = curves()
    affect = (np.array(logged["validation/valence_ccc"]) + logged["validation/arousal_ccc"]) / 2
    score = (np.array(logged["validation/macro_f1"]) + affect) / 2
    assert metadata.training["epoch"] == score.argmax() + 1


def test_a_training_stopped_after_some_epochs_is_the_start_of_the_whole_one(prepared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(epochs=3)
    whole = curves()
    line = fit(epochs=3, stop_after=2)
    assert "2 epochs on cpu" in line
    assert all(values == whole[name][:2] for name, values in curves().items())
    assert "of epoch 3, this training ends after epoch 2); starting from the first epoch" in capsys.readouterr().err
    assert "3 epochs on cpu" in fit(epochs=3) and curves() == whole
    assert capsys.readouterr().err.startswith("resume: continuing after epoch 2 of ")


def test_each_epochs_metrics_are_in_the_progress_file(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PROGRESS_FILE, str(tmp_path / "progress.jsonl"))
    fit(epochs=2)
    epochs = [json.loads(line) for line in (tmp_path / "progress.jsonl").read_text().splitlines()]
    assert [values["score"] for values in epochs] == [values["validation/macro_f1"] for values in epochs] == curves()["validation/macro_f1"]


def test_dynamic_weights_are_logged_and_move(prepared: Path) -> None:
    for name in ("dynamic", "dynamic_learned"):
        fit(epochs=2, loss=entry("loss", name))
        rows = np.array([values for key, values in curves().items() if key.startswith("loss_weight/")])
        assert rows.shape == (8, 2) and rows.mean(0) == pytest.approx(1, abs=1e-5)
        assert not np.allclose(rows[:, 0], rows[:, 1])


def test_start_weights_match_their_record_and_stand_in_the_model_file(prepared: Path) -> None:
    path, model = prepared / "start.pth", {**TINY, "weights": "start.pth"}
    fit(epochs=1)
    assert load_model(MODEL)[1].training["started_from"]["weights"]["source"] == "none"
    torch.save(load_file(MODEL), path)
    with pytest.raises(UserError, match=r"weights.json: records none.*, training reads start.pth of SHA-256 \w+; run `dvc repro`"):
        fit(epochs=1, model=model)
    run_stage("fingerprint", model=model)
    assert "1 epoch on cpu from start.pth; best" in fit(epochs=1, model=model)
    record = load_model(MODEL)[1].training["started_from"]
    assert record == {
        "weights": {"source": "file", "name": "start.pth", "version": None, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()},
        "unwrapped": [],
    }
    torch.save({name: tensor + 1 for name, tensor in load_file(MODEL).items()}, path)
    with pytest.raises(UserError, match=r"records start.pth of SHA-256 \w+, training reads start.pth of SHA-256 \w+; run `dvc repro`"):
        fit(epochs=1, model=model)
