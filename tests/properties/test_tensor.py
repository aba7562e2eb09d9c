"""Laws of `Tensor`: NumPy is the oracle of indexing, a comprehension that of selecting."""

import copy
import pickle
import re
import tracemalloc
from collections.abc import Collection
from fnmatch import fnmatchcase
from itertools import product
from math import prod

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from pyrsistent import pmap
from strategies import numbered

from pyexp import Axis, SelectionError, Tensor, freeze
from pyexp.configs import equal
from pyexp.errors import PyexpError
from pyexp.tensor import Box, box_of, count, default_axes, strides_of
from pyexp.testing.strategies import names, shapes


class Lazy:
    """Cells that are made when they are looked at, and count how often that was."""

    def __init__(self, size):
        self.size = size
        self.made = 0

    def __getitem__(self, position):
        assert 0 <= position < self.size
        self.made += 1
        assert self.made < 10_000, "somebody walks a tensor that should be lazy"
        return position

    def __iter__(self):
        return (self[i] for i in range(self.size))


def lazy(shape):
    """The tensor of that shape whose items are their flat positions, made when they are looked at."""
    return Tensor.of_cells(Lazy(prod(shape)), default_axes(shape))


def oracle(shape):
    """The NumPy array of the same items."""
    return np.array(range(prod(shape)), dtype=object).reshape(shape)


def same(tensor, array):
    """Whether a tensor and an array have the same shape and items, in every view of them."""
    return (
        isinstance(tensor, Tensor)
        and tensor.shape == array.shape
        and tensor.tolist() == array.tolist()
        and list(tensor) == [tensor[i] for i in range(tensor.size)] == array.ravel().tolist()
        and tuple(len(axis.coords) for axis in tensor.axes) == tensor.shape
    )


def slices(size):
    """Slices of a sequence, also beyond its ends and backwards."""
    ends = st.none() | st.integers(-size - 2, size + 2)
    return st.builds(slice, ends, ends, st.sampled_from([None, 1, 2, 3, -1, -2]))


def ints(size):
    """Positions from either end, as ints of Python or NumPy. There have to be some."""
    return st.integers(-size, size - 1).flatmap(lambda i: st.sampled_from([i, np.int64(i), np.array(i), np.int8(i)]))


def entries(size):
    """One entry of an index that keeps or drops an axis: a slice, or an int where there are positions."""
    return slices(size) | ints(size) if size else slices(size)


def lists(size):
    """Lists of positions, also empty or with repetitions, as lists, tuples, arrays or masks."""
    positions = st.lists(st.integers(-size, size - 1), max_size=4) if size else st.just([])
    mask = st.lists(st.booleans(), min_size=size, max_size=size)
    forms = st.sampled_from([list, tuple, lambda items: np.array(items, int), lambda items: list(np.array(items, int))])
    masks = st.sampled_from([list, lambda items: np.array(items, bool), lambda items: list(np.array(items, bool))])
    return st.builds(lambda form, items: form(items), forms, positions) | st.builds(
        lambda form, items: form(items), masks, mask
    )


@given(shapes(), st.data())
def test_a_tuple_indexes_as_in_numpy(shape, data):
    """Ints drop their axis, slices keep it, an ellipsis or what is missing stands for whole axes."""
    index = [data.draw(entries(size)) for size in shape]
    index = index[: data.draw(st.integers(0, len(index)))]
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(index)))
        back = [data.draw(entries(size)) for size in shape[len(shape) - len(index) + at :]]
        index = [*index[:at], ..., *back]
    expected = oracle(shape)[tuple(index)]
    for tensor in (numbered(shape), lazy(shape)):
        got = tensor[tuple(index)]
        assert same(got, expected) if np.ndim(expected) else got == expected


@given(shapes(), st.data())
def test_lists_keep_an_axis_each(shape, data):
    """One list indexes as in NumPy; several keep the product of their positions, one axis after the other."""
    assume(shape)
    index = tuple(data.draw(slices(size) | lists(size)) for size in shape)
    expected = oracle(shape)
    for axis, entry in enumerate(index):
        plain = np.array(entry, int) if isinstance(entry, (list, tuple)) and not any_bool(entry) else entry
        plain = np.array(plain, bool) if any_bool(plain) else plain
        expected = expected[(slice(None),) * axis + (plain,)]
    for tensor in (numbered(shape), lazy(shape)):
        assert same(tensor[index], expected)


def any_bool(entry):
    """Whether an entry of an index is a mask in a list."""
    return isinstance(entry, list) and any(isinstance(item, (bool, np.bool_)) for item in entry)


@given(shapes(), st.data())
def test_a_single_index_speaks_of_the_flat_sequence(shape, data):
    """An int, of type slice or a list index the items in C order, whatever the shape."""
    flat = oracle(shape).ravel()
    index = data.draw(entries(len(flat)) | lists(len(flat)))
    expected = flat[np.array(index, int) if isinstance(index, (list, tuple)) and not any_bool(index) else index]
    for tensor in (numbered(shape), lazy(shape)):
        got = tensor[list(index) if isinstance(index, tuple) else index]
        assert same(got, expected) if isinstance(expected, np.ndarray) else got == expected


@given(shapes(), st.data())
def test_an_index_of_an_index_is_right(shape, data):
    """Views of views, boxes of boxes: as in NumPy."""
    assume(shape)
    tensor, array = lazy(shape), oracle(shape)
    for _ in range(3):
        index = tuple(data.draw(slices(size)) for size in tensor.shape)
        tensor, array = tensor[index], array[index]
        assert same(tensor, array)
    assert same(tensor[::2], array.ravel()[::2])


@given(shapes())
def test_views_of_the_whole(shape):
    """`tolist`, iteration, `len`, truth, `size` and `ndim` are NumPy's; an ellipsis keeps everything."""
    array = oracle(shape)
    for tensor in (numbered(shape), lazy(shape)):
        assert tensor.tolist() == array.tolist()
        assert list(tensor) == array.ravel().tolist()
        assert (len(tensor), tensor.size, tensor.ndim, tensor.shape) == (array.size, array.size, array.ndim, shape)
        assert bool(tensor) is (array.size > 0)
        assert same(tensor[...], array)
        assert list(reversed(tensor)) == list(tensor)[::-1]
        assert strides_of(shape) == tuple(stride // array.itemsize for stride in array.strides) or not array.size


# Selecting


def exactly(tensor, selection, chosen):
    """Whether a selection holds the chosen flat positions of a numbered tensor, in a box if they are one."""
    array = oracle(tensor.shape)
    where = np.argwhere(np.isin(array.astype(int), list(chosen)))
    sides = [sorted(set(column.tolist())) for column in where.T]
    if chosen and {tuple(row) for row in where.tolist()} == set(product(*sides)):
        return same(selection, array[np.ix_(*sides)] if sides else array)
    return same(selection, np.array(sorted(chosen), dtype=object))


@given(shapes(), st.data())
@example((2, 2), None)
def test_a_selection_holds_exactly_the_matches(shape, data):
    """The diagonal of a 2 × 2 is flat; what is a product of positions keeps its axes; nothing else gets in."""
    tensor = numbered(shape)
    chosen = (
        {0, 3}
        if data is None
        else data.draw(st.sets(st.sampled_from(range(tensor.size))) if tensor else st.just(set()))
    )
    for source in (tensor, lazy(shape)):
        assert exactly(tensor, source.filter(chosen.__contains__), chosen)
        assert exactly(tensor, source[chosen.__contains__], chosen)
        assert exactly(tensor, source[source.map(chosen.__contains__)], chosen)
        assert exactly(tensor, source[source.map(lambda item: np.bool_(item in chosen))], chosen)
        if len(shape) > 1:
            assert exactly(tensor, source[np.isin(oracle(shape).astype(int), list(chosen))], chosen)


@given(shapes(max_dims=3, min_side=1), st.data())
def test_a_box_keeps_its_axes(shape, data):
    """What a filter keeps of a product of positions has the axes of the tensor, with fewer coordinates."""
    tensor = numbered(shape)
    sides = [sorted(data.draw(st.sets(st.sampled_from(range(size)), min_size=1))) for size in shape]
    chosen = {int(i) for i in oracle(shape)[np.ix_(*sides)].ravel()} if shape else {0}
    selection = tensor.filter(chosen.__contains__)
    assert selection.shape == tuple(map(len, sides))
    assert [(axis.name, list(axis.coords)) for axis in selection.axes] == [
        (f"axis_{i}", side) for i, side in enumerate(sides)
    ]
    assert box_of(sorted(chosen), shape) == tuple(map(tuple, sides))


def test_a_selection_is_a_tensor_also_of_one_and_of_no_axes():
    """Only an item by its number or exact name is bare; `item()` takes the sole one out."""
    for tensor in (Tensor([5], ()), Tensor([5]), Tensor([5], (1, 1))):
        assert tensor.filter(lambda item: item == 5).shape == tensor.shape
        assert tensor[lambda item: item == 5].item() == 5
        assert tensor[0] == tensor[-1] == tensor[(0,) * tensor.ndim] == 5
        assert tensor[:].tolist() == [5]
        assert tensor.filter(lambda item: False).shape == (0,)
    assert Tensor([5], ())[()] == Tensor([5], ()).tolist() == 5
    for size in (0, 2):
        with pytest.raises(
            SelectionError, match=f"^item\\(\\) takes the only item out of a tensor, and this one has {size}$"
        ):
            numbered((size,)).item()


def named(given_names, shape=None):
    """The tensor of maps with these names."""
    return Tensor([pmap({"name": name, "at": i}) for i, name in enumerate(given_names)], shape)


@given(st.lists(names(), min_size=1, max_size=6), names())
def test_a_name_is_found_exactly_before_it_is_a_glob(known, wanted):
    """A name that one item bears is that item, whatever characters are in it; else the string is a glob."""
    tensor = named(known)
    for name in {*known, wanted}:
        exact = [i for i, other in enumerate(known) if other == name]
        matching = exact or [i for i, other in enumerate(known) if fnmatchcase(other, name)]
        if len(exact) == 1:
            assert tensor[name]["at"] == exact[0]
        elif matching:
            assert [item["at"] for item in tensor[name]] == matching
        else:
            with pytest.raises(SelectionError, match="no item is named"):
                tensor[name]


def test_globs_keep_boxes_and_skip_items_without_a_name():
    """A glob over the names of a grid keeps its axes."""
    tensor = named(["a_x", "a_y", "b_x", "b_y"], (2, 2))
    assert tensor["a_*"].shape == (1, 2)
    assert tensor["*_y"].shape == (2, 1)
    assert tensor["*"].shape == (2, 2)
    assert named(["a", "a", "b"])["a"].shape == (2,)
    mixed = named(["a", None, 5, np.ones(2)])
    assert mixed["*"].shape == (1,)
    assert mixed.names[:3] == ["a", None, 5]
    with pytest.raises(
        SelectionError, match=r"^no item is named 'lr_0.1' or matches it as a glob; did you mean 'lr0.1'\?$"
    ):
        named(["lr0.1", "x"])["lr_0.1"]
    with pytest.raises(SelectionError, match=r"^no item is named 'q' .*; the names are 'a'$"):
        mixed["q"]
    with pytest.raises(SelectionError, match=r"^no item is named 'q' .*; there is nothing$"):
        Tensor([1, 2])["q"]


LEAVES = st.sampled_from([0, 1, True, 1.0, "1", None, (1,), float("nan")])


@given(
    st.lists(st.fixed_dictionaries({}, optional={"a": LEAVES, "b": LEAVES, "m.c": LEAVES}), min_size=4, max_size=4),
    st.fixed_dictionaries({}, optional={"a": LEAVES, "m.c": LEAVES}),
)
def test_a_query_selects_what_has_every_value_of_it(configs, query):
    """A comprehension says the same; dotted or nested, the query is one."""
    tensor = Tensor([freeze({**config, "at": i}) for i, config in enumerate(configs)], (2, 2))

    def has(config, key, value):
        return key in config and (config[key] == value or (config[key] != config[key] and value != value))

    wanted = {i for i, config in enumerate(configs) if all(has(config, key, query[key]) for key in query)}
    nested = {key.split(".")[0]: {"c": value} if "." in key else value for key, value in query.items()}
    if wanted:
        numbers = numbered((2, 2))
        for form in (query, nested, freeze(query)):
            selection = tensor[form]
            assert exactly(numbers, selection.map(lambda item: item["at"]), wanted)
    else:
        for form in (query, nested, freeze(query)):
            with pytest.raises(SelectionError):
                tensor[form]


def test_a_query_without_matches_says_what_is_unknown_and_what_there_is():
    """The nearest path, or the values there are, or that the combination is missing."""
    tensor = Tensor([freeze({"config": {"lr": lr, "mlp": {"width": width}}}) for lr, width in ((1, 8), (2, 8), (2, 9))])
    for query, words in [
        ({"config.lrr": 1}, r"^no item has 'config.lrr'; did you mean 'config.lr'"),
        ({"config": {"mlp": {"widht": 1}}}, r"^no item has 'config.mlp.widht'; did you mean 'config.mlp.width'"),
        ({"config.lr": 3}, r"^'config.lr' is 3 in no item; there is 1, 2$"),
        ({"config": {"lr": 3}}, r"^'config.lr' is 3 in no item; there is 1, 2$"),
        ({"config.lr": 1, "config.mlp.width": 9}, r"^no item has all of {'config.lr': 1, .*} at once$"),
        ({1: 2}, r"^no item has '1'; there is 'config.lr', 'config.mlp.width'$"),
        ({"q": 2}, r"^no item has 'q'; there is "),
    ]:
        with pytest.raises(SelectionError, match=words):
            tensor[query]
    with pytest.raises(SelectionError, match=r"^no item has 'a'; there is nothing$"):
        Tensor([5])[{"a": 1}]
    with pytest.raises(SelectionError, match=r"^no item has 'b'; there is '1', 'a'$"):
        Tensor([{1: 2, "a": 3}])[{"b": 1}]
    with pytest.raises(SelectionError, match=r"^no item has all of {} at once$"):
        Tensor([])[{}]
    assert tensor[{}].shape == (3,)


# Axes


def grid():
    """A tensor with named axes."""
    return Tensor("abcdef", (2, 3), [Axis("lr", [0.1, 1.0]), Axis("mlp.width", (8, 16, 8))])


def test_sel_finds_coordinates_by_value():
    """One value drops its axis, a list keeps it; so does a value that several positions share."""
    tensor = grid()
    assert tensor.sel(lr=0.1).tolist() == ["a", "b", "c"]
    assert tensor.sel(lr=np.float64(0.1)).axes == (Axis("mlp.width", (8, 16, 8)),)
    assert tensor.sel({"mlp.width": 16}, lr=1.0) == "e"
    assert tensor.sel({"mlp.width": 8}).tolist() == [["a", "c"], ["d", "f"]]
    assert tensor.sel({"mlp.width": [16]}).tolist() == [["b"], ["e"]]
    assert tensor.sel({"mlp.width": [16, 8]}).tolist() == [["b", "a", "c"], ["e", "d", "f"]]
    assert tensor.sel({"mlp.width": [16, 8]}).axes[1].coords == (16, 8, 8)
    assert tensor.sel(lr=[]).shape == (0, 3)
    assert tensor.sel() == tensor
    nested = Tensor("ab", (2,), [Axis("layers", ([1], [1, 2]))])
    assert nested.sel(layers=[1, 2]) == "b"
    assert nested.sel(layers=[[1], (1, 2)]).tolist() == ["a", "b"]


def test_isel_finds_positions():
    """By name, as a tuple does by place."""
    tensor = grid()
    assert tensor.isel(lr=-1).tolist() == ["d", "e", "f"]
    assert tensor.isel({"mlp.width": slice(None, None, -1)}).tolist() == [["c", "b", "a"], ["f", "e", "d"]]
    assert tensor.isel({"mlp.width": [0, 2]}, lr=0).axes == (Axis("mlp.width", (8, 8)),)
    assert tensor.isel({"mlp.width": slice(0)}).shape == (2, 0)


def test_what_sel_does_not_find_it_names():
    """The nearest axis, or the coordinates there are."""
    with pytest.raises(SelectionError, match=r"^no axis is named 'width'; did you mean 'mlp.width'\?$"):
        grid().sel(width=8)
    with pytest.raises(SelectionError, match=r"^no axis is named 'q'; the axes are 'lr', 'mlp.width'$"):
        grid().isel(q=0)
    with pytest.raises(SelectionError, match=r"^axis 'lr' has no coordinate 0.2; there is 0.1, 1.0$"):
        grid().sel(lr=0.2)
    with pytest.raises(SelectionError, match=r"^axis 'lr' has no coordinate 0.2; there is 0.1, 1.0$"):
        grid().sel(lr=[0.1, 0.2])
    with pytest.raises(SelectionError, match=r"^index 5 is outside axis 'lr', which has 2 positions$"):
        grid().isel(lr=5)


def test_an_axis_does_not_change_with_the_list_it_is_made_of():
    """Coordinates are kept as a tuple."""
    coords = [1, 2]
    axis = Axis("a", coords)
    coords.append(3)
    assert len(axis) == axis.size == 2
    assert axis == Axis("a", (1, 2))
    assert repr(axis) == "Axis(name='a')"


# What is refused


@pytest.mark.parametrize(
    ("index", "words"),
    [
        (6, "index 6 is outside the flat sequence, which has 6 positions"),
        (-7, "index -7 is outside the flat sequence, which has 6 positions"),
        ((0, 3), "index 3 is outside axis 'axis_1', which has 3 positions"),
        (([0, 2], 0), "index 2 is outside axis 'axis_0', which has 2 positions"),
        ((0, 0, 0), "too many indices: 3 for a tensor of 2 axes"),
        ((0, ..., 0, 0), "too many indices: 3 for a tensor of 2 axes"),
        ((..., ...), "an index can have one ellipsis"),
        (
            True,
            "the flat sequence cannot be indexed with True, of type bool; use an int, a slice or a list of ints",
        ),
        (np.True_, "the flat sequence cannot be indexed with True, of type bool"),
        ([True, 1], "the flat sequence cannot be indexed with True, of type bool"),
        ((0, True), "axis 'axis_1' cannot be indexed with True, of type bool"),
        (None, "the flat sequence cannot be indexed with None, of type NoneType"),
        ((0, None), "axis 'axis_1' cannot be indexed with None"),
        ((0, "a"), "axis 'axis_1' cannot be indexed with 'a', of type str"),
        (["a"], "the flat sequence cannot be indexed with 'a', of type str"),
        (1.0, "the flat sequence cannot be indexed with 1.0, of type float"),
        (np.float64(1), "the flat sequence cannot be indexed with 1.0, of type float"),
        (slice("a"), "the flat sequence cannot be indexed with slice(None, 'a', None), of type slice"),
        (slice(0, 1, 0), "the flat sequence cannot be indexed with slice(0, 1, 0), of type slice"),
        (([True, False, True], 0), "a mask of 3 booleans does not fit axis 'axis_0', which has 2 positions"),
        ([True], "a mask of 1 booleans does not fit the flat sequence, which has 6 positions"),
        ([[0, 1]], "the flat sequence cannot be indexed with a nested list; use a flat list of ints"),
        (np.ones((3, 2), bool), "a mask of shape (3, 2) does not fit a tensor of shape (2, 3)"),
        (np.ones((2, 3), int), "a tensor or array as index has to hold booleans, as a mask of shape (2, 3)"),
        (Tensor([True]), "a mask of shape (1,) does not fit a tensor of shape (2, 3)"),
        (Tensor([None] * 6, (2, 3)), "a tensor or array as index has to hold booleans, as a mask of shape (2, 3)"),
    ],
)
def test_a_bad_index_is_named(index, words):
    """The message says what was indexed, with what, and how many positions there are."""
    for tensor in (numbered((2, 3)), lazy((2, 3))):
        with pytest.raises(SelectionError) as refused:
            tensor[index]
        assert str(refused.value).startswith(words)
        assert isinstance(refused.value, (IndexError, LookupError, PyexpError))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([1, 2, 3], (2, 2)), "3 items do not fill the shape (2, 2), which holds 4"),
        (([1], (-1, -1)), "1 items do not fill the shape (-1, -1), which holds 1"),
        (([1], None, [Axis("a", [1, 2])]), "axes of (2,) coordinates do not fit the shape (1,)"),
        (([1], (1, 1), [Axis("a", [1])]), "axes of (1,) coordinates do not fit the shape (1, 1)"),
        (([1], (1, 1), [Axis("a", [1]), Axis("a", [2])]), "two axes have the same name: ['a', 'a']"),
    ],
)
def test_a_tensor_that_does_not_fit_its_shape_is_refused(arguments, words):
    """Number of items, shape and axes have to agree."""
    with pytest.raises(SelectionError) as refused:
        Tensor(*arguments)
    assert str(refused.value) == words


# A value


@given(shapes(), shapes())
def test_tensors_are_equal_by_shape_and_items(left, right):
    """Equal ones have one hash; what is no tensor is not equal."""
    tensor = numbered(left)
    assert tensor == lazy(left) == Tensor(list(tensor), left)
    assert hash(tensor) == hash(lazy(left))
    assert (tensor == numbered(right)) is (left == right)
    assert tensor != list(tensor)
    assert tensor.size == 0 or tensor != tensor.map(lambda item: item + 1)


def test_equal_items_make_equal_tensors_with_one_hash():
    """Also where items have no hash: arrays, NaN, lists and tuples."""
    for left, right in [([1, True], [1.0, 1]), ([(1,)], [[1]]), ([np.ones(2)], [np.ones(2)]), ([np.nan], [-np.nan])]:
        assert Tensor(left) == Tensor(right)
        assert len({Tensor(left), Tensor(right)}) == 1


@given(shapes())
def test_copies_and_pickles_are_equal(shape):
    """Also those of lazy views."""
    for tensor in (numbered(shape), Tensor.of_cells(range(prod(shape)), default_axes(shape))):
        for view in (tensor, tensor[::2], tensor[..., :1] if shape else tensor):
            for other in (pickle.loads(pickle.dumps(view)), copy.copy(view), copy.deepcopy(view)):
                assert other == view
                assert other.axes == view.axes


def test_a_tensor_cannot_be_changed():
    """Neither its items nor its shape, by any way there is; nor by what it was made of."""
    items = [1, 2]
    tensor = Tensor(items)
    items.append(3)
    assert tensor.tolist() == [1, 2]
    for attribute in ("shape", "axes", "size", "ndim", "cells", "other"):
        with pytest.raises(AttributeError):
            setattr(tensor, attribute, (1,))
    with pytest.raises(TypeError):
        tensor[0] = 5
    with pytest.raises(TypeError):
        del tensor[0]
    tensor.tolist().append(4)
    tensor.names.append(4)
    assert tensor.tolist() == [1, 2]


@given(shapes())
def test_map_keeps_shape_and_axes(shape):
    """Each item is looked at once, in order."""
    seen = []
    tensor = lazy(shape)
    mapped = tensor.map(lambda item: seen.append(item) or str(item))
    assert seen == list(range(tensor.size))
    assert mapped.axes == tensor.axes
    assert mapped.tolist() == np.vectorize(str, otypes=[object])(oracle(shape)).tolist()


def test_repr_shows_axes_and_the_first_items():
    """Three items are enough."""
    assert repr(grid()) == "<Tensor (lr: 2, mlp.width: 3) ['a', 'b', 'c', …]>"
    assert repr(Tensor([1, 2, 3])) == "<Tensor (axis_0: 3) [1, 2, 3]>"
    assert repr(Tensor([])) == "<Tensor (axis_0: 0) []>"


# Size


def test_a_tensor_of_more_than_2_to_the_64_items_is_indexed_and_sliced_without_a_walk():
    """Only `len`, which Python limits, cannot be said."""
    side = 10**10
    tensor = lazy((side, side, side))
    cells = tensor.cells
    assert tensor.size == side**3
    assert tensor
    assert hash(tensor) == hash(lazy((side, side, side)))
    with pytest.raises(OverflowError):
        len(tensor)
    assert tensor[-1] == side**3 - 1 == tensor[-1, -1, -1]
    assert tensor[1, 2, 3] == (side + 2) * side + 3
    view = tensor[::-2][5:][::3,]
    assert (view.size, view[0], view[1]) == (-(-(side**3 // 2 - 5) // 3), side**3 - 11, side**3 - 17)
    assert tensor[5:, ::2][:, 1, ::-1].shape == (side - 5, side)
    assert tensor[:, [0, 0]].shape == (side, 2, side)
    assert tensor[side**3 :].shape == (0,)
    assert repr(view[:,]).startswith("<Tensor (axis_0: ")
    assert tensor.isel(axis_1=slice(10, None, 3)).axes[1].coords == range(10, side, 3)
    assert tensor.isel(axis_1=slice(3, None, -2)).axes[1].coords == range(3, -1, -2)
    assert cells.made < 20


@given(st.integers(-9, 9), st.integers(-9, 9), st.sampled_from([-3, -2, -1, 1, 2, 3]))
def test_count_is_len(start, stop, step):
    """For every range, and for other sequences."""
    assert count(range(start, stop, step)) == len(range(start, stop, step))
    assert count("abc") == 3


def test_a_small_selection_does_not_keep_a_large_tensor_alive():
    """What is there already is taken out; what is lazy stays so."""
    assert type(numbered((100,))[:2].cells) is tuple
    assert type(lazy((100,))[:2].cells) is Box


def test_the_items_of_a_long_slice_are_made_one_by_one():
    backwards = lazy((2000, 2000))[::-1]
    tracemalloc.start()
    try:
        assert next(iter(backwards)) == backwards[0] == backwards.size - 1
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


# NumPy and the protocols


ITEMS = st.one_of(
    st.lists(st.sampled_from([0, 1, -1, 1 << 63, (1 << 60) + 1, 10**400]), min_size=1, max_size=4),
    st.lists(st.sampled_from([0.5, -0.0, 1.0, float("nan"), float("inf")]), min_size=1, max_size=4),
    st.lists(st.sampled_from([0, 0.5, (1 << 60) + 1, True]), min_size=1, max_size=4),
    st.lists(st.sampled_from([True, False]), min_size=1, max_size=4),
    st.lists(st.sampled_from(["a", "1", "a\x00", "é", 1]), min_size=1, max_size=4),
    st.lists(st.sampled_from([None, [1], (1, 2), {"a": 1}, np.ones(2), np.ones((2, 2)), 1j]), min_size=1, max_size=4),
    st.lists(st.sampled_from([np.float32(0.1), np.float32(2)]), min_size=1, max_size=4),
)


@given(ITEMS)
@example([(1 << 60) + 1, 0.5])
@example(["a\x00"])
@example([1 << 80])
def test_an_array_has_the_shape_of_the_grid_and_the_items_as_they_are(items):
    """Whatever they are, of the type that NumPy gives them, or of objects where that would change one."""
    for shape in ((len(items),), (1, len(items), 1)):
        made = np.asarray(Tensor(items, shape))
        assert made.shape == shape
        for item, kept in zip(items, made.ravel().tolist(), strict=True):
            assert kept is item or equal(kept, item)
            assert made.dtype.kind == "f" or type(kept) is type(item) or made.dtype == np.float32
    if {*map(type, items)} in ({int}, {float}, {bool}, {str}) and np.array(items).tolist() == items:
        assert made.dtype == np.array(items).dtype or 1 << 63 in items


def test_an_array_is_of_the_type_that_is_asked_for_and_is_never_shared():
    """As with what else has no array of its own."""
    tensor = Tensor([1, 2, None], (3, 1))
    assert np.asarray(tensor, dtype=float).tolist()[:2] == [[1.0], [2.0]]
    assert np.array(tensor[:2], dtype="int8").dtype == np.int8
    assert np.asarray(tensor, dtype=object)[2, 0] is None
    assert np.asarray(Tensor([])).shape == (0,)
    with pytest.raises(ValueError, match="copy=False is impossible"):
        tensor.__array__(copy=False)
    assert tensor.__array__(copy=True).shape == (3, 1)
    numbers = Tensor([1, 2])  # an array's own arithmetic takes a Tensor for an array, from both sides
    assert (numbers + np.ones(2)).tolist() == (np.ones(2) + numbers).tolist() == [2, 3]
    assert (numbers > np.float64(1)).tolist() == (np.float64(1) < numbers).tolist() == [False, True]
    assert np.mean(Tensor([1, 2, 3, 4], (2, 2)), axis=0).tolist() == [2.0, 3.0]


@given(st.lists(NAMED := st.sampled_from(["a", "b", None, 1]), max_size=4), NAMED)
def test_a_name_and_an_item_are_in_a_tensor(known, wanted):
    """A name as a whole, never as a glob; an item by its value."""
    tensor = named(known)
    assert (wanted in tensor) is (wanted in [name for name in known if isinstance(name, str)])
    assert (wanted in Tensor(known)) is (wanted in known)
    assert ({"name": wanted, "at": 0} in tensor) is (known[:1] == [wanted])
    assert isinstance(tensor, Collection)


def test_a_selection_of_one_item_that_is_asked_for_a_key_names_item():
    """Or says nothing of it, where there are more."""
    tensor = named(["a", "b"])
    with pytest.raises(SelectionError, match=r"; to look into its one item, use \.item\(\)\['at'\]$"):
        tensor[:1]["at"]
    with pytest.raises(AttributeError, match=r"no attribute 'at'; to look into its one item, use \.item\(\)\.at$"):
        tensor[:1].at
    for attribute, hint in (("at", "; numpy.asarray(…) makes an array of it"), ("_at", "")):
        with pytest.raises(AttributeError, match=re.escape(f"no attribute '{attribute}'{hint}") + "$"):
            getattr(tensor, attribute)
    assert not hasattr(tensor[:1], "_ipython_display_")


@pytest.mark.parametrize("item", Tensor([1, 2], (1, 2)))
def test_a_tensor_parametrizes_a_test(item):
    """Without a warning, which is an error here."""
    assert item in (1, 2)
