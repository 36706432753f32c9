"""A night whose replay has ended: retention took its snapshot, and its scores are still in the lake.

They are shown only where they are proven to be the ones that were published, by the night's content hash.
"""

from __future__ import annotations

from contextlib import closing

import duckdb

from pipeline import lake
from pipeline.config import Settings
from pipeline.errors import NotFound
from pipeline.ledger import Publication
from pipeline.score import content_sha256
from pipeline.sql import literal


def lake_with_scores(settings: Settings, publication: Publication) -> duckdb.DuckDBPyConnection:
    """The lake as a night was published or, once that has ended, at ``snapshot_with_scores``."""
    try:
        return lake.connect(settings, snapshot=publication.snapshot_id)
    except NotFound:
        return lake.connect(settings, snapshot=snapshot_with_scores(settings, publication))


def snapshot_with_scores(settings: Settings, publication: Publication) -> int:
    """The first snapshot still there, from a publication's own on, that shows what it scored.

    Reads and hashes every score of the night: some seconds a million. Raises NotFound where a later run replaced them.
    """
    with closing(lake.connect(settings)) as con:
        row = con.execute(
            f"SELECT min(snapshot_id) FROM ducklake_snapshots({literal(lake.ALIAS)}) WHERE snapshot_id >= ?",
            [publication.snapshot_id],
        ).fetchone()
    if row and row[0] is not None:
        with closing(lake.connect(settings, snapshot=int(row[0]))) as con:
            found = content_sha256(con, (m.subject for m in publication.models), publication.as_of)
        if found == publication.content_sha256:
            return int(row[0])
    raise NotFound(
        f"the scores that run {publication.run_id} published for {publication.as_of} are not in the lake any more: its "
        f"snapshot {publication.snapshot_id} has ended, and what stands for that night since is not what it published",
        "restore the lake folder from a backup that has it; what the run recorded is still in the control store",
    )
