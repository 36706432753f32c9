"""The human page of an evidence pack: question, answer, who let the model score, path, rows, proof. One HTML file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from lineage.personal_data import TOGETHER
from lineage.trace import Trace

_MAIN = 8
"""Features told with their rows on the page; those of all others are in the pack's folders."""

_STYLE = """
@page { margin: 18mm }
body { font: 15px/1.5 Georgia, "Times New Roman", serif; color: #1a1f24; max-width: 62rem; margin: 2.5rem auto;
       padding: 0 1.5rem }
h1, h2, h3, th, .label { font-family: "Helvetica Neue", Arial, sans-serif }
h1 { font-size: 1.6rem; margin: 0 0 .3rem } h2 { font-size: 1.15rem; margin: 2.2rem 0 .5rem;
     border-bottom: 1px solid #d9dee3; padding-bottom: .2rem } h3 { font-size: 1rem; margin: 1.4rem 0 .2rem }
.label { color: #5f6368; font-size: .8rem; letter-spacing: .04em; text-transform: uppercase }
.answer { display: flex; gap: 2.5rem; margin: 1rem 0; flex-wrap: wrap } .answer b { display: block; font-size: 1.5rem }
table { border-collapse: collapse; width: 100%; font-size: .86rem; font-variant-numeric: tabular-nums; margin: .5rem 0 }
th { text-align: left; font-weight: 600; border-bottom: 1px solid #1a1f24; padding: .2rem .5rem .2rem 0;
     vertical-align: bottom }
td { border-bottom: 1px solid #e8ecf0; padding: .22rem .5rem .22rem 0; vertical-align: top }
code { font: .85em/1.4 ui-monospace, Menlo, Consolas, monospace; word-break: break-all }
.scroll { overflow-x: auto } .scroll td { white-space: nowrap; padding-right: 1rem }
.bar { display: inline-block; height: .7em; vertical-align: baseline }
.up { background: #b5442e } .down { background: #2b6ca3 } .ok { color: #1b6e3c } .stop { color: #a4262c }
.note { color: #5f6368 } tr { break-inside: avoid }
"""


def page(found: Trace, facts: Mapping[str, Any], record: Mapping[str, Any]) -> str:
    """The report as one self-contained HTML page. facts, record: as packed, with personal data masked already."""
    kind, subject, as_of = found.recorded.subject, str(found.subject_id), found.recorded.as_of
    sections = [
        f"<h1>Why {kind} {_t(subject)} was scored as it was on {as_of:%-d %B %Y}</h1>",
        f"<p class='note'>{_t(facts['lender'])} · packed {_t(facts['packed_at'])}"
        + (" · personal data masked" if facts["masked"] else "")
        + "</p>",
        _answer(found),
        _approval(found),
        _contributions(found, facts),
        _paths(found, facts),
        _night(record),
        _proof(found, facts),
        _contents(found),
    ]
    return (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{kind} {_t(subject)}, {as_of}</title>"
        f"<style>{_STYLE}</style><body>{''.join(sections)}</body></html>\n"
    )


def _answer(found: Trace) -> str:
    score = found.score
    figures = [
        ("probability of default", f"{score['pd']:.2%}"),
        ("grade", str(score["grade"])),
        ("score", f"{score['score_points']} points"),
        ("log-odds", f"{score['log_odds']:+.4f}"),
    ]
    raising = [f for f in found.features if (f.contribution or 0) > 0][:3]
    lowering = [f for f in found.features if (f.contribution or 0) < 0][:3]
    said = []
    if raising:
        said.append("What raised it most: " + "; ".join(_in_words(f) for f in raising) + ".")
    if lowering:
        said.append("What lowered it most: " + "; ".join(_in_words(f) for f in lowering) + ".")
    boxes = "".join(f"<div><span class='label'>{n}</span><b>{_t(v)}</b></div>" for n, v in figures)
    return f"<div class='answer'>{boxes}</div><p>{' '.join(said)}</p>"


def _in_words(feature: Any) -> str:
    return f"{_t(feature.description.rstrip('.').lower() or feature.name)} ({feature.contribution:+.3f})"


def _approval(found: Trace) -> str:
    model, promoted, training = found.recorded.scored, found.promotion, found.training
    text = (
        f"<p>Scored by <b>{_t(model.name)} version {model.version}</b>, digest <code>{model.digest}</code>, in run "
        f"<code>{_t(found.recorded.run.run_id)}</code>, at {found.score['scored_at']:%Y-%m-%d %H:%M:%S %Z}.</p>"
    )
    if promoted is None:
        text += "<p class='stop'>✕ No promotion of these bytes is on record.</p>"
    else:
        text += (
            f"<p>Allowed to score by {_t(promoted.actor)} on {promoted.promoted_at:%Y-%m-%d %H:%M %Z}: "
            f"“{_t(promoted.reason)}”</p>"
        )
    if training:
        text += (
            f"<p>Trained with what was known on {training['as_of']}; training set <code>{_t(training['training_set'])}"
            f"</code>, run <code>{_t(training['run_id'])}</code>.</p>"
        )
    return f"<h2>Which model, and who let it score</h2>{text}"


def _contributions(found: Trace, facts: Mapping[str, Any]) -> str:
    read = [f for f in found.features if f.contribution is not None]
    largest = max((abs(f.contribution or 0.0) for f in read), default=1.0) or 1.0
    rows = [("base rate of the training data", "", f"{found.base:+.4f}", "")]
    shown = [f for f in read if f.contribution][:20]
    for f in shown:
        width = round(120 * abs(f.contribution or 0.0) / largest)
        side = "up" if (f.contribution or 0.0) > 0 else "down"
        bar = f"<span class='bar {side}' style='width:{width}px'></span>"
        rows.append((_t(f.name), _t(_v(facts["feature_values"].get(f.name))), f"{f.contribution:+.4f}", bar))
    rest = sum(f.contribution or 0.0 for f in read) - sum(f.contribution or 0.0 for f in shown)
    rows.append((f"{len(read) - len(shown)} other features", "", f"{rest:+.4f}", ""))
    if found.together is not None:
        rows.append((TOGETHER, facts["mask"], f"{found.together:+.4f}", ""))
    rows.append(("<b>together</b>", "", f"<b>{found.score['log_odds']:+.4f}</b>", ""))
    return (
        "<h2>What the score is made of</h2><p>Each feature's exact Shapley contribution to the log-odds; they add up "
        "to the score.</p>" + _table(("feature", "value", "log-odds", "raises or lowers the risk"), rows, raw=True)
    )


def _paths(found: Trace, facts: Mapping[str, Any]) -> str:
    told = [f for f in found.features if f.contribution][:_MAIN]
    parts = []
    for f in told:
        tests = f"{sum(t['status'] == 'pass' for t in f.tests)} of {len(f.tests)} of its data tests passed that night"
        verdict = (
            "<span class='ok'>✓ these rows alone give the value again</span>"
            if f.proved
            else "<span class='stop'>✕ these rows alone do not give the value</span>"
        )
        parts.append(
            f"<h3>{_t(f.name)} = {_t(_v(facts['feature_values'].get(f.name)))}</h3><p>{_t(f.description)} Computed by "
            f"<code>{_t(f.model.name)}</code> (SQL <code>{f.model.sha256[:12]}</code>); {tests}. {verdict}</p>"
        )
        for source in f.sources:
            hidden = set(facts["masked"])
            columns = [c for c in source.rows[0] if c not in ("rowid", "load_id", "source_sha256")]
            lines = [[facts["mask"] if c in hidden else _v(r[c]) for c in columns] for r in source.rows]
            parts.append(
                f"<p class='label'>raw.{_t(source.table)}</p><div class='scroll'>{_table(columns, lines)}</div>"
            )
        if not f.sources:
            parts.append("<p class='note'>No source row is behind it: there was none.</p>")
    return (
        f"<h2>Where the {len(told)} most important values came from</h2><p>Every source row with the file and "
        "the record it was landed from. Those of all others are in <code>rows/</code> and <code>facts.json</code>.</p>"
        + "".join(parts)
    )


def _night(record: Mapping[str, Any]) -> str:
    run, tests = record["run"], [r for r in record["dbt"] if r["resource_type"] == "test"]
    passed = sum(t["status"] == "pass" for t in tests)
    gates = record["gates"]
    tasks = [
        (
            _t(t["task"]), str(t["attempt"]), _t(t["status"]),
            f"{(t['ended_at'] - t['started_at']).total_seconds():.1f} s" if t["ended_at"] else "–",
            "–" if t["rows"] is None else f"{t['rows']:,}",
        )
        for t in record["tasks"]
    ]  # fmt: skip
    return (
        f"<h2>The night</h2><p>Run <code>{_t(run['run_id'])}</code> by {_t(run['actor'])}, code "
        f"<code>{_t(str(run['environment'].get('code', '')))}</code>. {passed} of {len(tests)} data tests passed; "
        f"{sum(g['verdict'] == 'pass' for g in gates)} of {len(gates)} load gates passed.</p>"
        + _table(("task", "attempt", "status", "took", "rows"), tasks, raw=True)
    )


def _proof(found: Trace, facts: Mapping[str, Any]) -> str:
    proof = found.proof
    good = proof.features_equal and proof.score_equal
    verdict = (
        f"<p class='ok'>✓ {proof.features} of {proof.features} features and the score were computed again from "
        f"{proof.rows} source rows with the run's own SQL and model, and are equal to the stored ones bit for bit.</p>"
        if good
        else "<p class='stop'>✕ Not everything came out as stored: "
        + _t(
            ", ".join(
                "{name} (stored {stored}, computed {replayed})".format(**d) for d in facts["proof"]["differences"]
            )
        )
        + "</p>"
    )
    notes = "".join(f"<p class='note'>▲ {_t(n)}</p>" for n in found.notes)
    return (
        f"<h2>Proof</h2>{verdict}<p>It shows that these rows, this SQL and this model are sufficient for the score. It "
        f"does not show that each row is necessary, nor that what the lender's files said was true.</p>{notes}"
    )


def _contents(found: Trace) -> str:
    return (
        "<h2>How to check this pack</h2><p>Unpack it, compare the SHA-256 of <code>verify.py</code> "
        "(<code>sha256sum verify.py</code>) with the one that the signed <code>manifest.json</code> lists, then run "
        "<code>python verify.py</code>. It checks itself too, but a verifier that was changed may do anything, or end "
        "in an error of Python&#39;s own. Python alone checks that "
        "every file is the one that was packed and computes the score again from the features with the model's trees; "
        "with DuckDB installed it also computes the features again from the rows with the archived SQL.</p>"
        f"<p class='note'>Lake snapshot {found.recorded.publication.snapshot_id}; published "
        f"{found.recorded.publication.published_at:%Y-%m-%d %H:%M:%S %Z}.</p>"
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], *, raw: bool = False) -> str:
    cells = (lambda c: c) if raw else _t
    top = "".join(f"<th>{_t(h)}</th>" for h in head)
    body = "".join("<tr>" + "".join(f"<td>{cells(c)}</td>" for c in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def _v(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _t(text: str) -> str:
    return escape(str(text))
