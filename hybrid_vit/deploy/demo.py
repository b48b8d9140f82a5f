"""The page of the demo, in Gradio: what is shown where, and what happens when something is dropped, moved or chosen.

torch is imported after the page is up, since that takes seconds: nothing here needs it before there is an image.
"""

import base64
import html
import io
import os
import shutil
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

from hybrid_vit.deploy.measured import EXAMPLES, describe, find, read_examples
from hybrid_vit.utils.errors import UserError
from hybrid_vit.utils.extras import needed
from hybrid_vit.utils.files import read_json
from hybrid_vit.utils.paths import LOCATED

if TYPE_CHECKING:
    from hybrid_vit.deploy.inspection import Figure, Inspector

LARGEST_FILE = "25mb"
KEPT_SECONDS = 3600  # uploaded files
CSS = """
.gradio-container {width: 100% !important; max-width: 1200px !important; margin: 0 auto !important}
.figures {display: grid; gap: 12px; grid-template-columns: repeat(auto-fill, minmax(min(45%, 200px), 1fr))}
.figures.neighbours {grid-template-columns: repeat(auto-fill, minmax(64px, 1fr))}
.figures figure {margin: 0}
.figures img {width: 100%; image-rendering: pixelated; border-radius: 4px; display: block}
.figures figcaption {font-size: 0.85em; line-height: 1.35; margin-top: 4px; overflow-wrap: anywhere}
.refused, .unknown {font-weight: 600; color: #b3261e}
.dark .refused, .dark .unknown {color: #ff8a80}
#picture .image-frame, #picture .image-frame img {width: 100%; height: 100%; object-fit: contain}
#examples .grid-wrap {height: auto; min-height: 0; max-height: none; overflow: visible}
#examples .grid-container {grid-template-columns: repeat(auto-fill, minmax(84px, 1fr)) !important}
#examples .thumbnail-item {display: flex; flex-direction: column; aspect-ratio: auto; height: 100%}
#examples .thumbnail-item img {image-rendering: pixelated; width: 100%; height: auto; aspect-ratio: 1}
#examples .caption-label {position: static; width: 100%; max-width: none; white-space: normal; overflow-wrap: anywhere;
  text-align: center; border: 0; background: none; font-size: 11px; line-height: 1.2; padding: 3px}
"""


def launch(
    runs: Sequence[Path],
    *,
    root: str | None = None,
    host: str | None = None,
    port: int | None = None,
    share: bool = False,
) -> tuple[Any, str]:
    """Serve the page from a thread, and begin to load the first run.

    Args:
        runs: the run directories to choose from.
        root: directory of the data sets of the models, if they have moved; an image folder is that of the first.
        host, port: left out, what the variables GRADIO_SERVER_NAME and GRADIO_SERVER_PORT say.
        share: make a public address through Gradio's server.

    Returns:
        The page, which has `close()` and `block_thread()`, and its address.

    Raises:
        UserError: gradio is not installed, or Gradio's sharing server cannot be reached.
    """
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when it is imported
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    for name in ("NO_PROXY", "no_proxy"):  # Gradio asks itself whether it has started
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), "127.0.0.1", "localhost"]))
    gradio = needed("gradio", extra="demo", what="the demo")
    models = Models(runs, root)
    gradio.set_static_paths(models.folder)
    page = make_page(gradio, models)
    _, local, public = page.launch(
        server_name=host,
        server_port=port,
        share=share,
        max_file_size=LARGEST_FILE,
        theme=gradio.themes.Default(font="system-ui", font_mono="ui-monospace"),
        css=CSS,
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        prevent_thread_lock=True,
        quiet=True,
        show_error=True,
    )
    if share and not public:
        page.close()
        raise UserError("no public address could be made: Gradio's sharing server cannot be reached; use share=false")
    threading.Thread(target=models.inspector, args=(models.first,), daemon=True).start()
    return page, public or local.rstrip("/")


class Models:
    """The runs of the page, by the name in its chooser; each is loaded when it is first asked for."""

    def __init__(self, runs: Sequence[Path], root: str | None) -> None:
        names = [run.resolve().name for run in runs]
        self.runs = {str(run) if names.count(name) > 1 else name: run for name, run in zip(names, runs, strict=True)}
        self.first = next(iter(self.runs))
        self.root = root
        self.loaded: dict[str, Inspector] = {}
        self._loading, self._writing = threading.Lock(), threading.Lock()
        self.folder = mkdtemp(prefix="hybrid_vit_")  # of the files that `examples` names
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)

    def inspector(self, name: str) -> "Inspector":
        """The run called `name`, for looking at."""
        from hybrid_vit.data.sources import at_hand
        from hybrid_vit.deploy.inspection import Inspector

        with self._loading:
            if name not in self.loaded:
                source = read_json(self.runs[name] / "model.json")["data"]["source"]
                given = name == self.first or (source not in LOCATED and at_hand(source, self.root))
                self.loaded[name] = Inspector(self.runs[name], self.root if given else None)
            return self.loaded[name]

    def examples(self, name: str) -> list[tuple[str, str]]:
        """A file with a test image of each class, and the name of the class; none while they are not measured."""
        path = find(self.runs[name], EXAMPLES)
        if path is None:
            return []
        names = read_json(self.runs[name] / "model.json")["class_names"]
        folder = Path(self.folder) / str([*self.runs].index(name))
        with self._writing:
            if not folder.exists():  # once: a file that is written again while it is being sent arrives damaged
                partial = folder.with_suffix(".partial")
                partial.mkdir(exist_ok=True)
                for number, image in enumerate(read_examples(path, len(names))):
                    image.save(partial / f"{number}.png")
                partial.rename(folder)
        return [(str(folder / f"{number}.png"), label) for number, label in enumerate(names)]


def make_page(gr: Any, models: Models) -> Any:
    """The page: `gradio.Blocks`."""

    def inspect(name: str, path: str | None, sd: float, sigma: float, amount: float) -> Iterator[dict[Any, Any]]:
        if path is None:  # as after a refusal, whose sentence stays
            yield {refused: gr.skip()}
            return
        if name not in models.loaded:
            yield {verdict: status("The model is being loaded.")}
        inspector = models.inspector(name)
        try:
            image = inspector.see(path, sd=sd, sigma=sigma, amount=amount)
        except UserError as error:
            yield {refused: alert(error), gone: f'<i data-time="{time.time()}"></i>', **emptied}
            return
        answer = inspector.answer(image)
        said = {refused: "", label: answer.top, verdict: status(answer.sentence, answer.unknown)}
        yield said
        yield {**said, looks: shown(inspector.look(image))}  # all of it: who asks without a page gets the last

    def compare(name: str, path: str | None, sd: float, sigma: float, amount: float) -> dict[Any, Any]:
        if path is None:
            return {again: gr.Timer(active=False)}
        inspector = models.inspector(name)
        try:
            image = inspector.see(path, sd=sd, sigma=sigma, amount=amount)
        except UserError:
            return {again: gr.Timer(active=False)}
        found = inspector.neighbours(image)
        said = status(inspector.measuring.status) if found is None else shown(found, "neighbours")
        return {near: said, again: gr.Timer(active=found is None and inspector.measuring.running)}

    def change_model(name: str) -> Iterator[dict[Any, Any]]:
        yield {described: describe(models.runs[name]), examples: models.examples(name), without: ""}
        yield find_examples(name)

    def find_examples(name: str) -> dict[Any, Any]:
        measuring, found = models.inspector(name).measuring, models.examples(name)
        said = "" if found else status(measuring.status)
        return {examples: found, without: said, once_more: gr.Timer(active=not found and measuring.running)}

    def choose(name: str, event: gr.SelectData) -> str:
        return models.examples(name)[event.index][0]

    async def uploaded(path: str | Path | None) -> str | None:
        if "://" in str(path):  # Gradio would download it, whatever its size
            raise gr.Error("Send the image itself, not an address of it.")
        return await gr.Image.async_move_resource_to_block_cache(picture, path)

    with gr.Blocks(title="hybrid_vit", analytics_enabled=False, delete_cache=(KEPT_SECONDS, KEPT_SECONDS)) as page:
        gr.Markdown("# hybrid_vit\nThe predictions of a small image classifier, and explanations of them.")
        with gr.Row():
            with gr.Column(min_width=300):
                model = gr.Dropdown([*models.runs], value=models.first, label="Model", filterable=False)
                described = gr.Markdown(describe(models.runs[models.first]))
                picture = gr.Image(
                    label="Image: drop, paste or choose a file",
                    alt_text="the image",
                    elem_id="picture",
                    sources=["upload", "clipboard"],
                    buttons=[],
                    height=260,
                    format="png",
                )
                # The file is left to `decode`: Gradio would open it by itself, whatever it is. An update of this
                # component by an event would make a new one (Gradio 6.31), so events only give it values.
                picture.preprocess = lambda payload: payload and payload.path
                picture.async_move_resource_to_block_cache = uploaded
                refused = gr.HTML()
                gone = gr.HTML()  # another text, which nobody sees, takes the image away
                sd = gr.Slider(0, 0.5, 0, step=0.01, label="Noise (standard deviation)")
                sigma = gr.Slider(0, 4, 0, step=0.1, label="Blur (pixels)")
                amount = gr.Slider(0, 3, 0, step=0.05, label="Fog")
            with gr.Column(min_width=300, scale=2):
                label = gr.Label(num_top_classes=5, label="Answer: the five most probable classes")
                verdict = gr.HTML(status("Choose an image, or one of the examples below."))
                gr.Markdown("### Where the model looks")
                looks = gr.HTML()
                gr.Markdown("### The nearest training images")
                near = gr.HTML()
        gr.Markdown("### An example of each class, from the test images: choose one")
        without = gr.HTML()
        examples = gr.Gallery(
            models.examples(models.first),
            elem_id="examples",
            show_label=False,
            allow_preview=False,
            buttons=[],
            interactive=False,
            format="png",
            object_fit="contain",
            height="auto",
        )

        # While a process measures: a function that waited for it would block those of another model or image.
        again, once_more = gr.Timer(active=False), gr.Timer(active=False)
        given = [model, picture, sd, sigma, amount]
        emptied = {label: None, verdict: "", looks: "", near: ""}
        changes = [part.change for part in given]
        live = {"trigger_mode": "always_last", "show_progress": "hidden"}
        # At once, in the browser: what is shown of another image or model is not that of the answer to come.
        gr.on([model.change, picture.change], None, None, [looks, near], js="() => ['', '']")
        gr.on(changes, inspect, given, [refused, *emptied, gone], **live)
        gr.on([*changes, again.tick], compare, given, [near, again], concurrency_limit=8, **live)
        gr.on(
            [page.load, model.change],
            change_model,
            [model],
            [described, examples, without, once_more],
            concurrency_limit=8,
            **live,
        )
        once_more.tick(find_examples, [model], [examples, without, once_more], **live)
        gone.change(None, None, [picture], js="() => null")
        picture.clear(lambda: ["", *emptied.values()], None, [refused, *emptied], show_progress="hidden")
        examples.select(choose, [model], [picture], show_progress="hidden")
    return page


def alert(error: UserError) -> str:
    """A refusal; the same one again is another text, so that it is noticed."""
    return f'<p role="alert" class="refused" data-time="{time.time()}">{html.escape(str(error))}</p>'


def status(sentence: str, unknown: bool | None = None) -> str:
    return f'<p role="status" class="{"unknown" if unknown else ""}">{html.escape(sentence)}</p>'


def shown(figures: "Sequence[Figure]", kind: str = "") -> str:
    """Figures side by side, as many as fit."""
    return f'<div class="figures {kind}">{"".join(map(figure_html, figures))}</div>'


def figure_html(figure: "Figure") -> str:
    """A figure with the picture in the page itself."""
    title, caption = html.escape(figure.title), html.escape(figure.caption)
    image = ""
    if figure.picture is not None:
        file = io.BytesIO()
        figure.picture.save(file, "PNG")
        image = (
            f'<img alt="{title}: {caption}" src="data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}">'
        )
    return f"<figure>{image}<figcaption><b>{title}</b><br>{caption}</figcaption></figure>"
