"""Nested structures: lists, tuples, named tuples and dicts, taken apart and put together again.

Values that consist of several tensors (sparse tensors, slices, tensor arrays) are leaves, or with `expand_composites`
structures of their tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from stepjit.framework.composites import count, is_composite, join, split


def is_nested(structure: Any) -> bool:
    """Whether `structure` is a list, tuple or dict."""
    return isinstance(structure, (list, tuple, Mapping)) or hasattr(type(structure), "__attrs_attrs__")


is_sequence = is_nested


def _children(structure: Any) -> list[Any]:
    """What a nested structure holds; a dict's values in the order of its keys."""
    if isinstance(structure, Mapping):
        return [structure[key] for key in _keys(structure)]
    if hasattr(type(structure), "__attrs_attrs__"):
        return [getattr(structure, field.name) for field in type(structure).__attrs_attrs__]
    return list(structure)


def _keys(mapping: Mapping[Any, Any]) -> list[Any]:
    try:
        return sorted(mapping)
    except TypeError:
        raise TypeError("nest only supports dicts with sortable keys.") from None


def _leaves(structure: Any, expand: bool) -> Iterator[Any]:
    if is_nested(structure):
        for each in _children(structure):
            yield from _leaves(each, expand)
    elif expand and is_composite(structure):
        yield from split(structure)
    else:
        yield structure


def flatten(structure: Any, expand_composites: bool = False) -> list[Any]:
    """The leaves of a structure, in order; a leaf alone gives itself."""
    return list(_leaves(structure, expand_composites))


def pack_sequence_as(structure: Any, flat_sequence: Sequence[Any], expand_composites: bool = False) -> Any:
    """The structure with other leaves; ValueError when it does not have as many, TypeError for no sequence."""
    if not isinstance(flat_sequence, (list, tuple)):
        raise TypeError(f"flat_sequence must be a sequence, not a {type(flat_sequence).__name__}: {flat_sequence}")
    wanted = _size(structure, expand_composites)
    if wanted != len(flat_sequence):
        raise ValueError(
            f"Could not pack sequence. Structure had {wanted} atoms, but flat_sequence had {len(flat_sequence)} items. "
            f"Structure: {structure}, flat_sequence: {flat_sequence}."
        )
    return _packed(structure, iter(flat_sequence), expand_composites)


def _size(structure: Any, expand: bool) -> int:
    leaves = flatten(structure)
    return sum(count(each) if is_composite(each) else 1 for each in leaves) if expand else len(leaves)


def _packed(structure: Any, leaves: Iterator[Any], expand: bool) -> Any:
    if is_nested(structure):
        return _rebuilt(structure, [_packed(each, leaves, expand) for each in _children(structure)])
    if expand and is_composite(structure):
        return join(structure, [next(leaves) for _ in range(count(structure))])
    return next(leaves)


def _rebuilt(structure: Any, children: list[Any]) -> Any:
    kind = type(structure)
    if isinstance(structure, Mapping):
        found = dict(zip(_keys(structure), children))
        ordered = [(key, found[key]) for key in structure]
        factory = getattr(structure, "default_factory", None)
        return kind(ordered) if factory is None else kind(factory, ordered)  # type: ignore[call-arg]
    if hasattr(structure, "_fields") or hasattr(kind, "__attrs_attrs__"):
        return kind(*children)
    return kind(children)


def map_structure(func: Callable[..., Any], *structure: Any, **kwargs: Any) -> Any:
    """`func` of the leaves of structures that are alike, in the structure of the first.

    check_types, expand_composites: as in `assert_same_structure`, `flatten`. TypeError without a structure.
    """
    check_types = kwargs.pop("check_types", True)
    expand = kwargs.pop("expand_composites", False)
    if kwargs:
        raise ValueError(f"Only valid keyword arguments are `check_types` and `expand_composites`, not: {list(kwargs)}")
    if not callable(func):
        raise TypeError(f"func must be callable, got: {func}")
    if not structure:
        raise ValueError("Must provide at least one structure")
    for other in structure[1:]:
        assert_same_structure(structure[0], other, check_types, expand)
    rows = zip(*(flatten(each, expand) for each in structure))
    return pack_sequence_as(structure[0], [func(*row) for row in rows], expand)


def assert_same_structure(nest1: Any, nest2: Any, check_types: bool = True, expand_composites: bool = False) -> None:
    """ValueError when two structures differ in nesting, lengths or keys; TypeError when the kinds of nests differ."""
    try:
        _compare(nest1, nest2, check_types, expand_composites)
    except (ValueError, TypeError) as error:
        raise type(error)(
            "The two structures don't have the same nested structure.\n\n"
            f"First structure: type={type(nest1).__name__} str={nest1}\n\n"
            f"Second structure: type={type(nest2).__name__} str={nest2}\n\n"
            f"More specifically: {error}\nEntire first structure:\n{_dots(nest1)}\n"
            f"Entire second structure:\n{_dots(nest2)}"
        ) from None


def _compare(a: Any, b: Any, check_types: bool, expand: bool) -> None:
    if is_nested(a) != is_nested(b):
        nest, leaf = (a, b) if is_nested(a) else (b, a)
        raise ValueError(
            f'Substructure "type={type(nest).__name__} str={nest}" is a sequence, while substructure '
            f'"type={type(leaf).__name__} str={leaf}" is not'
        )
    if not is_nested(a):
        if expand and (is_composite(a) != is_composite(b) or (is_composite(a) and type(a) is not type(b))):
            raise ValueError(f"{a} and {b} don't consist of the same tensors")
        return
    if check_types and not _alike(a, b):
        raise TypeError(
            f"The two structures don't have the same sequence type. First structure type={type(a).__name__} str={a} "
            f"has type {type(a).__name__}, while second structure type={type(b).__name__} str={b} has type "
            f"{type(b).__name__}"
        )
    if isinstance(a, Mapping) and isinstance(b, Mapping) and set(a) != set(b):
        raise ValueError(
            f"The two dictionaries don't have the same set of keys. First structure has keys {list(a)}, while second "
            f"structure has keys {list(b)}"
        )
    mine, theirs = _children(a), _children(b)
    if len(mine) != len(theirs):
        raise ValueError(
            f"The two structures don't have the same number of elements. First structure: type={type(a).__name__} "
            f"str={a}. Second structure: type={type(b).__name__} str={b}"
        )
    for one, other in zip(mine, theirs):
        _compare(one, other, check_types, expand)


def _alike(a: Any, b: Any) -> bool:
    if hasattr(a, "_fields") and hasattr(b, "_fields"):
        return type(a).__name__ == type(b).__name__ and a._fields == b._fields
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return True
    return type(a) is type(b)


def _dots(structure: Any) -> str:
    """The nesting alone, with a dot for each leaf."""
    return str(_packed(structure, iter([_DOT] * len(flatten(structure))), False))


class _Dot:
    __slots__ = ()

    def __repr__(self) -> str:
        return "."


_DOT = _Dot()
