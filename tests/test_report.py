"""`hybrid_vit.report` from its command line: a page that stands alone, tables, pictures; mistakes in a sentence."""

import html.parser
import json
import re
import shlex
import sys
from pathlib import Path

import fake_runs
import pandas as pd
import pytest

from hybrid_vit import report
from hybrid_vit.studies.report.page import page

PUBLISHED = Path(__file__).parent.parent / "outputs" / "published"
DEPTHS = {4: [50.0, 51.2, 52.1], 2: [45.0, 46.1, 47.3]}


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["hybrid-vit-report", *arguments])
    report.main()


def test_an_interval_stays_on_its_line_and_a_command_is_as_it_was() -> None:
    text = page("From 1 to 2, 3 ± 1.\n\n```\nreport 'title=Depth 2 to 4'\n```\n", "x", {})
    assert "From 1&nbsp;to&nbsp;2, 3&nbsp;±&nbsp;1." in text and "title=Depth 2 to 4" in text


class Page(html.parser.HTMLParser):
    """What a page refers to, and whether each tag that is opened is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for key, value in attrs if key in ("src", "href", "srcset", "data", "action")]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if self.open and self.open[-1] == tag:
            self.open.pop()


def test_a_sweep_becomes_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep, out = fake_runs.sweep(tmp_path / "depth=2,4 'x'", "model.depth", DEPTHS), tmp_path / "out"
    fake_runs.write(sweep / "bad", summary={"state": "failed", "reason": "<script>alert(1)</script> | loss"})
    (tmp_path / "note.md").write_text("Does **depth** matter?\n\n- One machine, 3 epochs.\n")
    (tmp_path / "paper.csv").write_text("epoch,train_acc,val_acc\n0,1,2\n1,2,3\n")
    command = "python -m hybrid_vit.train -m model.depth=2,4 seed=0,1,2 && echo 'a,b=c' > x"
    call(
        monkeypatch,
        *(str(sweep), f"out={out}", "reference=depth=4", "title=Depth, again: a=b <1>", f"command={command}"),
        *(f"overlays=[{tmp_path / 'paper.csv'}]", f"note={tmp_path / 'note.md'}"),
    )
    said = capsys.readouterr().out
    assert "depth=2 against depth=4: -4.97 points" in said
    assert f"left out: {sweep / 'bad'} is not done" in said
    names = ["differences", "learning_curves", "overlays", "tradeoffs", "classes"]
    assert {path.name for path in out.iterdir()} == {
        *("report.md", "report.html", "runs.csv", "comparisons.csv"),
        *(f"{name}.{suffix}" for name in names for suffix in ("png", "svg")),
    }

    text = (out / "report.md").read_text()
    assert re.findall(r"!\[.*\]\((.*)\.svg\)", text) == names
    assert text.startswith(
        "# Depth, again: a=b &lt;1&gt;\n\n6 finished runs of 2 configurations,\ncompared by `test_top1`; "
    )
    assert text.index("(differences.svg)") < text.index("Does **depth** matter?\n\n- One machine, 3 epochs.\n")
    assert f"```\n{command}\n```" in text
    assert "```\npython -m hybrid_vit.report" in text
    assert "| depth=4 | 3 | 0, 1, 2 | 51.10 ± 2.62 |" in text
    assert "| model.depth | 2 | 4 |" in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt; \\| loss" in text

    page = (out / "report.html").read_text()
    found = Page(page)
    assert not found.open
    assert len(found.links) == len(names) + 3
    assert {link for link in found.links if not link.startswith("data:image/svg+xml;base64,")} == {
        *("#left-out", "runs.csv", "comparisons.csv")
    }
    assert "url(" not in page and "@import" not in page and "<script" not in page
    assert page.count("<table>") == len(re.findall(r"^\|( -+:? \|)+$", text, re.MULTILINE))
    assert '<td style="text-align: right;">51.10 ± 2.62</td>'.replace(" ± ", "&nbsp;±&nbsp;") in page
    assert "<td>depth=4</td>" in page and "prefers-color-scheme: dark" in page
    assert 'id="left-out"' in page and "width=device-width" in page

    runs = pd.read_csv(out / "runs.csv")
    assert len(runs) == 6
    assert runs.groupby("configuration")["test_top1"].mean().round(2).to_dict() == {"depth=2": 46.13, "depth=4": 51.1}
    (row,) = pd.read_csv(out / "comparisons.csv").to_dict("records")
    assert (row["configuration"], row["reference"], row["kind"], row["n"]) == ("depth=2", "depth=4", "paired", 3)
    assert (row["p_holm"], row["p_flip"]) == (row["p"], 0.25)


def test_the_published_run_of_this_house_can_be_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("hybrid_vit.studies.report.figures.save", lambda figure, path, **how: path.write_text("<svg/>"))
    call(monkeypatch, str(PUBLISHED / "quickstart"), f"out={tmp_path / 'out'}")
    top1 = json.loads((PUBLISHED / "quickstart" / "summary.json").read_text())["scores"]["test_top1"]
    assert f"{top1:.2f} (n = 1: no interval)" in (tmp_path / "out" / "report.md").read_text()


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=page.parent.name, marks=[] if page.parent.name == "stem_depth" else [pytest.mark.slow])
        for page in sorted(PUBLISHED.glob("*/report.md"))
    ],
)
def test_a_published_study_is_what_its_command_makes(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = page.read_text()
    command = next(line for line in text.splitlines() if line.startswith("python -m hybrid_vit.report "))
    folder = page.parent.relative_to(PUBLISHED.parent.parent)
    assert f" out={folder} " in command
    monkeypatch.setattr("hybrid_vit.studies.report.figures.save", lambda figure, path, **how: path.write_text("<svg/>"))
    monkeypatch.chdir(PUBLISHED.parent.parent)
    call(monkeypatch, *shlex.split(command.replace(f"out={folder} ", f"out={tmp_path} "))[3:])
    assert (tmp_path / "report.md").read_text().replace(str(tmp_path), str(folder)) == text
    for name in ("runs.csv", "comparisons.csv"):
        made, published = (pd.read_csv(directory / name) for directory in (tmp_path, page.parent))
        pd.testing.assert_frame_equal(made, published, check_exact=False, rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "no directory was given"),
        (("nowhere",), "nowhere does not exist"),
        (("runs", "reference=depth=5"), "reference: depth=5 is not a configuration; it is one of: depth=2; depth=4"),
        (
            ("runs", "pairs=[['depth=2','depth=5']]"),
            "pairs: depth=5 is not a configuration; it is one of: depth=2; depth=4",
        ),
        (("runs", "pairs=[['depth=2']]"), "pairs: [depth=2] are not two configurations; write pairs=[[A,B],[C,D]]"),
        (("runs", "metric=top1"), "has no top1; it has val_top1, val_loss, test_top1, test_loss"),
        (("runs", "overlays=[none.csv]"), "overlays: none.csv cannot be read"),
        (("runs", "note=none.md"), "note: none.md cannot be read (No such file or directory)"),
        (("runs", "note=runs/latin.md"), "note: runs/latin.md is not UTF-8; save it as UTF-8"),
        (("runs", "metrc=test_top1"), "did you mean metric?"),
        (("runs", "--out=x"), "is not an option"),
    ],
)
def test_mistakes_are_answered_before_anything_is_written(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    fake_runs.sweep(tmp_path / "runs", "model.depth", DEPTHS)
    (tmp_path / "runs" / "latin.md").write_bytes("Größe".encode("latin-1"))
    with pytest.raises(SystemExit) as stop:
        call(monkeypatch, *arguments)
    assert stop.value.code == 2
    assert sentence in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_help_says_what_there_is(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    call(monkeypatch, "--help")
    assert "reference=LABEL" in capsys.readouterr().out


HOSTILE = "![x](http://evil.example/a.png) <img src=http://evil.example/b> [y](javascript:alert(1)) `q` | <http://e.x>"


def test_nothing_in_a_run_or_a_note_loads_from_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hostile text in every field that a page shows is shown as text; images and links of a note lead nowhere."""
    text = HOSTILE + "\n\n[x]: http://evil.example/c\n~~~\n```\n<script src=http://evil.example/d></script>"
    for seed, name in enumerate((text, f"{text} 2", f"{text} 2")):
        fields = {"device": text, "protocol": text, "commit": text, "versions": {text: text}}
        scores = {"test_top1": 50.0 + seed, text: 1.0}
        accelerator = {"precision": text}
        run = fake_runs.write(
            tmp_path / "runs" / str(seed),
            settings={"augment.flip": text, "model.depth": seed},
            summary={**fields, "name": name, "scores": scores, "accelerator": accelerator},
        )
        quoted = text.replace('"', "'").replace("\n", " ")
        (run / "per_class.csv").write_text(f'class,images,top1,taken_for\n"{quoted}",400,{50 + seed},"{quoted}"\n')
    fake_runs.write(tmp_path / "runs" / "bad", summary={"state": text, "reason": text})
    fake_runs.write(tmp_path / "runs" / "![x](http:evil.example)", summary={"scores": {text: 3}})
    (tmp_path / "note.md").write_text(
        f"**Mine**: {HOSTILE}\n\n![local](differences.svg)\n\n<iframe src='http://e.x'>\n"
    )
    (tmp_path / "paper ![x](http:e.x).csv").write_text("epoch,train_acc,val_acc\n0,1,2\n1,2,3\n")
    out = tmp_path / "out"
    call(
        monkeypatch,
        *(str(tmp_path / "runs"), f"out={out}", f"note={tmp_path / 'note.md'}", f"title={HOSTILE}"),
        *(f"command={text}", f"overlays=['{tmp_path / 'paper ![x](http:e.x).csv'}']"),
    )
    page = (out / "report.html").read_text()
    found = Page(page)
    assert not found.open
    assert found.links
    outside = {link for link in found.links if not link.startswith(("data:image/svg+xml;base64,", "#"))}
    assert outside == {"runs.csv", "comparisons.csv"}
    for tag in ("<script", "<iframe", "<img src=http"):
        assert tag not in page
    assert "<strong>Mine</strong>" in page
    assert "<code>image: x (http://evil.example/a.png)</code>" in page  # of the note, which is Markdown
    assert "![x](http://evil.example/a.png) &lt;img" in page  # of a run, which is text


def test_a_foreign_number_of_runs_says_what_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("hybrid_vit.studies.report.figures.save", lambda figure, path, **how: path.write_text("<svg/>"))
    sweep = fake_runs.sweep(tmp_path / "runs", "model.depth", {2: [14.0, 21.0], 4: [30.0, 31.0, 32.0]})
    twice = "pairs=[['depth=4','depth=2'],['depth=2','depth=4']]"
    call(monkeypatch, str(sweep), f"out={tmp_path / 'out'}", twice)
    said, told = capsys.readouterr()
    assert told.count("looking for runs in") == 1
    assert "depth=4 against depth=2: +13.00 points, from +10.00 to +16.00 (n = 2 pairs), too few for" in said
    text = (tmp_path / "out" / "report.md").read_text()
    assert "| 17.50 (n = 2: 14.00 to 21.00) |" in text and "| +13.00 (of the pairs alone) |" in text
    assert "the means of each configuration also count 1 run whose seed the other lacks" in text
