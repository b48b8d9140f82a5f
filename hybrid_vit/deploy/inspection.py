"""Inspection of one image with one trained run: its prediction, where the model looks, the nearest training images."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from hybrid_vit.augment import Draw
from hybrid_vit.augment.corruptions import blur, fog, noise
from hybrid_vit.data.decode import decode, square
from hybrid_vit.data.sources import at_hand
from hybrid_vit.deploy import measuring
from hybrid_vit.deploy.measured import EXAMPLES, FAMILIARITY, NEIGHBOURS, Familiarity, find, read_familiarity
from hybrid_vit.deploy.trained import load, read_description
from hybrid_vit.explanation import attention_map, integrated_gradients, nearest, penultimate
from hybrid_vit.utils.errors import UserError

TOP = 5
LEFT_OUT = 5  # per cent of the test images that are taken for none of the classes
MAX_PIXELS = 50_000_000  # of an image; decoding takes up to 20 bytes for each
ORANGE = (255, 150, 20)
SHOWN = 256  # side of an explanation in pixels, at least
decoding = threading.Lock()  # one at a time, so that memory is bounded


@dataclass(frozen=True)
class Answer:
    """What a run says of an image.

    Attributes:
        top: the most probable classes with their probabilities.
        unknown: whether it is probably none of the classes; None if no threshold is known.
        sentence: that, with the score and the threshold.
    """

    top: dict[str, float]
    unknown: bool | None
    sentence: str


@dataclass(frozen=True)
class Figure:
    """A picture with its title and what is to be said of it; without a picture it says why there is none."""

    title: str
    caption: str
    picture: Image.Image | None = None


class Inspector:
    """A trained run for looking at, by one thread at a time.

    Args:
        run: its directory.
        root: directory of its data set, if it has moved.
    """

    def __init__(self, run: Path, root: str | None = None) -> None:
        self.run = run
        self.trained = load(run)
        self.measuring = Measuring(run, root)
        self.lock = threading.Lock()

    def see(self, path: str, *, sd: float = 0.0, sigma: float = 0.0, amount: float = 0.0) -> Tensor:
        """The image of a file as the network gets it, (3, H, H) uint8, with noise, blur and fog of these strengths.

        Raises:
            UserError: it cannot be read as an image, or has more than MAX_PIXELS.
        """
        with decoding:
            image = read(path, self.trained.image_size)
        if isinstance(image, UserError):
            raise UserError(str(image))  # the cached one would keep the frames of each caller
        return noise(blur(fog(image[None], amount, Draw(0, 1)), sigma), sd, Draw(1, 1))[0]  # as in a camera

    def answer(self, image: Tensor) -> Answer:
        """The most probable classes, and whether it is one of them at all."""
        normalized = self.trained.normalize(image[None])
        with self.lock, torch.inference_mode():
            logits = self.trained(normalized)
            (said,) = self.trained.rank(logits)
            score = float(measuring.familiarity(logits))
        top = dict([*said.probabilities.items()][:TOP])
        return Answer(top, *judged(score, self.familiarity, len(self.trained.class_names)))

    def look(self, image: Tensor) -> list[Figure]:
        """What the network sees, which cells its attention follows, which pixels raise the logit of its prediction."""
        normalized = self.trained.normalize(image[None])
        with self.lock:
            with torch.inference_mode():
                target = self.trained(normalized).argmax(dim=1)
            figures = [Figure("What the model sees", f"{image.shape[1]} x {image.shape[2]} pixels", enlarged(image))]
            try:
                cells = attention_map(self.trained.net, normalized)[0]
            except UserError as error:
                figures.append(Figure("Attention", f"{error}."))
            else:
                size = f"{cells.shape[0]} x {cells.shape[1]} cells"
                figures.append(Figure("Attention", f"Attention rollout over {size}", spotlight(image, cells)))
            gradients = integrated_gradients(self.trained.net, normalized, target).sum(dim=1)
        # Means of 3 x 3: strides leave a checkerboard pattern. A few pixels above the quantile would hide the rest.
        speaking = F.avg_pool2d(gradients, 3, 1, 1, count_include_pad=False)[0].clamp(min=0)
        speaking = speaking.clamp(max=float(speaking.quantile(0.98)))
        caption = f"Integrated gradients: orange pixels raise the logit of {self.trained.class_names[int(target)]}"
        return [*figures, Figure("Pixels", caption, marked(image, speaking))]

    def neighbours(self, image: Tensor, k: int = 8) -> list[Figure] | None:
        """The training images with the most similar features, nearest first; None while they are not measured."""
        if not self.measured:
            return None
        known = self._neighbours
        with self.lock:
            features = penultimate(self.trained.net, self.trained.normalize(image[None]))
        values, indices = nearest(features, known.features, k)
        return [
            Figure(
                self.trained.class_names[int(known.labels[index])],
                f"similarity {value:.2f}",
                TF.to_pil_image(known.images[index]),
            )
            for value, index in zip(values[0].tolist(), indices[0].tolist(), strict=True)
        ]

    @property
    def measured(self) -> bool:
        """Whether the training images have been measured."""
        return find(self.run, NEIGHBOURS) is not None

    @property
    def familiarity(self) -> Familiarity | None:
        """The scores of its test images, where they have been measured."""
        path = find(self.run, FAMILIARITY)
        return read_familiarity(path) if path else None

    @cached_property
    def _neighbours(self) -> measuring.Neighbours:
        path = find(self.run, NEIGHBOURS)
        assert path
        return measuring.read_neighbours(path)


@lru_cache(maxsize=64)
def read(path: str, size: int) -> Tensor | UserError:
    """A file as (3, size, size) uint8, or why it cannot be read."""
    try:
        return square(decode(path, MAX_PIXELS), size)
    except UserError as error:
        return UserError(str(error).replace(path, Path(path).name))


def judged(score: float, known: Familiarity | None, classes: int) -> tuple[bool | None, str]:
    """Whether an image of this score is probably none of the classes, and a sentence about it."""
    if known is None:
        return None, f"Score {score:.3f}; no threshold: the test images have not been measured."
    threshold = known.percentiles[LEFT_OUT]
    usual = f"{100 - LEFT_OUT} % of the {known.images:,} test images of {known.data} have at least {threshold:.3f}"
    if score < threshold:
        return True, f"This is probably none of my {classes} classes. Score {score:.3f}; {usual}."
    return False, f"This is like the images of my {classes} classes. Score {score:.3f}; {usual}."


def enlarged(image: Tensor) -> Image.Image:
    """(3, h, w) uint8 -> a picture of SHOWN pixels or more, each pixel a square."""
    factor = -(-SHOWN // image.shape[-1])
    return TF.to_pil_image(image.repeat_interleave(factor, 1).repeat_interleave(factor, 2))


def spotlight(image: Tensor, weights: Tensor) -> Image.Image:
    """The image, (3, H, W) uint8, as bright as the weights (h, w) >= 0 are there; the largest leaves it as it is."""
    picture = TF.pil_to_tensor(enlarged(image))
    return TF.to_pil_image((picture * (0.15 + 0.85 * spread(weights, picture))).to(torch.uint8))


def marked(image: Tensor, weights: Tensor) -> Image.Image:
    """The image, (3, H, W) uint8, in grey, and as orange as the weights (h, w) >= 0 are there."""
    picture = TF.rgb_to_grayscale(TF.pil_to_tensor(enlarged(image)), 3)
    share = 0.85 * spread(weights, picture)
    orange = torch.tensor(ORANGE).view(3, 1, 1)
    return TF.to_pil_image((0.6 * picture * (1 - share) + orange * share).to(torch.uint8))


def spread(weights: Tensor, picture: Tensor) -> Tensor:
    """(h, w) -> (1, H, W), as large as the picture; divided by the largest."""
    largest = weights.max().clamp(min=1e-12)
    return F.interpolate(weights[None, None].float() / largest, picture.shape[1:], mode="nearest")[0]


class Measuring:
    """A process that measures what is not known of a run yet; it ends with this one.

    In a process of its own since it needs Lightning, which takes seconds to import, and computes for minutes.
    """

    def __init__(self, run: Path, root: str | None) -> None:
        self.run, self.root = run, root
        self.said = ""
        self.lock = threading.Lock()
        self.process: multiprocessing.process.BaseProcess | None = None
        self.messages: Connection | None = None
        data = read_description(run)["data"]
        place = root or data["root"]
        if all(find(run, name) for name in (FAMILIARITY, EXAMPLES, NEIGHBOURS)):
            return
        if find_spec("lightning") is None:  # in a Space, which has the trained network alone
            self.said = "The training images are not part of this page."
            return
        if not at_hand(data["source"], place):
            self.said = f"The images of {data['source']} are not in {place}; give their directory with data.root=PATH."
            return
        context = multiprocessing.get_context("spawn")
        self.messages, writer = context.Pipe(duplex=False)
        self.process = context.Process(target=measure, args=(run, root, writer), daemon=True)
        self.process.start()
        writer.close()

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.is_alive()

    @property
    def status(self) -> str:
        """What it is doing, or why it could not; empty if there is nothing to say."""
        with self.lock:
            try:
                while self.messages is not None and self.messages.poll():
                    self.said = self.messages.recv()
            except EOFError:  # it has ended
                self.messages = None
                assert self.process
                self.process.join()
                if self.process.exitcode and self.process.exitcode < 0:
                    self.said = "The process that measures the images was killed; start the page again to repeat it."
            return self.said


def measure(run: Path, root: str | None, messages: Connection) -> None:
    """What the process does."""
    os.nice(10)  # whoever waits for an answer comes first
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the page, and with it this process
    send: Callable[[str], None] = messages.send
    send("The images of the run are being loaded.")
    try:
        measuring.measure(run, root, send)
    except (UserError, OSError) as error:
        send(f"{error}.")
    except Exception as error:
        send(f"The images of the run could not be measured: {error!r}.")
        raise
