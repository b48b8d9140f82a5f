"""The command that shows models in the browser: its settings, its mistakes, its address."""

import socket
import sys
from types import SimpleNamespace

import pytest
from served import free_port

from hybrid_vit import demo
from hybrid_vit.utils.paths import PUBLISHED, published


def call(monkeypatch: pytest.MonkeyPatch, *argv: str) -> int:
    monkeypatch.setattr(sys, "argv", ["demo", *argv])
    try:
        demo.main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.mark.parametrize("given", ["quickstart", "run=quickstart", "model=quickstart", str(PUBLISHED / "quickstart")])
def test_the_page_begins_with_the_model_that_is_given(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], given: str, port: int
) -> None:
    calls: list[tuple[list[str], dict[str, object]]] = []

    class Page:
        def close(self) -> None:
            calls.append((["closed"], {}))

    def launch(runs: list[object], **settings: object) -> tuple[Page, str]:
        calls.append(([str(run) for run in runs], settings))
        return Page(), "http://127.0.0.1"

    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("hybrid_vit.deploy.demo.launch", launch)
    monkeypatch.setattr(demo, "threading", SimpleNamespace(Event=lambda: SimpleNamespace(wait=interrupted)))
    assert call(monkeypatch, given, f"port={port}", "data.root=elsewhere") == 0
    (runs, settings), closed = calls
    assert closed == (["closed"], {})
    names = ["quickstart", *(path.name for path in published() if path.name != "quickstart")]
    assert runs == [str(PUBLISHED / name) for name in names]
    assert settings == {"root": "elsewhere", "host": "127.0.0.1", "port": port, "share": False}
    assert capsys.readouterr().out == f"http://127.0.0.1 shows {', '.join(names)}; Ctrl-C ends it\n"


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["nothing"], "nothing is not a run directory"),
        (["port=0"], "port"),
        (["colour=red"], "colour"),
        (["host=203.0.113.1"], "the address 203.0.113.1:7860 cannot be used"),
    ],
)
def test_mistakes_are_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], argv: list[str], sentence: str
) -> None:
    assert call(monkeypatch, *argv) == 2
    said = capsys.readouterr()
    assert sentence in said.err and said.err.count("\n") == 1 and not said.out


def test_a_port_in_use_is_a_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert call(monkeypatch, f"port={server.getsockname()[1]}") == 2
    assert "give another, e.g. port=7861" in capsys.readouterr().err


def test_without_gradio_it_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], port: int
) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert call(monkeypatch, f"port={port}") == 1
    assert capsys.readouterr().err == "the demo needs gradio: pip install -e '.[demo]'\n"
