"""Exporting from the command line: files that answer as the network in other runtimes, the Hub's folder, mistakes."""

import io
import json
import re
import shutil
import signal
import sys
from contextlib import redirect_stdout, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import forked
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import yaml

import hybrid_vit
from hybrid_vit import export
from hybrid_vit.data.sources import digits
from hybrid_vit.deploy.runtimes import open_graph
from hybrid_vit.deploy.trained import Trained

ROOT = Path(__file__).parents[1]
CLOSE = {"rtol": 1e-4, "atol": 1e-4}  # the logits are up to 10 in size


class Export(NamedTuple):
    """A folder that the command wrote, and what it printed."""

    folder: Path
    printed: str

    @property
    def about(self) -> dict:
        return json.loads((self.folder / "export.json").read_text())


def call(*argv: object) -> str:
    """What the command prints."""
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as printed:
        patch.setattr(sys, "argv", ["export", *map(str, argv)])
        export.main()
    return printed.getvalue()


@pytest.fixture(scope="module")
def trained() -> Trained:
    return hybrid_vit.load("quickstart")


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    """(359, 3, 32, 32) uint8: the test set of the run."""
    return digits(None).test_images


@pytest.fixture(scope="module")
def onnx_export(tmp_path_factory: pytest.TempPathFactory) -> Export:
    folder = tmp_path_factory.mktemp("onnx")
    settings = ("preprocess=true", "int8=true", "calibration=64", f"hydra.run.dir={folder}")
    return Export(folder, call("quickstart", "target=onnx", *settings))


@pytest.fixture(scope="module")
def hub_export(tmp_path_factory: pytest.TempPathFactory) -> Export:
    folder = tmp_path_factory.mktemp("hub")
    printed = call("model=quickstart", "target=hub", "images=50", f"hydra.run.dir={folder}")
    shutil.copy(ROOT / "docs" / "digit.png", folder / "image.png")
    return Export(folder, printed)


@pytest.mark.parametrize("batch", [1, 3])
def test_onnx_with_the_preprocessing_inside(
    onnx_export: Export, trained: Trained, images: torch.Tensor, batch: int
) -> None:
    session = onnxruntime.InferenceSession(onnx_export.folder / "model.onnx")
    (given,), (answer,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.type, given.shape) == ("images", "tensor(uint8)", ["batch", 32, 32, 3])
    assert (answer.name, answer.shape) == ("logits", ["batch", 10])
    pixels = images[:batch].permute(0, 2, 3, 1).numpy()
    (logits,) = session.run(None, {"images": np.ascontiguousarray(pixels)})
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(logits), trained(trained.normalize(images[:batch])), **CLOSE)


def test_the_parity_is_that_of_the_test_set(onnx_export: Export, trained: Trained, images: torch.Tensor) -> None:
    labels = digits(None).test_labels
    pixels = images.permute(0, 2, 3, 1).contiguous()
    with torch.no_grad():
        before = trained(trained.normalize(images))
    found = onnx_export.about["files"]
    assert [*found] == ["model.onnx", "model_int8.onnx"]
    for name, parity in found.items():
        after = open_graph(onnx_export.folder / name)(pixels)
        assert parity["images"] == 359
        assert parity["largest_difference"] == pytest.approx((before - after).abs().max().item(), rel=0.1)
        assert parity["changed"] == (before.argmax(1) != after.argmax(1)).sum()
        assert parity["top1_before"] == pytest.approx(100 * (before.argmax(1) == labels).double().mean().item())
        assert parity["top1"] == pytest.approx(100 * (after.argmax(1) == labels).double().mean().item())
    assert found["model.onnx"]["largest_difference"] < 1e-4 and found["model.onnx"]["changed"] == 0
    assert 1e-3 < found["model_int8.onnx"]["largest_difference"] < 3
    assert found["model_int8.onnx"]["top1"] > 95
    lines = onnx_export.printed.splitlines()
    assert lines[0].split()[:2] == ["file", "MB"] and "0 of 359" in lines[1]


def test_int8_is_int8(onnx_export: Export) -> None:
    graph = onnx.load(onnx_export.folder / "model_int8.onnx").graph
    weights = {weight.name: weight.data_type for weight in graph.initializer}
    scaled = {node.output[0]: weights.get(node.input[0]) for node in graph.node if node.op_type == "DequantizeLinear"}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert convolutions and all(scaled[node.input[1]] == onnx.TensorProto.INT8 for node in convolutions)
    sizes = [(onnx_export.folder / name).stat().st_size for name in ("model.onnx", "model_int8.onnx")]
    assert sizes[1] < 0.5 * sizes[0]


def test_the_guide_runs_the_file(
    onnx_export: Export, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(onnx_export.folder)
    shutil.copy(ROOT / "docs" / "digit.png", "image.png")
    (code,) = re.findall(r"^```py\n(.*?)^```", (ROOT / "docs/guide/export.md").read_text(), re.MULTILINE | re.DOTALL)
    exec(code, {})
    assert capsys.readouterr().out == "3\n"


def test_torch_export_without_the_preprocessing(trained: Trained, images: torch.Tensor, tmp_path: Path) -> None:
    printed = call("run=quickstart", "target=torch_export", "images=0", f"hydra.run.dir={tmp_path}")
    net = torch.export.load(tmp_path / "model.pt2").module()
    for batch in (1, 3):
        normalised = trained.normalize(images[:batch])
        with torch.no_grad():
            torch.testing.assert_close(net(normalised), trained(normalised), **CLOSE)
    about = Export(tmp_path, printed).about
    assert about["files"] == {"model.pt2": None} and "logit" not in printed  # nothing was compared
    assert about["input"]["mean"] == list(trained.normalize.mean)
    assert about["input"]["shape"] == ["batch", 3, 32, 32]
    assert about["temperature"] == trained.temperature


def test_openvino(
    onnx_export: Export, images: torch.Tensor, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")

    def copied(path: Path) -> Path:
        return Path(shutil.copy(onnx_export.folder / path.name, path))

    # OpenVINO reads the same ONNX files, which are tested above.
    monkeypatch.setattr("hybrid_vit.deploy.graphs.trace", lambda *given: None)
    monkeypatch.setattr("hybrid_vit.deploy.graphs.write_onnx", lambda program, path: copied(path))
    monkeypatch.setattr("hybrid_vit.deploy.graphs.quantize", lambda source, path, batches: copied(path))
    settings = ("int8=true", "calibration=64", "preprocess=true", f"hydra.run.dir={tmp_path}")
    about = Export(tmp_path, call("quickstart", "target=openvino", *settings)).about
    assert {path.name for path in tmp_path.iterdir()} == {
        *("model.xml", "model.bin", "model_int8.xml", "model_int8.bin", "export.json"),
    }
    run = open_graph(tmp_path / "model.xml")
    for batch in (1, 3):
        with torch.no_grad():
            expected = trained(trained.normalize(images[:batch]))
        torch.testing.assert_close(run(images[:batch].permute(0, 2, 3, 1).contiguous()), expected, **CLOSE)
    assert about["files"]["model.xml"]["changed"] == 0
    assert about["files"]["model_int8.xml"]["top1"] > 95
    monkeypatch.setattr("openvino.Core", None)
    open_graph(tmp_path / "model_int8.xml")  # a process has one core


@pytest.mark.slow
def test_a_signal_arrives_after_two_graphs(tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="needs openvino: pip install -e '.[openvino]'")
    call("quickstart", "target=openvino", "images=0", f"hydra.run.dir={tmp_path}")
    forked.run(gets_a_signal_after_two_graphs, str(tmp_path / "model.xml"))


def gets_a_signal_after_two_graphs(number: int, path: str) -> None:
    first, second = open_graph(Path(path)), open_graph(Path(path))
    del first, second
    signal.signal(signal.SIGUSR1, signal.default_int_handler)
    with suppress(KeyboardInterrupt):
        signal.raise_signal(signal.SIGUSR1)


def test_the_hubs_folder_is_read_by_this_package(hub_export: Export, trained: Trained, images: torch.Tensor) -> None:
    from hybrid_vit.deploy.hub import HubModel

    folder = hub_export.folder
    names = {path.name for path in folder.iterdir()}
    assert hub_export.about["files"]["model.pt2"]["images"] == 50
    assert names >= {"config.json", "model.safetensors", "README.md", "model.pt2", "learning_curve.png", "export.json"}
    normalised = trained.normalize(images[:5])
    read = HubModel.from_pretrained(folder)
    for model in (hybrid_vit.load(folder), read):
        assert torch.equal(model(normalised), trained(normalised))
        assert model.class_names == trained.class_names
    read.save_pretrained(folder)  # where it is already
    read.save_pretrained(folder / "again")
    assert torch.equal(HubModel.from_pretrained(folder / "again")(normalised), trained(normalised))
    for name in ("README.md", "config.json", "model.safetensors"):
        assert (folder / "again" / name).read_bytes() == (folder / name).read_bytes()


def test_the_card_states_the_score_and_its_code_runs(
    hub_export: Export, trained: Trained, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from huggingface_hub import ModelCard

    card = ModelCard.load(hub_export.folder / "README.md")
    (result,) = card.data.eval_results
    assert (card.data.license, card.data.library_name) == ("mit", "hybrid_vit")
    top1 = trained.summary["scores"]["test_top1"]
    assert result.metric_value == pytest.approx(top1, abs=0.01)
    assert f"{top1:.2f} % (" in card.text and "359 images" in card.text and "## Licence" in card.text
    published = (ROOT / "outputs/published/quickstart/README.md").read_text()  # says more than the summary
    assert "mean over seeds" in published
    assert card.text.partition("## Use")[0].strip() == published.partition("## Use")[0].strip()
    assert card.text.partition("## Training")[2].strip() == published.partition("## Training")[2].strip()
    monkeypatch.chdir(hub_export.folder)
    *ours, plain = re.findall(r"^```python\n(.*?)^```", card.text, re.MULTILINE | re.DOTALL)
    assert len(ours) == 2
    for code in ours:
        exec(code, {})
    assert capsys.readouterr().out == "3\n3\n"
    for name in [name for name in sys.modules if name.partition(".")[0] == "hybrid_vit"]:
        monkeypatch.setitem(sys.modules, name, None)
    exec(plain, {})
    assert capsys.readouterr().out == "3\n"


def test_the_card_of_a_run_that_is_not_published_is_made_from_its_summary(tmp_path: Path) -> None:
    from hybrid_vit.deploy.hub import write_hub_card

    run = shutil.copytree(ROOT / "outputs/published/quickstart", tmp_path / "run")
    (run / "README.md").unlink()
    trained, config = hybrid_vit.load(run), yaml.safe_load((run / "config.yaml").read_text())
    (tmp_path / "hub").mkdir()
    write_hub_card(trained, config, tmp_path / "hub", ".")
    card = (tmp_path / "hub" / "README.md").read_text()
    assert f"{trained.summary['scores']['test_top1']:.2f} % (" in card and "One run: the interval" in card
    assert "from_pretrained" in card and "## Training" in card


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["target=tensorrt"], "target=tensorrt is unknown; target is one of onnx, torch_export, openvino, hub, space"),
        (["target=onx"], "did you mean onnx?"),
        (["target=torch_export", "int8=true"], "int8=true is for target=onnx and target=openvino"),
        (["push=me/digits"], "push=me/digits uploads a folder of target=hub; set target=hub"),
        (["target=hub", "push=me/digits"], "push=me/digits needs a token of the Hub: run `hf auth login`"),
        (["run=nothing"], "and run=nothing would be 2 runs"),
        (["prepocess=true"], "did you mean preprocess?"),
    ],
)
def test_mistakes_are_a_sentence_and_write_nothing(
    argv: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(SystemExit) as stopped:
        call("run=quickstart", *argv)
    said = capsys.readouterr().err
    assert stopped.value.code == 2
    assert sentence in said and said.count("\n") == 1
    assert not [*tmp_path.iterdir()]


def test_the_hubs_folder_is_not_the_run_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = shutil.copytree(ROOT / "outputs/published/quickstart", tmp_path / "run")
    with pytest.raises(SystemExit):
        call(run, "target=hub", f"hydra.run.dir={run}")
    assert f"{run} is the run itself; choose another directory" in capsys.readouterr().err
    assert (run / "README.md").read_text() == (ROOT / "outputs/published/quickstart/README.md").read_text()


def test_a_repository_is_read_by_its_name(
    hub_export: Export, trained: Trained, images: torch.Tensor, tmp_path: Path
) -> None:
    from hybrid_vit.deploy.hub import HubModel

    repository, commit = tmp_path / "models--me--digits", "0" * 40
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    shutil.copytree(hub_export.folder, repository / "snapshots" / commit)
    read = HubModel.from_pretrained("me/digits", cache_dir=tmp_path, local_files_only=True)
    normalised = trained.normalize(images[:5])
    assert torch.equal(read(normalised), trained(normalised))


def test_only_what_belongs_to_the_folder_is_uploaded(
    hub_export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import HfApi
    from huggingface_hub.utils import filter_repo_objects

    from hybrid_vit.deploy.hub import WRITTEN, push

    folder = shutil.copytree(hub_export.folder, tmp_path / "hub")
    (folder / ".env").write_text("SECRET=1")
    sent: list[str] = []

    def upload(api: object, *, folder_path: Path, allow_patterns: list[str], **others: object) -> None:
        sent.extend(filter_repo_objects([path.name for path in folder_path.iterdir()], allow_patterns=allow_patterns))

    made: list[tuple[str, dict]] = []

    def create(api: object, repository: str, **how: object) -> SimpleNamespace:
        made.append((repository, how))
        return SimpleNamespace(repo_id=repository)

    monkeypatch.setattr(HfApi, "create_repo", create)
    monkeypatch.setattr(HfApi, "upload_folder", upload)
    assert push(folder, "me/x") == "https://huggingface.co/me/x"
    assert sorted(sent) == sorted(WRITTEN) and made == [("me/x", {"exist_ok": True})]


def test_a_run_that_is_not_there_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        call("nothing", "target=onnx")
    assert "nothing is not a run directory" in capsys.readouterr().err and not [*tmp_path.iterdir()]


@pytest.mark.parametrize("package", ["onnxscript", "onnxruntime"])
def test_a_missing_package_is_a_sentence(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SystemExit):
        call("quickstart", "target=onnx")
    assert capsys.readouterr().err == f"target=onnx needs {package}: pip install -e '.[export]'\n"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"state": "stopped"}, "is stopped, not done"),
        ({"limited": {"test_batches": 1}}, "used only some of its batches"),
        ({"members": ["a", "b"]}, "is an ensemble, which has no model card; give one of a, b"),
    ],
)
def test_a_card_needs_a_score(
    change: dict, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    run = shutil.copytree(ROOT / "outputs/published/quickstart", tmp_path / "run")
    (run / "summary.json").write_text(json.dumps(json.loads((run / "summary.json").read_text()) | change))
    with pytest.raises(SystemExit):
        call(run, "target=hub")
    assert sentence in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_hub_that_cannot_be_reached_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hybrid_vit.deploy.hub import check_push, push

    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")  # nothing listens there
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "hf_none")
    with pytest.raises(ValueError, match=r"^push=a b is not a valid repository name \(.*\); write push=USER/NAME$"):
        check_push("a b")
    with pytest.raises(ValueError, match=r"^push=digits is not a valid repository name \(it has no user\)"):
        check_push("digits")
    check_push("me/digits")
    with pytest.raises(ValueError, match=r"^push=me/digits failed \(.*is complete: `hf upload me/digits "):
        push(tmp_path, "me/digits")
