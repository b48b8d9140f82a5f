"""The page of the demo, asked without a browser: what it answers, what it refuses, what it loads from elsewhere."""

import json
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image
from served import served

import hybrid_vit
from hybrid_vit.deploy.demo import Models, alert, shown
from hybrid_vit.utils.errors import UserError
from hybrid_vit.utils.paths import PUBLISHED

DIGIT = Path(__file__).parents[2] / "docs" / "digit.png"
needs_gradio = pytest.mark.skipif(find_spec("gradio") is None, reason="needs gradio: pip install -e '.[demo]'")


def test_what_comes_from_files_is_escaped() -> None:
    figure: Any = SimpleNamespace(title="<b>", caption='"quoted" & so', picture=Image.new("RGB", (1, 1)))
    page = shown([figure])
    assert page.count("&lt;b&gt;") == page.count("&quot;quoted&quot; &amp; so") == 2  # as text, and of the image
    assert "<b><b>" not in page and '"quoted"' not in page
    assert "<script>" not in alert(UserError("<script>.png cannot be read"))


def test_runs_of_one_name_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hybrid_vit.deploy.inspection.Measuring", lambda run, root: None)
    shutil.copytree(PUBLISHED / "quickstart", tmp_path / "quickstart")
    models = Models([tmp_path / "quickstart", PUBLISHED / "quickstart", PUBLISHED / "fast_4m"], None)
    assert [*models.runs] == [str(tmp_path / "quickstart"), str(PUBLISHED / "quickstart"), "fast_4m"]
    assert models.first == str(tmp_path / "quickstart")
    monkeypatch.chdir(tmp_path / "quickstart")
    assert [*Models([Path()], None).runs] == ["quickstart"]
    path, name = models.examples("fast_4m")[99]
    with Image.open(path) as image:
        assert name == "worm" and image.size == (32, 32)
    assert models.examples("fast_4m") == models.examples("fast_4m")
    assert models.inspector(models.first) is models.inspector(models.first)


def test_the_root_is_that_of_every_model_whose_images_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    roots: list[str | None] = []
    monkeypatch.setattr("hybrid_vit.deploy.inspection.Measuring", lambda run, root: roots.append(root))
    monkeypatch.setattr("hybrid_vit.data.sources.at_hand", lambda name, root: (name, root) == ("cifar100", "there"))
    names = ["fast_4m", "record_4m", "quickstart"]
    models = Models([PUBLISHED / name for name in names], "there")
    for name in names:
        models.inspector(name)
    assert roots == ["there", "there", None]


def test_the_page_does_not_wait_for_torch() -> None:
    code = "import sys, hybrid_vit.demo, hybrid_vit.deploy.demo\n"
    code += "assert not {'torch', 'gradio', 'lightning'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow  # test_space.py answers where none of these can be imported
def test_lightning_is_not_imported_for_an_answer() -> None:
    code = (
        "import sys\nfrom hybrid_vit.deploy.demo import Models\nfrom hybrid_vit.utils.paths import PUBLISHED\n"
        "inspector = Models([PUBLISHED / 'fast_4m'], 'nowhere').inspector('fast_4m')\n"
        f"image = inspector.see({str(DIGIT)!r})\ninspector.answer(image), inspector.look(image)\n"
        "assert not {'lightning', 'torchmetrics', 'matplotlib', 'scipy', 'timm'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("served")
    command = ["-m", "hybrid_vit.demo", "quickstart", "port=PORT"]
    with served(command, folder, XDG_CACHE_HOME=str(folder), GRADIO_TEMP_DIR=str(folder / "files")) as address:
        yield address


def asked(address: str, file: Path, *, sliders: tuple[float, float, float] = (0, 0, 0)) -> list[Any]:
    """Upload a file as the page does, and wait for the answer."""
    boundary = "a-boundary-that-is-in-no-file"
    body = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="{file.name}"\r\n\r\n'.encode()
        + file.read_bytes()
        + f"\r\n--{boundary}--\r\n".encode()
    )
    kind = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    path = fetched(urllib.request.Request(f"{address}/gradio_api/upload", body, kind))[0]
    given = {"path": path, "orig_name": file.name, "meta": {"_type": "gradio.FileData"}}
    return call(address, "inspect", ["quickstart", given, *sliders])


def call(address: str, function: str, given: list[Any]) -> list[Any]:
    """The last thing that a function of the page says."""
    (last,) = re.findall(r"event: complete\ndata: (.+)", said(address, function, given))
    return json.loads(last)


def said(address: str, function: str, given: list[Any]) -> str:
    """All events that a function of the page sends."""
    url = f"{address}/gradio_api/call/{function}"
    request = urllib.request.Request(url, json.dumps({"data": given}).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(f"{url}/{fetched(request)['event_id']}", timeout=60) as stream:
        return stream.read().decode()


def fetched(request: urllib.request.Request) -> Any:
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)


@needs_gradio
def test_an_uploaded_image_is_answered(address: str) -> None:
    refused, label, verdict, looks, *_ = asked(address, DIGIT)
    expected = [*hybrid_vit.load("quickstart").predict(DIGIT).probabilities.items()][:5]
    assert [each["label"] for each in label["confidences"]] == [name for name, _ in expected]
    found = [each["confidence"] for each in label["confidences"]]
    assert found == pytest.approx([share for _, share in expected], rel=1e-4, abs=1e-7)
    assert not refused and "Score 0." in verdict and looks.count("<figure>") == 3
    _, foggy, *_ = asked(address, DIGIT, sliders=(0.2, 1, 2))
    assert foggy["confidences"] != label["confidences"]


@needs_gradio
def test_what_is_no_image_is_refused(address: str, tmp_path: Path) -> None:
    (tmp_path / "archive.png").write_bytes(b"PK\x03\x04" + bytes(100))
    refused, label, *_ = asked(address, tmp_path / "archive.png")
    assert refused.startswith('<p role="alert"') and "archive.png cannot be read as an image" in refused
    assert not label
    (tmp_path / "long.png").write_bytes(bytes(26 << 20))
    with pytest.raises(urllib.error.HTTPError) as error:
        asked(address, tmp_path / "long.png")
    assert error.value.code == 413
    error.value.close()


@needs_gradio
def test_other_files_of_the_computer_are_not_shown(address: str) -> None:
    outside = {"path": str(DIGIT), "meta": {"_type": "gradio.FileData"}}
    with pytest.raises(ValueError, match="not enough values"):  # there is no event of a complete answer
        call(address, "inspect", ["quickstart", outside, 0, 0, 0])
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(f"{address}/gradio_api/file={DIGIT}", timeout=60)
    assert error.value.code == 403
    error.value.close()


@needs_gradio
def test_an_address_is_not_downloaded(address: str) -> None:
    elsewhere = {"path": "https://127.0.0.1:9/x.png", "meta": {"_type": "gradio.FileData"}}
    assert "Send the image itself" in said(address, "inspect", ["quickstart", elsewhere, 0, 0, 0])


@needs_gradio
def test_nothing_is_loaded_from_elsewhere(address: str) -> None:
    with urllib.request.urlopen(address, timeout=60) as response:
        page = response.read().decode()
    loading = re.findall(r"""<(?:script|link|img|iframe)[^>]*?(?:src|href)=["'](https?://[^"']+)""", page)
    assert not loading
    with urllib.request.urlopen(f"{address}/theme.css", timeout=60) as response:
        assert "http" not in response.read().decode().replace("http://www.w3.org", "")
