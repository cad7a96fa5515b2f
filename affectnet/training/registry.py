"""A registry: what params.yaml can choose by name, each entry with the class of its params."""

import pkgutil
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Annotated, Any, Generic, Literal, TypeVar, Union

from pydantic import Field, GetCoreSchemaHandler, create_model
from pydantic_core import CoreSchema

from affectnet.params import Section

Made = TypeVar("Made")


class Registry(Mapping[str, Made], Generic[Made]):
    """Classes or functions by name. As a decorator it adds one: `@LOSSES("focal", FocalParams)`.

    key: the field of an entry in params.yaml that holds the name (`function`), if one does; package: the folder whose files add themselves.
    They are imported at the first look-up, so that a new file needs no other edit.

    As an annotation it checks params.yaml: `Annotated[str, SAMPLERS]` is one of the names, and
    `Annotated[LossParams, LOSSES, Field(discriminator="function")]` the params class that the entry's name selects. (`Field` is for
    the messages of affectnet/params.py, which leave the name out of the path.)
    """

    def __init__(self, key: str | None = None, package: str | None = None) -> None:
        self.key, self.package = key, package
        self._params: dict[str, type[Any]] = {}
        self._made: dict[str, Made] = {}

    def __call__(self, name: str, params: type[Section] = Section) -> Callable[[Made], Made]:
        """Adds what it decorates. Errors: ValueError when the name is taken."""

        def add(made: Made) -> Made:
            if name in self._made:
                raise ValueError(f"{name} is registered twice: {self._made[name]} and {made}")
            self._made[name] = made
            self._params[name] = params if self.key is None else _named(params, self.key, name)
            return made

        return add

    def params_of(self, name: str) -> type[Any]:
        """The class of an entry's params, in which the field `key` can only be this name."""
        self._load()
        return self._params[name]

    def of(self, params: Section) -> Made:
        """What the params are those of."""
        return self[getattr(params, self.key or "")]

    def __getitem__(self, name: str) -> Made:
        self._load()
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        self._load()
        return iter(self._made)

    def __len__(self) -> int:
        self._load()
        return len(self._made)

    def _load(self) -> None:
        if self.package is not None:
            for module in pkgutil.iter_modules(import_module(self.package).__path__, f"{self.package}."):
                import_module(module.name)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        names = tuple(self)
        if source is str:
            return handler.generate_schema(Literal[names])
        return handler.generate_schema(Annotated[Union[tuple(map(self.params_of, names))], Field(discriminator=self.key)])  # noqa: UP007 (of a list)


def _named(params: type[Section], key: str, name: str) -> type[Section]:
    field: Any = {key: (Literal[name], ...)}
    return create_model(params.__name__, __base__=params, __module__=params.__module__, __doc__=params.__doc__, **field)
