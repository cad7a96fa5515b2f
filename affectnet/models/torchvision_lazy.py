"""torchvision, imported without torch's compiler, which saves four of the ten seconds in which a command starts.

torchvision imports all of `torch._dynamo` for two functions: one that it calls only under torch.compile (`ops/roi_align.py`, version
0.29), and a decorator that has no effect without it (`tv_tensors`). While torchvision is imported, a placeholder module stands for
that package: it has these two functions and imports the real package when any other attribute is read.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

from torch._compile import _disable_dynamo  # imports all of torch before the placeholder stands for a part of it

PACKAGE, UTILS = "torch._dynamo", "torch._dynamo.utils"


def is_compile_supported(device_type: str) -> bool:
    """The compiler's own function, imported at the first call."""
    return bool(import_module(UTILS).is_compile_supported(device_type))


def disable(fn: Callable[..., Any], recursive: bool = True, **_: object) -> Callable[..., Any]:
    """The function, excluded from compilation, by the decorator that delays the import for torch's own optimisers."""
    decorated: Callable[..., Any] = _disable_dynamo(fn, recursive)
    return decorated


class _Placeholder(ModuleType):
    """Stands for a module of which it has these functions."""

    def __init__(self, name: str, *functions: Callable[..., Any]) -> None:
        super().__init__(name)
        vars(self).update({function.__name__: function for function in functions})

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        _remove_placeholders()
        return getattr(import_module(self.__name__), name)


def _remove_placeholders() -> None:
    for name in (PACKAGE, UTILS):
        if isinstance(sys.modules.get(name), _Placeholder):
            del sys.modules[name]


@contextmanager
def _without_compiler() -> Iterator[None]:
    if PACKAGE not in sys.modules:
        sys.modules.update({PACKAGE: _Placeholder(PACKAGE, disable), UTILS: _Placeholder(UTILS, is_compile_supported)})
    try:
        yield
    finally:
        _remove_placeholders()


with _without_compiler():
    from torchvision import __version__, models
    from torchvision.ops import StochasticDepth
    from torchvision.transforms import InterpolationMode, v2
    from torchvision.transforms.v2 import functional

__all__ = ["InterpolationMode", "StochasticDepth", "__version__", "functional", "models", "v2"]
