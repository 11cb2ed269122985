import threading

import pytest

from mixflight.arch.errors import InputError
from mixflight.rtl import cache


def test_the_named_folder_comes_first(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("MIXFLIGHT_CACHE", str(tmp_path / "named"))
    assert cache.cache_folder("synth") == tmp_path / "named" / "synth"
    monkeypatch.delenv("MIXFLIGHT_CACHE")
    assert cache.cache_folder("synth") == tmp_path / "xdg" / "mixflight" / "synth"


def test_a_folder_that_cannot_be_made_is_bad_input(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MIXFLIGHT_CACHE", str(tmp_path / "file"))
    with pytest.raises(InputError, match="cache folder must be writable"):
        cache.cache_folder("synth")


def test_an_interrupted_entry_is_absent(tmp_path):
    def fill(folder):
        (folder / "half").write_text("")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.folder_once(tmp_path / "entry", fill)
    assert list(tmp_path.iterdir()) == []


def test_two_that_fill_the_same_entry_both_succeed(tmp_path):
    barrier = threading.Barrier(2)

    def fill(folder):
        (folder / "value").write_text("1")
        barrier.wait()

    threads = [threading.Thread(target=cache.folder_once, args=(tmp_path / "entry", fill)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [path.name for path in tmp_path.iterdir()] == ["entry"]
    assert (tmp_path / "entry" / "value").read_text() == "1"


def test_digest_keeps_parts_apart():
    assert cache.digest("ab", "c") != cache.digest("a", "bc")


def test_a_failed_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "counts"
    cache.write_atomically(path, "old")
    with pytest.raises(TypeError):
        cache.write_atomically(path, 3)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["counts"]
