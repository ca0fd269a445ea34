"""The page is written whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from gigaqc import report
from gigaqc.errors import WriteError
from gigaqc.report import templating


def test_writes_and_replaces(variants: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text("old")
    report.write_html(variants["one"], path)
    assert path.read_text(encoding="utf-8") == report.render(variants["one"])
    assert os.listdir(tmp_path) == ["page.html"]
    plain = tmp_path / "plain.txt"
    plain.write_text("")
    assert path.stat().st_mode == plain.stat().st_mode


def test_a_full_disk_leaves_the_old_page_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "page.html"
    path.write_text("old")

    def full(stream: Any, content: bytes) -> None:
        stream.write(content[:3])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(templating, "_write", full)
    with pytest.raises(WriteError, match=r"disk is full.*free some space") as caught:
        templating.write_text(path, "new page")
    assert str(path) in str(caught.value)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["page.html"]


def test_an_interrupt_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(stream: Any, content: bytes) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(templating, "_write", stop)
    with pytest.raises(KeyboardInterrupt):
        templating.write_text(tmp_path / "page.html", "new page")
    assert os.listdir(tmp_path) == []


def test_a_refused_rename_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: Any, target: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(WriteError, match="permission denied: choose a folder"):
        templating.write_text(tmp_path / "page.html", "new page")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "cure"),
    [
        ("missing/page.html", "create it first"),
        ("file/page.html", "choose another folder"),
        ("folder", "name a file in it"),
    ],
)
def test_a_path_that_cannot_be(tmp_path: Path, name: str, cure: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    with pytest.raises(WriteError, match=cure):
        templating.write_text(tmp_path / name, "page")
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]
