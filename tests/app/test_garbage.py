"""After a page the garbage collector has little to look through, and looks for nothing twice."""

from __future__ import annotations

import gc
import sys

from app import garbage


def test_what_was_imported_is_frozen_once() -> None:
    garbage.freeze_imports()
    frozen = gc.get_freeze_count()
    assert frozen > len(sys.modules), "the libraries are out of the collector's sight"
    kept = [[i] for i in range(20_000)]
    garbage.freeze_imports()
    assert gc.get_freeze_count() <= frozen, "nothing was imported"
    sys.modules["a page's first import"] = sys
    try:
        garbage.freeze_imports()
        assert gc.get_freeze_count() >= frozen + len(kept)
    finally:
        del sys.modules["a page's first import"]
        gc.unfreeze()
