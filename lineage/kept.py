"""What was worked out once about a text, kept as a file under a hash of all it depends on.

A definition is read once in the life of a home, whichever process asks first: a command line lives for one question,
and reading the SQL of all models takes longer than answering it.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config import Settings


@dataclass(frozen=True)
class Kept:
    """A folder of kept answers. Making it touches nothing."""

    folder: Path

    @classmethod
    def of(cls, settings: Settings) -> Kept:
        """The home's own."""
        return cls(settings.archive_dir / "lineage")

    def recall(self, *depends: Any) -> Any:
        """The answer kept under these, or None. depends: JSON-able, all that the answer depends on."""
        path = self._path(depends)
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None

    def keep(self, answer: Any, *depends: Any) -> None:
        """Keep an answer, whole or not at all; one who may not write the home works it out anew each time."""
        path = self._path(depends)
        home = next(p for p in path.parents if p.exists())
        if not os.access(home, os.W_OK):
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}")
        partial.write_text(json.dumps(answer, separators=(",", ":")), encoding="utf-8")
        partial.replace(path)

    def _path(self, depends: tuple[Any, ...]) -> Path:
        key = hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()
        return self.folder / key[:2] / f"{key}.json"
