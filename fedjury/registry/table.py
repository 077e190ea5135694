"""All plug-ins of a kind, by name."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Generic, TypeVar

from fedjury.registry.elsewhere import found_elsewhere
from fedjury.registry.facts import MARK, Facts, Mark, summary_of
from fedjury.registry.wrong import check_type, failure, unknown

T = TypeVar("T")

CALLED = "__call__"
"""What a function has."""


@dataclass(frozen=True)
class Own:
    """Where a plug-in of ours is, and what its mark says: all without importing it."""

    module: str
    function: str
    facts: Facts


class Registry(Mapping[str, Callable[..., T]], Generic[T]):
    """All plug-ins of a kind, name -> the function that builds one; iterated over, ours come first.

    Only those that are asked for are imported.
    """

    def __init__(
        self,
        mark: Mark,
        package: str,
        group: str,
        given: tuple[str, ...] = (),
        made: tuple[str, ...] = (CALLED,),
    ) -> None:
        """Find those of ours in the folder of ``package``, others in the entry points of ``group``.

        ``given``: what a builder is handed before its options, by name. ``made``: what that which
        it builds must have; usually it is a function.
        """
        self.mark = mark
        self.kind = mark.words or mark.kind
        self.kinds = plural(self.kind)
        self.package = package
        self.group = group
        self.given = given
        self.made = made

    @cached_property
    def own(self) -> Mapping[str, Own]:
        """Our own plug-ins by name, in the order of names."""
        top, *inner = self.package.split(".")  # find_spec of it would import what is above it
        spec = importlib.util.find_spec(top)
        assert spec is not None, top
        assert spec.submodule_search_locations is not None, top
        result: dict[str, Own] = {}
        for folder in (Path(place, *inner) for place in spec.submodule_search_locations):
            for file in sorted(folder.glob("*.py")):
                for name, plugin in self._marked_in(file):
                    if name in result:
                        raise ValueError(f"{file}: there are two {self.kinds} {name!r}")
                    result[name] = plugin
        return dict(sorted(result.items()))

    def _marked_in(self, file: Path) -> Iterator[tuple[str, Own]]:
        text = file.read_text(encoding="utf-8")
        if f"@{self.mark.kind}" not in text and f".{self.mark.kind}" not in text:
            return
        module = f"{self.package}.{file.stem}"
        try:
            tree = ast.parse(text, str(file))
        except SyntaxError as why:
            raise ValueError(f"the {self.kinds} cannot be listed: {failure(why)}") from why
        for node in tree.body:
            facts = self._mark_of(node)
            if facts is not None and isinstance(node, ast.FunctionDef | ast.ClassDef):
                name = facts.get("name", node.name)
                told = ast.get_docstring(node), ast.get_docstring(tree)
                summary = summary_of(name, module, *told)
                yield name, Own(module, node.name, self.mark.facts(summary, **facts))

    def _mark_of(self, node: ast.stmt) -> dict[str, Any] | None:
        """Return what the mark of our kind above a function says; None if it bears none."""
        for decorator in getattr(node, "decorator_list", ()):
            called = isinstance(decorator, ast.Call)
            written = ast.unparse(decorator.func if called else decorator)
            if written.rpartition(".")[2] == self.mark.kind:
                given = decorator.keywords if called else []
                return {str(item.arg): ast.literal_eval(item.value) for item in given}
        return None

    @cached_property
    def offered(self) -> Mapping[str, EntryPoint]:
        """What installed packages offer by entry points, but for names that are ours already."""
        result = {entry.name: entry for entry in entry_points(group=self.group)}
        return {name: result[name] for name in sorted(result.keys() - self.own.keys())}

    def __iter__(self) -> Iterator[str]:
        yield from self.own
        yield from self.offered

    def __len__(self) -> int:
        return len(self.own) + len(self.offered)

    def __contains__(self, name: object) -> bool:
        """Return whether a name is listed; ``package.module:name`` never is."""
        return name in self.own or name in self.offered

    def __getitem__(self, name: str) -> Callable[..., T]:
        if name not in self:
            raise KeyError(name)
        return self.resolve(name)

    def listed(self) -> str:
        """Return all names for a sentence to people."""
        return ", ".join(self)

    def resolve(self, name: str) -> Callable[..., T]:
        """Return the function that builds the plug-in of this name.

        Raises
        ------
        ValueError
            If there is none; the sentence names the nearest, or says what is missing or where an
            exception comes from.
        """
        if name in self.own:
            plugin = self.own[name]
            result: Callable[..., T] = getattr(
                importlib.import_module(plugin.module), plugin.function
            )
            return result
        if ":" in name:
            return found_elsewhere(self.kind, name, name)
        if name in self.offered:
            return found_elsewhere(self.kind, name, self.offered[name].value)
        raise unknown(self.kind, name, [*self, "package.module:name"])

    def failure(self, name: str, why: Exception) -> str:
        """Say what an exception in the work of a plug-in is, and in which line of its file."""
        module = sys.modules.get(getattr(self.resolve(name), "__module__", ""))
        return failure(why, getattr(module, "__file__", None))

    def agreed(self, name: str, ours: str = "") -> str:
        """Return a name that came over the network, if it may be resolved here.

        It may if it is listed, or if our own settings say the same (``ours``): to import what a
        stranger names would be to let them run anything.

        Raises
        ------
        ValueError
            If it is written ``package.module:name`` and we did not choose it.
        """
        if ":" in name and name != ours:
            raise ValueError(
                f"{self.kind} {name!r} is not imported because a message names it; if you trust "
                "it, choose it in the settings here as well"
            )
        return name

    def facts(self, name: str) -> Facts:
        """Return the facts of a plug-in; ``ValueError`` if there is none of that name."""
        if name in self.own:
            return self.own[name].facts
        builder = self.resolve(name)
        stated: Facts | None = getattr(builder, MARK, None)
        return stated or Facts(summary_of("", "", inspect.getdoc(builder), None))

    def known(self, name: str) -> Facts:
        """Return the facts of a plug-in of ours, importing nothing; of any other name, none."""
        return self.own[name].facts if name in self.own else Facts()

    def options(self, name: str) -> dict[str, inspect.Parameter]:
        """Return what can be set of a plug-in: the parameters after what all builders are given."""
        parameters = inspect.signature(self.resolve(name)).parameters
        return dict(list(parameters.items())[len(self.given) :])

    def check(self, name: str, options: Mapping[str, object], also: Iterable[str] = ()) -> None:
        """Check options by the builder's annotations.

        ``also``: options that the caller takes care of itself, and that messages should list too.

        Raises
        ------
        ValueError
            If there is no plug-in of that name or an option is unknown, of a wrong type or missing.
        """
        builder, parameters = self.resolve(name), self.options(name)
        anything = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        variadic = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
        known = {key: p for key, p in parameters.items() if p.kind not in variadic}
        for option, value in options.items():
            if option in known:
                check_type(f"{option} of {self.kind} {name!r}", known[option], builder, value)
            elif not anything:
                raise unknown(f"hyper-parameter of {self.kind} {name!r}", option, [*known, *also])
        required = (key for key, p in known.items() if p.default is p.empty)
        if missing := [key for key in required if key not in options]:
            raise ValueError(f"{self.kind} {name!r} needs {', '.join(missing)}")

    def build(
        self,
        name: str,
        *given: object,
        options: Mapping[str, object] | None = None,
        also: Iterable[str] = (),
    ) -> T:
        """Build the plug-in of this name from what all are given, and options of its own.

        Raises
        ------
        ValueError
            If ``check`` or the builder refuses it, or somebody else's builder fails.
        """
        self.check(name, options or {}, also)
        try:
            built = self.resolve(name)(*given, **(options or {}))
        except MemoryError:
            raise
        except ValueError as why:
            if name in self.own or type(why) is not ValueError:
                raise
            raise ValueError(f"{self.kind} {name!r}: {' '.join(str(why).split())}") from why
        except Exception as why:
            if name in self.own:
                raise
            raise ValueError(f"{self.kind} {name!r} cannot be built: {failure(why)}") from why
        if name not in self.own and (lacks := self._lacking(built)):
            raise ValueError(f"{self.kind} {name!r} made {type(built).__name__}, {lacks}")
        return built

    def _lacking(self, built: object) -> str:
        """Return what is wrong with what somebody else's builder made; empty if nothing is."""
        missing = [part for part in self.made if not hasattr(built, part)]
        if CALLED in missing:
            return "which is no function"
        return f"which has no {', '.join(missing)}" if missing else ""


def plural(kind: str) -> str:
    """Return what several plug-ins of a kind are called."""
    if kind.endswith("y"):
        return f"{kind[:-1]}ies"
    return f"{kind}es" if kind.endswith("s") else f"{kind}s"
