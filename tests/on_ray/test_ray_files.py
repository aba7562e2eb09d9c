"""Files on their way home: what is packed is what is unpacked, and nothing lands outside."""

import os
import shutil
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


def test_a_link_to_a_place_in_the_folder_leads_there_at_home(two):
    """A link by an absolute path would lead to the node's folder, which is removed."""
    node, home = two
    (node / "checkpoints" / "3").mkdir(parents=True)
    (node / "latest").symlink_to(node / "checkpoints" / "3")
    (node / "checkpoints" / "top").symlink_to(node / "latest")
    (node / "other").symlink_to(f"{node}-other")
    carried(node, home)
    assert os.readlink(home / "latest") == "checkpoints/3"
    assert os.readlink(home / "checkpoints" / "top") == "../latest"
    assert not os.path.lexists(home / "other")


def test_a_folder_comes_home_without_what_was_removed_there_or_replaced(two):
    node, home = two
    for name in ("kept", "gone", "full/deep/x", "file/x", "link/x", "folder", "parts/of"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(name)
    os.mkfifo(home / "pipe")
    sent = [item.name for item in carried(home, node)]
    shutil.rmtree(node / "full")
    for name in ("gone", "file/x", "link/x", "folder"):
        (node / name).unlink()
    for name in ("file", "link"):
        (node / name).rmdir()
    (node / "file").write_text("now a file")
    (node / "link").symlink_to("kept")
    (node / "folder").mkdir()
    unpack(str(home), pack(str(node), bytes, sent), bytes, durable=False)
    (home / "pipe").unlink()  # it was not sent, and is nothing of the node's
    assert sorted(p.relative_to(home) for p in home.rglob("*")) == sorted(p.relative_to(node) for p in node.rglob("*"))
    assert ((home / "file").read_text(), os.readlink(home / "link")) == ("now a file", "kept")


def test_nothing_is_removed_outside(two):
    node, home = two
    (node / "kept").touch()
    (home / "a").symlink_to(node)
    unpack(str(home), [Item("a/kept", "gone", []), Item("nothing/x", "gone", [])], bytes, durable=False)
    assert (node / "kept").exists()
    with pytest.raises(StoreError, match="outside"):
        unpack(str(home), [Item("../node/kept", "gone", [])], bytes, durable=False)


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
