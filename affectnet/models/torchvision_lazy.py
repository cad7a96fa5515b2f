"""What is used of torchvision, imported without torch's compiler: four of the ten seconds in which a command starts.

torchvision imports all of `torch._dynamo` for two functions: one that it calls under torch.compile alone (`ops/roi_align.py`, version
0.29), and a decorator that means nothing without it (`tv_tensors`). While torchvision is imported, that package is represented
by a module that has these two and imports the real one for whatever else is wanted.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

from torch._compile import _disable_dynamo  # which imports the whole of torch before a part of it is represented

PACKAGE, UTILS = "torch._dynamo", "torch._dynamo.utils"


def is_compile_supported(device_type: str) -> bool:
    """What the compiler answers, imported when it is asked."""
    return bool(import_module(UTILS).is_compile_supported(device_type))


def disable(fn: Callable[..., Any], recursive: bool = True, **_: object) -> Callable[..., Any]:
    """The function, not to be compiled; with the decorator by which torch puts the import off for its optimisers."""
    found: Callable[..., Any] = _disable_dynamo(fn, recursive)
    return found


class _Later(ModuleType):
    """Stands for a module whose functions these are."""

    def __init__(self, name: str, *functions: Callable[..., Any]) -> None:
        super().__init__(name)
        vars(self).update({function.__name__: function for function in functions})

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        _withdraw()
        return getattr(import_module(self.__name__), name)


def _withdraw() -> None:
    for name in (PACKAGE, UTILS):
        if isinstance(sys.modules.get(name), _Later):
            del sys.modules[name]


@contextmanager
def _compiler_later() -> Iterator[None]:
    if PACKAGE not in sys.modules:
        sys.modules.update({PACKAGE: _Later(PACKAGE, disable), UTILS: _Later(UTILS, is_compile_supported)})
    try:
        yield
    finally:
        _withdraw()


with _compiler_later():
    from torchvision import __version__, models
    from torchvision.ops import StochasticDepth
    from torchvision.transforms import InterpolationMode, v2
    from torchvision.transforms.v2 import functional

__all__ = ["InterpolationMode", "StochasticDepth", "__version__", "functional", "models", "v2"]
