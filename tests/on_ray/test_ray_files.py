"""Files on their way home: what is packed is what is unpacked, and nothing lands outside."""

import os
from pathlib import Path

import pytest

from pyexp.errors import StoreError
from pyexp.executors.ray import files as ray_files
from pyexp.executors.ray.files import Item, pack, unpack


def carried(source: Path, target: Path, kept: list[bytes] | None = None) -> list[Item]:
    """Pack the one folder and unpack into the other, with parts kept as Ray keeps them: under a reference."""
    store = [] if kept is None else kept

    def put(part: bytes) -> int:
        store.append(part)
        return len(store) - 1

    items = pack(str(source), put)
    unpack(str(target), items, lambda ref: store[ref], durable=False)
    return items


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("node", "home"):
        (tmp_path / name).mkdir()
    return tmp_path / "node", tmp_path / "home"


def test_a_folder_comes_home_as_it_was(two):
    node, home = two
    (node / "a" / "b").mkdir(parents=True)
    (node / "empty").mkdir()
    (node / "a" / "b" / "model.pt").write_bytes(b"\0" * 10)
    (node / "näme with spaces\n").write_text("x")
    (node / "zero").touch()
    (node / "latest").symlink_to("a/b/model.pt")
    (node / "result.pkl").write_bytes(b"pickle")
    carried(node, home)
    assert sorted(p.relative_to(home) for p in home.rglob("*")) == sorted(p.relative_to(node) for p in node.rglob("*"))
    assert (home / "a" / "b" / "model.pt").read_bytes() == b"\0" * 10
    assert os.readlink(home / "latest") == "a/b/model.pt"


def test_large_files_travel_in_parts_and_small_ones_inside(two, monkeypatch):
    node, home = two
    monkeypatch.setattr(ray_files, "PART", 1000)
    monkeypatch.setattr(ray_files, "SMALL", 100)
    (node / "large").write_bytes(os.urandom(2500))
    (node / "small").write_bytes(b"s" * 100)
    kept: list[bytes] = []
    items = {item.name: item for item in carried(node, home, kept)}
    assert [len(part) for part in kept] == [1000, 1000, 500]
    assert items["small"].parts == [b"s" * 100]
    assert (home / "large").read_bytes() == (node / "large").read_bytes()


def test_many_small_files_do_not_make_one_large_answer(two, monkeypatch):
    node, home = two
    monkeypatch.setattr(ray_files, "PART", 1000)
    monkeypatch.setattr(ray_files, "SMALL", 100)
    for i in range(30):
        (node / f"f{i:02}").write_bytes(b"x" * 100)
    items = carried(node, home)
    assert sum(len(part) for item in items for part in item.parts if isinstance(part, bytes)) <= 1000
    assert len(list(home.iterdir())) == 30


def test_of_a_link_that_leads_out_the_file_comes(two):
    node, home = two
    (node.parent / "data.txt").write_text("data")
    (node / "data").symlink_to("../data.txt")
    (node / "dangling").symlink_to("../nothing")
    carried(node, home)
    assert not (home / "data").is_symlink()
    assert (home / "data").read_text() == "data"
    assert not os.path.lexists(home / "dangling")


def test_pipes_and_unfinished_writes_stay(two):
    node, home = two
    os.mkfifo(node / "pipe")
    (node / ".result.pkl.00.pyexp-tmp").write_bytes(b"half")
    carried(node, home)
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "..", "", "a/../b", "x\0y"])
def test_a_name_that_leaves_the_folder_is_refused(two, name):
    _, home = two
    with pytest.raises(StoreError, match="outside"):
        unpack(str(home), [Item(name, "file", [b"x"])], lambda part: part, durable=False)
    assert list(home.parent.rglob("x*")) == []


@pytest.mark.parametrize("target", ["../x", "/etc/passwd", "a/../../x", ".."])
def test_a_link_that_leaves_the_folder_is_refused(two, target):
    _, home = two
    with pytest.raises(StoreError, match="leads out"):
        unpack(str(home), [Item("link", "link", [target])], lambda part: part, durable=False)
    assert list(home.iterdir()) == []


def test_links_that_stand_in_the_way_are_replaced_and_not_followed(two):
    node, home = two
    (node.parent / "elsewhere").mkdir()
    (home / "a").symlink_to(node.parent / "elsewhere")
    (home / "f").symlink_to(node.parent / "elsewhere" / "f")
    unpack(str(home), [Item("a/x", "file", [b"x"]), Item("f", "file", [b"f"])], lambda part: part, durable=False)
    assert list((node.parent / "elsewhere").iterdir()) == []
    assert (home / "a" / "x").read_bytes() == b"x"


def test_the_result_is_written_last(two):
    _, home = two
    seen = []

    def get(ref: str) -> bytes:
        seen.append((ref, (home / "result.pkl").exists()))
        return b"x"

    items = [Item(name, "file", [name]) for name in ("a", "result.pkl", "z")]
    unpack(str(home), items, get, durable=False)
    assert seen == [("a", False), ("z", False), ("result.pkl", False)]
