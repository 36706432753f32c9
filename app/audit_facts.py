"""The audit log as fragments of a page. Pure; no Streamlit."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from app import formats, markup
from app.markup import Cell, Column, Html, Table
from pipeline.errors import RecordDamaged
from pipeline.governance import chain, coverage
from pipeline.governance.chain import GENESIS, Record
from pipeline.governance.verification import Verified

_SHORT = 110


def record_table(records: Sequence[Record], zone: ZoneInfo, caption: str, order: str) -> Table:
    columns = [Column("record", "number", order="-record"), Column("when"), Column("who", order="who"),
               Column("what", order="what"), Column("about", order="about"), Column("detail", "clip fill"),
               Column("SHA-256")]  # fmt: skip
    rows: list[list[Cell]] = [
        [
            str(r.seq),
            markup.at(datetime.fromisoformat(r.at), zone, seconds=True),
            r.actor,
            r.action,
            markup.hint(_clipped(r.subject, 44), r.subject),
            _told(r),
            markup.digest(r.sha256),
        ]
        for r in records
    ]
    return markup.table(columns, rows, caption, order=order)


def record(r: Record, before: Record | None, after: Record | None, zone: ZoneInfo) -> Table:
    """One record, with its hash made anew, and its links to the records on either side."""
    rows: list[list[Cell]] = [
        ["when", markup.at(datetime.fromisoformat(r.at), zone, seconds=True)],
        ["who", r.actor],
        ["what", r.action],
        ["about", r.subject],
        ["hash before it", markup.join([_whole(r.prev_sha256), _before(r, before)], " ")],
        ["its own hash", markup.join([_whole(r.sha256), _own(r)], " ")],
        ["hash that the next one names", _after(r, after)],
    ]
    return markup.table([Column(""), Column("", "wrap fill")], rows, f"Record {r.seq}")


def detail(r: Record) -> str:
    """The detail as it is read: JSON, one key a line, what it says before the hashes of the rows that it covers."""
    return json.dumps(_covers_last(r), indent=2, ensure_ascii=False)


def verified(found: Verified, zone: ZoneInfo) -> Html:
    """What a verification found, and what it was held against."""
    v, kept = found.verdict, found.kept
    faults: list[Html] = []
    if not v.ok:
        sound = f"The {formats.plural(v.records, 'record')} before it {'is' if v.records == 1 else 'are'} sound."
        following = "Next: compare the log with a backup from there on."
        faults.append(markup.alarm("stop", f"record {v.first_bad}: {v.reason}", sound, following))
    if found.gap:
        following = f"The chain itself is sound. Next: compare the table {found.gap.table} with a backup."
        faults.append(markup.alarm("stop", f"{found.gap.what}: {found.gap.why}", following))
    if found.checkpoint_fault:
        following = f"The log was checked without it. Next: {found.next_step}."
        faults.append(markup.alarm("stop", f"checkpoint: {found.checkpoint_fault}", following))
    if faults:
        return markup.join(faults, "")
    counted = f"{formats.plural(v.records, 'record')}, none changed, missing or moved; the last hash is "
    covered = ". Every row that records cover is there and unchanged."
    head = markup.join([counted, markup.digest(v.head), covered], "")
    if kept is None:
        held: Cell = "There is no checkpoint to compare with: a tail that was cut off would leave no trace."
        return markup.alarm("watch", "the chain is sound", head, held)
    at = markup.at(datetime.fromisoformat(kept.at), zone)
    signed = f", signed by key {', '.join(found.signers)}. " if found.signers else ". "
    beside = (
        "That checkpoint lies beside the log; one kept elsewhere (`scoretrace audit verify --against`) proves more."
    )
    told = markup.join([f"As the checkpoint at record {kept.seq} has it, of ", at, signed], "")
    return Html(
        f"<div class='alarm okay' role='status'><p>{markup.status('ok', 'the chain is sound')}</p>"
        f"<p>{head}</p><p>{told}</p><p>{markup.with_code(beside)}</p></div>"
    )


def _covers_last(r: Record) -> dict[str, Any]:
    return dict(sorted(r.facts.items(), key=lambda fact: fact[0] == coverage.COVERS))


def _told(r: Record) -> Cell:
    """A line of the detail, all of it on hover. A detail that cannot be read is shown as it stands."""
    try:
        facts = _covers_last(r)
    except RecordDamaged:
        return markup.hint(_clipped(r.detail, _SHORT), _clipped(r.detail, 1000))
    if not facts:
        return formats.MISSING
    said = {name: value for name, value in facts.items() if name != coverage.COVERS}
    short = json.dumps(said or facts, ensure_ascii=False)
    return markup.hint(_clipped(short, _SHORT), _clipped(json.dumps(facts, ensure_ascii=False), 1000))


def _own(r: Record) -> Html:
    """Its hash over its fields, as ``verify`` makes it."""
    try:
        anew = chain.sealed(**{k: v for k, v in vars(r).items() if k != "sha256"}).sha256
    except ValueError:
        anew = ""
    return (
        markup.status("ok", "fits its fields") if anew == r.sha256 else markup.status("stop", "does not fit its fields")
    )


def _before(r: Record, before: Record | None) -> Html:
    if before is None:
        first = r.prev_sha256 == GENESIS
        return markup.status("ok", "the log begins here") if first else markup.status("stop", "that record is missing")
    same = before.sha256 == r.prev_sha256
    return (
        markup.status("ok", f"record {before.seq} has it")
        if same
        else markup.status("stop", f"record {before.seq} has another")
    )


def _after(r: Record, after: Record | None) -> Cell:
    if after is None:
        return markup.status("none", "this is the last record")
    same = after.prev_sha256 == r.sha256
    word = (
        markup.status("ok", f"record {after.seq} names it")
        if same
        else markup.status("stop", f"record {after.seq} names another")
    )
    return markup.join([_whole(after.prev_sha256), word], " ")


def _whole(sha256: str) -> Html:
    return Html(f"<code class='whole'>{markup.html(sha256)}</code>")


def _clipped(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
