"""Packages that not everyone has: the extras of pyproject.toml."""

import importlib
from types import ModuleType

from hybrid_vit.utils.errors import MissingPackage
from hybrid_vit.utils.paths import PACKAGE

ONNX = {"onnx": "export", "onnxscript": "export", "onnxruntime": "export"}
EXPORT: dict[str, dict[str, str]] = {  # target of hybrid_vit.export -> its packages and their extra
    "onnx": ONNX,
    "openvino": ONNX | {"openvino": "openvino"},
    "torch_export": {},
    "hub": {"huggingface_hub": "export"},
    "space": {"gradio": "demo"},
}


def needed(package: str, *, extra: str, what: str) -> ModuleType:
    """Import a package.

    Raises:
        MissingPackage: it is not installed; says what needs it and how to get it.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise MissingPackage(f"{what} needs {package}: {installing(extra)}", name=package) from error


def installing(extra: str) -> str:
    """The command that installs an extra."""
    checkout = (PACKAGE.parent / "pyproject.toml").is_file()
    return f"pip install -e '.[{extra}]'" if checkout else f"pip install 'hybrid-vit[{extra}]'"
