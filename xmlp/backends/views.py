"""Named arrays that lie in one vector: what is assigned to a name is written into the vector."""

from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from xmlp.types import Array


class Views(dict[str, Array]):
    """The named arrays of one layer, views of a vector: what is assigned to a name is written into the vector.

    Copies and pickles of it are plain dicts, whose arrays are copies.
    """

    def __init__(self, arrays: Mapping[str, Array], write: Callable[[str, Any], Array]):
        super().__init__(arrays)
        self._write = write

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(name, self._write(name, value))

    def update(self, *arrays: Any, **named: Any) -> None:
        """Copy several arrays into the views of their names."""
        for name, value in dict(*arrays, **named).items():
            self[name] = value

    def __ior__(self, arrays: Any) -> "Views":  # type: ignore[override, misc]
        self.update(arrays)
        return self

    def _refuse(self, *_: Any) -> NoReturn:
        raise TypeError(f"the layer has the arrays {', '.join(self) or '(none)'}: they can be assigned, not taken away")

    __delitem__ = pop = popitem = clear = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)


class LayerViews(list[Views]):
    """The views of each layer; assigning those of a layer writes them all."""

    def __setitem__(self, layer: Any, arrays: Any) -> None:
        if not isinstance(arrays, Mapping) or set(arrays) != set(self[layer]):
            raise TypeError(f"layer {layer} has the arrays {sorted(self[layer])}: assign a dict of them")
        self[layer].update(arrays)

    def __reduce__(self) -> tuple[Any, ...]:
        return list, ([*self],)
