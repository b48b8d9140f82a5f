"""Pictures: those that the data call for, and what is in them."""

import json
from pathlib import Path
from typing import Any

import fake_runs
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from hybrid_vit.studies.report import curves, figures, style
from hybrid_vit.studies.report.study import Study, course, overlays_table, study

DEPTHS = {4: [50.0, 51.2, 52.1], 2: [45.0, 46.1, 47.3], 8: [50.5, 51.0, 52.4]}


def of(folder: Path) -> Study:
    return study([folder], metric="test_top1", reference=None)


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for ax in figure.axes for text in (*ax.texts, *ax.get_yticklabels())]


def labels(figure: Figure) -> list[str]:
    """The names over the bars of differences, from below."""
    return [text.get_text() for text in figure.axes[0].texts if text.get_ha() == "left"]


def drawn(found: tuple[Figure, style.Picture] | None) -> Figure:
    assert found is not None
    return found[0]


@pytest.fixture(scope="module")
def depths(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return of(fake_runs.sweep(tmp_path_factory.mktemp("depths"), "model.depth", DEPTHS))


def test_each_picture_is_written_twice(depths: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = figures.draw(depths, {}, tmp_path)
    assert [picture.name for picture in pictures] == ["differences", "learning_curves", "tradeoffs", "classes"]
    for picture in pictures:
        with Image.open(tmp_path / f"{picture.name}.png") as image:
            assert np.asarray(image.convert("L")).std() > 10
        assert "<svg" in (tmp_path / f"{picture.name}.svg").read_text()
    before = (tmp_path / "differences.svg").read_bytes()
    for name in ("curves", "tradeoffs", "scaling", "classes"):
        monkeypatch.setattr(figures, name, lambda study: None)
    figures.draw(depths, {}, tmp_path)
    assert (tmp_path / "differences.svg").read_bytes() == before


def test_one_configuration_has_its_learning_curve_alone(tmp_path: Path) -> None:
    found = of(fake_runs.sweep(tmp_path / "runs", "model.depth", {4: [50, 51]}))
    assert [picture.name for picture in figures.draw(found, {}, tmp_path)] == ["learning_curves"]


def test_runs_without_tables_have_no_curves_and_no_classes(tmp_path: Path) -> None:
    for name in ("metrics.csv", "per_class.csv"):
        for file in fake_runs.sweep(tmp_path / name, "model.depth", DEPTHS).glob(f"*/{name}"):
            file.unlink()
    assert curves.curves(of(tmp_path / "metrics.csv")) is None
    assert figures.classes(of(tmp_path / "per_class.csv")) is None


def test_bars_are_the_differences_and_grey_what_cannot_be_told_apart(depths: Study) -> None:
    figure = drawn(figures.differences(depths))
    (ax,) = figure.axes
    found = dict(zip(labels(figure), ax.patches, strict=True))
    reference = depths.reference.label
    assert reference == "depth=2"
    assert set(found) == {"depth=4", "depth=8"}
    assert found["depth=4"].get_width() == pytest.approx(np.mean(DEPTHS[4]) - np.mean(DEPTHS[2]))
    spans = sorted(tuple(line.get_xdata()) for line in ax.lines if len(set(line.get_xdata())) == 2)
    assert spans == [
        pytest.approx((c.low, c.high)) for c in sorted((c for *_, c in depths.comparisons), key=lambda c: c.low)
    ]
    few = of_pairs(depths, 2)
    (ax,) = drawn(figures.differences(few)).axes
    assert {bar.get_facecolor()[:3] for bar in ax.patches} == {
        tuple(int(figures.UNNAMED[1:][i : i + 2], 16) / 255 for i in (0, 2, 4))
    }


def test_a_further_pair_is_one_more_bar_that_names_both(depths: Study) -> None:
    found = study(
        [depths.runs[0][1].directory.parent], metric="test_top1", reference=None, pairs=[["depth=8", "depth=4"]]
    )
    *usual, (each, base, comparison) = found.comparisons
    assert [(a.label, b.label) for a, b, _ in usual] == [(a.label, b.label) for a, b, _ in depths.comparisons]
    assert (each.label, base.label) == ("depth=8", "depth=4")
    assert comparison.difference == pytest.approx(np.mean(DEPTHS[8]) - np.mean(DEPTHS[4]))
    assert [c.p for *_, c in usual] == [c.p for *_, c in depths.comparisons]
    assert usual[0][2].p_holm > depths.comparisons[0][2].p_holm
    lowest, *others = labels(drawn(figures.differences(found)))
    assert lowest == "depth=8 against depth=4"  # below the bars of the reference
    assert set(others) == {"depth=4", "depth=8"}


def test_no_difference_is_drawn_as_none(tmp_path: Path) -> None:
    """Equal means, up to the rounding of float32, are on a line, on axes of an image of the test set at least."""
    scores = {4: [16.25, 16.5, 16.75], 2: [16.2500003, 16.4999998, 16.7500004]}
    found = of(fake_runs.sweep(tmp_path / "runs", "model.depth", scores))
    (ax,) = drawn(figures.differences(found)).axes
    assert [bar.get_width() for bar in ax.patches] == [0]
    assert np.ptp(ax.get_xlim()) >= 100 / 400
    panel = drawn(figures.tradeoffs(found)).axes[0]
    heights = {line.get_ydata()[0] for line in panel.lines if line.get_marker() != "None"}
    assert heights == {16.5}
    assert np.ptp(panel.get_ylim()) >= 100 / 400
    assert style.roomy(3.0, 3.0, 0.5) == (2.75, 3.25) and style.roomy(1.0, 3.0, 0.5) == (1.0, 3.0)


def test_two_scores_are_joined_by_a_dotted_line(tmp_path: Path) -> None:
    found = of(fake_runs.sweep(tmp_path / "runs", "model.depth", {2: [14.0, 21.0], 4: [30.0, 31.0]}))
    (ax,) = drawn(figures.differences(found)).axes
    (line,) = [line for line in ax.lines if line.get_linestyle() == ":"]
    assert tuple(line.get_xdata()) == (10.0, 16.0)


def of_pairs(found: Study, n: int) -> Study:
    """The same study as if it had n pairs."""
    return Study(
        found.metric,
        found.configurations,
        found.reference,
        [(each, base, c._replace(n=n)) for each, base, c in found.comparisons],
        found.left_out,
    )


def test_a_band_goes_from_the_lowest_to_the_highest_seed(depths: Study) -> None:
    upper, lower = drawn(curves.curves(depths)).axes
    for each, name in ((upper, "depth=4  51.1 %"), (lower, "depth=4  3.00")):
        assert name in [text.get_text() for text in each.texts]
    ends = [band.get_paths()[0].vertices for band in upper.collections]
    lowest = sorted(corners[corners[:, 0] == 3, 1].min() for corners in ends)
    assert lowest == pytest.approx(sorted(min(scores) for scores in DEPTHS.values()))
    last = sorted(band.get_paths()[0].vertices[:, 1].max() for band in upper.collections)
    assert last == pytest.approx(sorted(max(scores) for scores in DEPTHS.values()))


def test_a_curve_ends_where_training_did(tmp_path: Path) -> None:
    for seed, epochs in enumerate((2.25, 2.75)):
        fake_runs.write(tmp_path / f"{seed}", seed=seed, summary={"epochs": epochs})
    for ax in drawn(curves.curves(of(tmp_path))).axes:
        assert ax.lines[0].get_xdata().tolist() == [1, 2, 2.5]


def test_an_epoch_in_the_middle_of_a_lengthened_run_may_be_a_part_of_one(tmp_path: Path) -> None:
    run = fake_runs.write(tmp_path / "run", epochs=3)
    table = pd.read_csv(run / "metrics.csv")
    table["step"] = [10, 15, 25]
    table.to_csv(run / "metrics.csv", index=False)
    summary = json.loads((run / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps(summary | {"epochs": 2.5}))
    (configuration,) = of(run).configurations
    assert course(configuration, "train_top1").index.tolist() == [1, 1.5, 2.5]


def test_a_curve_of_runs_of_several_lengths_ends_with_the_shortest_and_says_so(tmp_path: Path, depths: Study) -> None:
    for seed, rows in enumerate((3, 5)):
        fake_runs.write(tmp_path / "lengths" / f"{seed}", seed=seed, epochs=rows, settings={"epochs": 5})
    figure, picture = curves.curves(of(tmp_path / "lengths")) or pytest.fail("no picture")
    assert [len(ax.lines[0].get_xdata()) for ax in figure.axes] == [3, 3]
    words = "ends, with its value, where the shortest does"
    assert words in picture.caption
    equal = curves.curves(depths) or pytest.fail("no picture")
    assert words not in equal[1].caption


def test_one_long_interval_does_not_flatten_the_rest(tmp_path: Path) -> None:
    """Of depth 8 the interval is some 60 points long, of the others some 2: it is cut, with an arrow, and named."""
    scores = {2: [45.0, 46.1, 47.3], 4: [50.0, 51.2, 52.1], 6: [49, 50.2, 51.1], 8: [30.0, 51.0, 75.0]}
    found = of(fake_runs.sweep(tmp_path / "runs", "model.depth", scores))
    longest = max((c for *_, c in found.comparisons), key=lambda c: c.high - c.low)
    assert longest.high - longest.low > 50
    figure, picture = figures.differences(found) or pytest.fail("no picture")
    assert np.ptp(figure.axes[0].get_xlim()) < 20
    assert {line.get_marker() for line in figure.axes[0].lines} >= {"<", ">"}
    assert "An arrow marks an interval" in picture.caption
    assert any(f"({longest.low:+.2f} to {longest.high:+.2f})" in text for text in texts(figure))
    heights = np.ptp(drawn(figures.tradeoffs(found)).axes[0].get_ylim())
    assert heights < 25


def test_intervals_of_usual_length_are_whole(depths: Study) -> None:
    _, picture = figures.differences(depths) or pytest.fail("no picture")
    assert "arrow" not in picture.caption
    assert style.visible([1.0, 2.0], [(-20.0, 22.0), (-19.0, 23.0)]) == [(-20.0, 22.0), (-19.0, 23.0)]


def test_every_axis_says_what_it_counts(families: Study, depths: Study) -> None:
    for found in (families, depths):
        for drawer in (figures.differences, curves.curves, figures.tradeoffs, figures.scaling, figures.classes):
            made = drawer(found)
            for ax in made[0].axes if made else ():
                row, column = ax.get_subplotspec().rowspan, ax.get_subplotspec().colspan
                numbered = ax.yaxis.get_visible() and column.start == 0 and drawer not in NAMED
                assert ax.get_xlabel() or (drawer is figures.scaling and row.start == 0)
                assert ax.get_ylabel() or not numbered


NAMED = (figures.differences, figures.classes)  # the places of their y axis are names


def test_runs_of_a_budget_are_drawn_over_minutes(tmp_path: Path) -> None:
    for seed in (0, 1):
        directory = fake_runs.write(tmp_path / f"{seed}", seed=seed, summary={"budget": "20m"})
        rows = (directory / "metrics.csv").read_text().splitlines()
        timed = [f"{rows[0]},seconds", *(f"{row},{120 * (seed + 1)}" for row in rows[1:])]
        (directory / "metrics.csv").write_text("\n".join(timed) + "\n")
    axes = drawn(curves.curves(of(tmp_path))).axes
    assert {ax.get_xlabel() for ax in axes} == {"minutes of training"}
    assert axes[0].lines[0].get_xdata().tolist() == [3, 6, 9]


def test_tradeoffs_are_three(depths: Study) -> None:
    panels = drawn(figures.tradeoffs(depths)).axes
    assert [ax.get_xlabel() for ax in panels] == [
        "parameters (millions)",
        "MACs an image (millions)",
        "seconds of training",
    ]
    dots = [line.get_xydata()[0] for line in panels[0].lines if line.get_marker() != "None"]
    assert sorted(x for x, _ in dots) == pytest.approx([0.02, 0.04, 0.08])


def test_at_equal_times_computing_is_a_cost(tmp_path: Path) -> None:
    for depth, gmacs in ((2, 0.5), (4, 0.25)):
        summary = {"budget": "5m", "gmac_epochs": gmacs}
        fake_runs.write(tmp_path / f"{depth}", settings={"model.depth": depth}, summary=summary)
    panel = drawn(figures.tradeoffs(of(tmp_path))).axes[-1]
    assert panel.get_xlabel() == "forward GMACs x epochs"
    assert sorted(line.get_xdata()[0] for line in panel.lines if line.get_marker() != "None") == [0.25, 0.5]


def amounts(folder: Path, law: dict[int, Any]) -> Study:
    for size, top1 in law.items():
        for seed in (0, 1):
            fake_runs.write(
                folder / f"{size}_{seed}",
                seed=seed,
                top1=top1,
                settings={"data.val_size": size},
                summary={"images": {"train": size, "test": 400, "val": 100}},
            )
    return of(folder)


def test_a_power_law_where_the_amount_of_data_differs(tmp_path: Path, depths: Study) -> None:
    assert figures.scaling(depths) is None
    found = amounts(tmp_path / "sizes", {size: 100 - 300 * size**-0.25 for size in (1000, 2000, 4000)})
    names = texts(drawn(figures.scaling(found)))
    assert [name for name in names if name == "tiny  b = 0.250 ± 0.000"]


def test_of_two_sizes_there_is_no_law(tmp_path: Path) -> None:
    found = figures.scaling(amounts(tmp_path, {1000: 40, 2000: 50}))
    (only,) = drawn(found).axes
    assert only.get_xlabel() == "training images" and texts(drawn(found)).count("tiny") == 1
    assert found and "law" not in found[1].caption


def test_where_the_law_misses_is_drawn_below_it(tmp_path: Path) -> None:
    """Errors of 60, 50 and 60 %: the law is flat, above the middle and below the ends."""
    _, lower = drawn(figures.scaling(amounts(tmp_path, {1000: 40, 2000: 50, 4000: 40}))).axes
    sizes, missed = lower.lines[0].get_data()
    assert list(sizes) == [1000, 2000, 4000]
    fitted = np.exp(np.log([60, 50, 60]).mean())
    assert missed == pytest.approx([100 * (value / fitted - 1) for value in (60, 50, 60)])


SIZES = (1000, 2000, 4000)


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Two models on three amounts of data; the second needs four times as much for the same error."""
    tmp_path = tmp_path_factory.mktemp("families")
    for name, factor in (("ours", 1), ("theirs", 4)):
        for size in SIZES:
            for seed in (0, 1):
                fake_runs.write(
                    tmp_path / name / f"{size}_{seed}",
                    seed=seed,
                    top1=100 - 300 * (size / factor) ** -0.25 + seed,
                    settings={"data.val_size": size, "model.depth": 3 + factor},
                    summary={"name": name, "images": {"train": size, "test": 400, "val": 100}},
                )
    return of(tmp_path)


def test_families_are_compared_at_the_same_amount_of_data(families: Study) -> None:
    pairs = [(each.label, base.label) for each, base, _ in families.comparisons]
    assert pairs == [(f"theirs val_size={size}", f"ours val_size={size}") for size in SIZES]
    for _, _, found in families.comparisons:
        assert found.difference < 0
    figure = drawn(figures.differences(families))
    assert "the reference at the same amount of data" in figure.axes[0].get_title(loc="left")
    assert labels(figure) == [label for label, _ in reversed(pairs)]
    assert "theirs val_size=4000 minus ours val_size=4000" in drawn(figures.classes(families)).axes[0].get_title(
        loc="left"
    )


def test_what_the_data_are_is_no_amount_of_them(tmp_path: Path) -> None:
    for name, mean in (("ours", 0.4), ("theirs", 0.5)):
        for share in (0.1, 1.0):
            fake_runs.write(
                tmp_path / name / str(share),
                settings={"data.fraction": share, "data.mean": [mean] * 3, "model.depth": int(10 * mean)},
                summary={"name": name, "images": {"train": int(1000 * share), "test": 400, "val": 100}},
            )
    pairs = [(each.amount["data.fraction"], base.amount["data.fraction"]) for each, base, _ in of(tmp_path).comparisons]
    assert sorted(pairs) == [(0.1, 0.1), (1.0, 1.0)]


def test_a_family_of_two_sizes_has_no_law_beside_one_of_three(tmp_path: Path) -> None:
    for name, width, sizes in (("three", 96, (500, 1000, 2000)), ("two", 32, (500, 2000))):
        for size in sizes:
            for seed in (0, 1, 2):
                fake_runs.write(
                    tmp_path / name / f"{size}_{seed}",
                    seed=seed,
                    top1=100 - 300 * size**-0.25 + seed,
                    settings={"name": name, "model.embed_dim": width, "data.val_size": size},
                    summary={"name": name, "images": {"train": size, "test": 400, "val": 100}},
                )
    figure = drawn(figures.scaling(of(tmp_path)))
    assert [text.split()[0] for text in texts(figure) if "b = " in text] == ["three"]
    assert len(figure.axes[1].lines) == 2  # a law, and the line at 0


def test_unequal_epochs_are_drawn_over_images(families: Study) -> None:
    axes = drawn(curves.curves(families)).axes
    assert axes[1].get_xlabel() == "images seen (thousands)"
    ends = {line.get_xdata()[-1] for line in axes[0].lines}
    assert ends == {3 * size / 1000 for size in SIZES}


def test_many_lines_have_a_row_of_panels_for_each_family(tmp_path: Path) -> None:
    for name, width in {"ours": 96, "theirs": 32}.items():
        for size in (500, 1000, 2000, 4000):
            fake_runs.write(
                tmp_path / name / str(size),
                settings={"name": name, "model.embed_dim": width, "data.val_size": size},
                summary={"name": name, "images": {"train": size, "test": 400, "val": 100}},
            )
    figure, picture = curves.curves(of(tmp_path)) or pytest.fail("no picture")
    assert [ax.get_title(loc="left") for ax in figure.axes] == [
        *("ours: validation top-1", "ours: training loss", "theirs: validation top-1", "theirs: training loss"),
    ]
    said = {text.get_text().split()[0] for text in figure.axes[2].texts}
    assert said == {f"val_size={size}" for size in (500, 1000, 2000, 4000)}
    above, below = ({line.get_color() for line in figure.axes[i].lines} for i in (0, 2))
    assert above == below and len(above) == 4  # an amount looks the same in both
    assert figure.axes[0].get_ylim() == figure.axes[2].get_ylim()
    assert "One row for each family" in picture.caption


def test_a_family_that_needs_less_data_is_told(families: Study) -> None:
    found = figures.scaling(families)
    assert {text.split()[0] for text in texts(drawn(found)) if "b = " in text} == {"ours", "theirs"}
    assert found and "The error that theirs has with 4,000 images, ours has with about 1,000" in found[1].caption
    assert "The error that ours has" not in found[1].caption


def test_a_run_without_its_table_has_no_curve_and_leaves_those_of_others(tmp_path: Path) -> None:
    for seed in range(2):
        fake_runs.write(tmp_path / f"{seed}", seed=seed)
    (tmp_path / "1" / "metrics.csv").unlink()
    (configuration,) = of(tmp_path).configurations
    assert len(course(configuration, "val_top1")) == 3
    assert len(drawn(curves.curves(of(tmp_path))).axes[0].lines) == 1


def test_classes_are_the_most_changed(depths: Study) -> None:
    figure = drawn(figures.classes(depths))
    assert {label.get_text() for label in figure.axes[0].get_yticklabels()} == set(fake_runs.NAMES)
    assert "depth=8 minus depth=2" in figure.axes[0].get_title(loc="left")


def test_of_many_classes_the_largest_changes_are_shown(tmp_path: Path) -> None:
    for depth, step in ((2, 0), (4, 1)):
        run = fake_runs.write(tmp_path / str(depth), settings={"model.depth": depth}, top1=50 + step)
        rows = [f"c{i},100,{20 + step * i},c0" for i in range(30)]  # class i changes by i points
        (run / "per_class.csv").write_text("\n".join(["class,images,top1,taken_for", *rows]) + "\n")
    figure = drawn(figures.classes(of(tmp_path)))
    assert {label.get_text() for label in figure.axes[0].get_yticklabels()} == {f"c{i}" for i in range(10, 30)}


def test_a_published_curve_may_have_gaps(tmp_path: Path) -> None:
    rows = [f"{epoch},4,{10 + epoch},4,{20 + epoch if epoch != 2 else ''},0.1" for epoch in range(200)]
    (tmp_path / "paper.csv").write_text("\n".join([PUBLISHED.splitlines()[0], *rows]) + "\n")
    fake_runs.write(tmp_path / "run")
    figure, _ = curves.overlay(of(tmp_path / "run"), {"paper": curves.read_overlay(tmp_path / "paper.csv")})
    assert {"paper  21.0 %", "tiny  50.0 %"} <= {text.get_text() for text in figure.axes[0].texts}


PUBLISHED = "epoch,train_loss,train_acc,val_loss,val_acc,lr\n" + "".join(
    f"{epoch},4,{10 + epoch},4,{20 + epoch},0.1\n" for epoch in range(200)
)


@pytest.mark.parametrize(("watched", "words"), [("published_test", "Both are test accuracy"), ("val", "by eye only")])
def test_a_published_curve_is_laid_over_as_far_as_ours_goes(tmp_path: Path, watched: str, words: str) -> None:
    (tmp_path / "paper.csv").write_text(PUBLISHED + PUBLISHED.splitlines()[-1] + "\n")  # a second row of an epoch
    fake_runs.write(tmp_path / "run", watched=watched)
    found, overlays = of(tmp_path / "run"), {"paper": curves.read_overlay(tmp_path / "paper.csv")}
    figure, picture = curves.overlay(found, overlays)
    assert words in picture.caption
    assert {"paper  22.0 %", "tiny  50.0 %"} <= {text.get_text() for text in figure.axes[0].texts}
    assert {"paper  12.0 %", "tiny  45.0 %"} <= {text.get_text() for text in figure.axes[1].texts}
    assert max(line.get_xdata().max() for ax in figure.axes for line in ax.lines) == 3
    table = overlays_table(found, overlays)
    assert table["quantity"].tolist() == [f"{watched}_top1", "train_top1"]
    assert table["difference"].tolist() == ["+28.00", "+33.00"]
    assert table["epochs trained"].tolist() == [3, 3]


def test_a_published_curve_is_as_long_as_ours_also_where_nothing_was_watched(tmp_path: Path) -> None:
    (tmp_path / "paper.csv").write_text(PUBLISHED)
    fake_runs.write(tmp_path / "run")
    table = pd.read_csv(tmp_path / "run" / "metrics.csv")
    table.drop(columns=["val_top1", "val_loss"]).to_csv(tmp_path / "run" / "metrics.csv", index=False)
    figure, _ = curves.overlay(of(tmp_path / "run"), {"paper": curves.read_overlay(tmp_path / "paper.csv")})
    assert [line.get_xdata().max() for line in figure.axes[0].lines] == [3]


@pytest.mark.parametrize(
    ("text", "words"),
    [("epoch,loss\n0,1\n", "has no numbers in train_acc, val_acc"), ("", "cannot be read"), (None, "cannot be read")],
)
def test_an_overlay_that_is_none(tmp_path: Path, text: str | None, words: str) -> None:
    path = tmp_path / "x.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match=words):
        curves.read_overlay(path)


def test_many_configurations_are_not_all_named(tmp_path: Path) -> None:
    found = of(fake_runs.sweep(tmp_path, "model.depth", {depth: [40.0 + depth] for depth in range(1, 15)}))
    figure, picture = curves.curves(found) or pytest.fail("no picture")
    assert len(figure.axes[0].texts) == 12
    assert "The reference and the 11 best are named." in picture.caption
