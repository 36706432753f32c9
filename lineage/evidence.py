"""The evidence pack: one zip that answers for one score, and a verifier that needs nothing of ours.

report.html     the human page: question, answer, path, rows, proof
facts.json      every fact of the trace
record.json     the run: tasks, gates, tests, environment
rows/           the source rows, as CSV and Parquet
sql/            the archived SQL of each model, as it ran
model.lgb       the model's text
portfolio/      the lender's portfolio of that night
verify.py       checks all of it
approval.json   who signed the model, with the envelopes
audit/, keys/   the log's chain up to a checkpoint; the public keys
manifest.json   SHA-256 of each file above; manifest.dsse.json the same, signed; manifest.sha256 those two files' own
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import Engine

from lineage import evidence_report, evidence_signatures, rescore
from lineage.personal_data import MASK, masked_row, personal_names, shown, withheld
from lineage.trace import Trace
from pipeline import archive, ledger
from pipeline import booster as native
from pipeline.config import Settings
from pipeline.contracts import CONTRACTS, LANDING_COLUMNS
from pipeline.errors import ConfigError
from pipeline.governance import audit, guard
from pipeline.governance.access import Actor
from pipeline.portfolio import Portfolio

_VERIFIER = Path(__file__).parent / "evidence_pack" / "verify.py"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # a zip has no time of its own: the same facts are the same bytes


@dataclass(frozen=True)
class Pack:
    """A written pack: where, how many files, the SHA-256 of its manifest, what was masked, the key that signed it."""

    path: Path
    files: int
    manifest_sha256: str
    masked: tuple[str, ...]
    key_id: str


def write_pack(
    settings: Settings,
    engine: Engine,
    portfolio: Portfolio,
    found: Trace,
    out: Path,
    *,
    actor: Actor,
    personal_data: bool = False,
    packed_at: datetime | None = None,
) -> Pack:
    """Write the pack of a traced score (all its features) and record who took it.

    The file appears whole or not at all.

    personal_data: leave columns that the contracts or features call personal data, and features that are made of
    such columns, readable; masked otherwise.
    Raises AccessDenied, or ConfigError when the file cannot be written, or is there already.
    """
    subject = f"{found.recorded.subject}:{found.subject_id}"
    for action in ("evidence.export", *(["personal_data.read"] if personal_data else [])):
        guard.require(engine, actor, action, subject)
    if out.exists():
        raise ConfigError(f"{out} is there already", "choose another --out; a pack is never overwritten")
    masked = () if personal_data else personal_names(found)
    files = _files(settings, engine, portfolio, found, frozenset(masked), packed_at or datetime.now(UTC))
    listed = {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())}
    manifest = json.dumps({"pack": "scoretrace evidence 1", "files": listed}, indent=1).encode()
    sha256 = hashlib.sha256(manifest).hexdigest()
    key_id, envelope = evidence_signatures.sealed(settings, manifest)
    files |= {"manifest.json": manifest, "manifest.dsse.json": envelope}
    sums = f"{sha256}  manifest.json\n{hashlib.sha256(envelope).hexdigest()}  manifest.dsse.json\n"
    files["manifest.sha256"] = sums.encode()
    partial = out.with_name(out.name + ".part")
    try:
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as pack:
            for name, content in sorted(files.items()):
                pack.writestr(zipfile.ZipInfo(name, _EPOCH), content, zipfile.ZIP_DEFLATED)
        partial.replace(out)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise ConfigError(
            f"{out} cannot be written: {error.strerror}", "give --out a file in a folder that exists"
        ) from error
    detail = {"as_of": found.recorded.as_of.isoformat(), "run": found.recorded.run.run_id, "manifest_sha256": sha256}
    audit.append(
        engine, actor=actor.name, action="evidence.exported", subject=subject,
        detail=detail | {"file": out.name, "masked": list(masked), "personal_data": personal_data},
    )  # fmt: skip
    return Pack(out, len(files), sha256, masked, key_id)


def _files(
    settings: Settings,
    engine: Engine,
    portfolio: Portfolio,
    found: Trace,
    masked: frozenset[str],
    packed_at: datetime,
) -> dict[str, bytes]:
    recorded, found = found.recorded, withheld(found, masked)
    facts = _facts(portfolio, found, masked, packed_at)
    record = _record(engine, found)
    files = {
        "report.html": evidence_report.page(found, facts, record).encode(),
        "facts.json": _json(facts),
        "record.json": _json(record),
        "model.lgb": archive.read(settings, recorded.scored.digest),
        "verify.py": _VERIFIER.read_bytes(),
    }
    for number, model in enumerate(recorded.models, start=1):
        files[f"sql/{_sql_name(number, model.name)}"] = model.sql.encode()
    for name, sha256 in recorded.run.environment.get("portfolio_files", {}).items():
        files[f"portfolio/{name}"] = archive.read(settings, sha256)
    for table, rows in _rows(found).items():
        told = [masked_row(table, row, masked) for row in rows]
        files[f"rows/{table}.csv"] = _csv(told)
        files[f"rows/{table}.parquet"] = _parquet(told)
    return files | evidence_signatures.governance_files(settings, engine, found)


def _facts(portfolio: Portfolio, found: Trace, masked: frozenset[str], packed_at: datetime) -> dict[str, Any]:
    """The trace, with what the verifier needs beside it. Rows are in rows/, so features name them by row id."""
    facts = found.as_dict()
    values = {f.name: f.value for f in found.features}
    hidden = {name: shown(name, value, masked) for name, value in values.items()}
    for feature in facts["features"]:
        feature["value"] = hidden[feature["name"]]
        for source in feature["sources"]:
            del source["rows"]
    del facts["proof"]["seconds"]  # how long it took is no fact of the score: two packs of one score are the same
    facts["proof"]["differences"] = [
        {"name": d.name, "stored": shown(d.name, d.stored, masked), "replayed": shown(d.name, d.replayed, masked)}
        for d in found.proof.differences
    ]
    booster = rescore.recorded_booster(found.recorded.settings, found.recorded.scored)
    return facts | {
        "packed_at": packed_at.isoformat(timespec="seconds"),
        "lender": portfolio.title,
        "mask": MASK,
        "masked": sorted(masked),
        "feature_values": {name: hidden[name] for name in found.recorded.features},
        "model_inputs": {name: hidden[name] for name in native.features(booster)},
        "rebuild": {
            "tables": {
                name: {c.name: c.sql_type(portfolio.id_type) for c in (*contract.columns, *LANDING_COLUMNS)}
                for name, contract in CONTRACTS.items()
            },
            "models": [
                {
                    "file": _sql_name(number, m.name),
                    "relation": m.relation,
                    "schema": m.schema,
                    "kind": "VIEW" if m.view else "TABLE",
                    "sha256": m.sha256,
                }
                for number, m in enumerate(found.recorded.models, start=1)
            ],
        },
    }


def _record(engine: Engine, found: Trace) -> dict[str, Any]:
    """The run as the ledger has it."""
    run = found.recorded.run
    return {
        "run": vars(run),
        "publication": {k: v for k, v in vars(found.recorded.publication).items() if k != "models"},
        "tasks": [vars(a) for a in ledger.task_attempts(engine, run.run_id)],
        "gates": [vars(v) for v in ledger.gate_verdicts(engine, run.run_id)],
        "dbt": [vars(r) for r in ledger.dbt_results(engine, run.run_id)],
        "promotion": vars(found.promotion) if found.promotion else None,
    }


def _rows(found: Trace) -> dict[str, list[dict[str, Any]]]:
    """Raw table → every row of the proof, in row id order."""
    return {table: list(rows.values()) for table, rows in sorted(found.rows.as_dicts().items()) if rows}


def _sql_name(number: int, model: str) -> str:
    return f"{number:02d}_{model}.sql"


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=1, default=str, ensure_ascii=False, sort_keys=False).encode()


def _csv(rows: Sequence[Mapping[str, Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(rows[0])
    for row in rows:
        writer.writerow(["" if v is None else str(v) for v in row.values()])
    return text.getvalue().encode()


def _parquet(rows: Sequence[Mapping[str, Any]]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([dict(r) for r in rows]), sink)
    return sink.getvalue()
