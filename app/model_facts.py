"""Models as fragments of a page: the inventory, a version's card, two versions side by side. Pure; no Streamlit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from app import formats, markup, promotion_facts
from app.markup import Cell, Column, Html, Table
from pipeline.governance import promotion_rules as rules
from pipeline.governance.exposure import Exposure
from pipeline.governance.inventory_log import Listed
from pipeline.governance.promotion_state import Book, Promotion
from pipeline.governance.validation.facts import Feature, ValidationFacts
from pipeline.registry import ModelVersion

SHOWN_FEATURES = 20
_TIER = {"high": "stop", "medium": "watch", "low": "ok"}
_METRICS = (
    ("auc", "AUC", ".4f"),
    ("gini", "Gini", ".4f"),
    ("ks", "KS", ".4f"),
    ("brier", "Brier score", ".5f"),
    ("ece", "calibration error", ".5f"),
    ("calibration_slope", "calibration slope", ".3f"),
    ("observed_rate", "observed rate", ".3%"),
    ("expected_rate", "expected rate", ".3%"),
    ("psi", "PSI, training against held-out", ".4f"),
    ("holdout_rows", "held-out rows", ",.0f"),
    ("holdout_events", "held-out events", ",.0f"),
)
_MAY = {1: "only rise", -1: "only fall", 0: "either"}
_DOES = {1: "rises", -1: "falls", 0: "neither clearly", None: formats.MISSING}
_RANK = {"low": 0, "medium": 1, "high": 2}


# ── the inventory ────────────────────────────────────────────────────────────────────────────────────────────


def inventory_orders(book: Book) -> Mapping[str, Callable[[Listed], Any]]:
    """What the inventory is ordered by."""
    return {
        "model": lambda found: found.name,
        "materiality": lambda found: _RANK.get(found.spec.materiality),
        "risk": lambda found: _RANK.get(found.entry.inherent_risk),
        "exposure": lambda found: found.exposure.amount if found.exposure else None,
        "subjects": lambda found: found.exposure.subjects if found.exposure else None,
        "until": lambda found: rules.expires_at(found.in_force) if found.in_force else None,
        "review": lambda found: found.review.due,
        "findings": lambda found: len(open_findings(book, found.name)),
        "owed": lambda found: len(found.owed),
        "owner": lambda found: found.entry.owner or None,
    }


def inventory_table(listed: Sequence[Listed], book: Book, zone: ZoneInfo, today: date, order: str) -> Table:
    columns = [Column("model", order="model"), Column("materiality", order="-materiality"),
               Column("inherent risk", order="-risk"), Column("exposure", "number", order="-exposure"),
               Column("subjects", "number", order="-subjects"), Column("in production"),
               Column("signed until", order="until"), Column("next review", order="review"),
               Column("findings", "number", "open ones, of its promotions", "-findings"),
               Column("owed", "number", "responses to triggers that fired", "-owed"),
               Column("owner", "wrap fill", order="owner")]  # fmt: skip
    rows: list[list[Cell]] = [
        [
            found.name,
            found.spec.materiality,
            found.entry.inherent_risk or formats.MISSING,
            amount(found.exposure),
            formats.count(found.exposure.subjects) if found.exposure else formats.MISSING,
            f"v{found.in_force.version}" if found.in_force else markup.status("none", "none"),
            _until(found.in_force, zone, today),
            _review(found, today),
            formats.count(len(open_findings(book, found.name))),
            markup.status("watch", str(len(found.owed))) if found.owed else "0",
            found.entry.owner or markup.status("none", "nobody named"),
        ]
        for found in listed
    ]
    return markup.table(columns, rows, "Model inventory", order=order)


def inventory_rows(listed: Sequence[Listed], book: Book) -> Iterator[dict[str, object]]:
    """The inventory as rows of a file: a model each, with what an examiner asks for first."""
    for found in listed:
        held, exposure = found.in_force, found.exposure
        yield {
            "model": found.name,
            "purpose": found.entry.purpose,
            "intended_use": found.entry.intended_use,
            "owner": found.entry.owner,
            "materiality": found.spec.materiality,
            "inherent_risk": found.entry.inherent_risk,
            "exposure": exposure.amount if exposure else None,
            "currency": exposure.currency if exposure else None,
            "subjects": exposure.subjects if exposure else None,
            "version_in_production": held.version if held else None,
            "promotion": held.id if held else None,
            "signed_until": rules.expires_at(held) if held else None,
            "next_review": found.review.due,
            "why_then": found.review.why,
            "open_findings": len(open_findings(book, found.name)),
            "responses_owed": [owed.trigger for owed in found.owed],
        }


def amount(e: Exposure | None) -> Cell:
    """12.4 million with its currency; hovering says what it is of."""
    if e is None or e.amount is None:
        return formats.MISSING
    return markup.hint(f"{formats.count(round(e.amount))}{formats.THIN}{e.currency}", f"{e.what}, {e.as_of}")


def open_findings(book: Book, model: str) -> list[tuple[Promotion, Any]]:
    return [(p, f) for p in book.of_model(model) for f in p.owed]


def _until(p: Promotion | None, zone: ZoneInfo, today: date) -> Cell:
    expires = rules.expires_at(p) if p else None
    if expires is None:
        return formats.MISSING
    day = expires.astimezone(zone).date()
    left = (day - today).days
    if left < 0:
        return markup.status("stop", f"{formats.day(day)}, expired")
    return markup.status("watch", formats.day(day)) if left <= 30 else formats.day(day)


def _review(found: Listed, today: date) -> Cell:
    review = found.review
    if review.due is None:
        return markup.hint(formats.MISSING, review.why)
    if review.overdue(today):
        return markup.status("stop", f"{formats.day(review.due)}, overdue")
    return markup.hint(formats.day(review.due), formats.sentence(review.why))


def entry(found: Listed, zone: ZoneInfo, today: date) -> Html:
    """What the inventory says of one model, in full."""
    said, review, held = found.entry, found.review, found.in_force
    edited = {e.field: e for e in found.standing.edits.values()}

    def told(field: str, text: Cell) -> Cell:
        e = edited.get(field)
        note = f"by {e.by} on {formats.day(e.at.astimezone(zone).date())}: {e.reason}" if e else ""
        return markup.join([text, markup.quiet(note)], "<br>") if note else text

    rows: list[list[Cell]] = [
        ["purpose", told("purpose", said.purpose or _unsaid())],
        ["intended use", told("intended_use", said.intended_use or _unsaid())],
        ["owner", told("owner", said.owner or _unsaid())],
        ["materiality", f"{found.spec.materiality}; the tier decides who signs"],
        [
            "inherent risk",
            told("inherent_risk", markup.join([x for x in (said.inherent_risk, said.inherent_risk_reason) if x], ". "))
            if said.inherent_risk
            else _unsaid(),
        ],
        ["exposure", _exposure(found.exposure)],
        ["in production", _held(held, zone, today)],
        ["next review", markup.join([_review(found, today), markup.quiet(review.why)], " ")],
        ["limits", told("limits", _list(said.limits))],
        ["data", told("data", _shared(said.data, found.shared_data))],
        ["assumptions", told("assumptions", _shared(said.assumptions, found.shared_assumptions))],
    ]
    return markup.table([Column(""), Column("", "wrap fill")], rows, "Inventory entry")


def trigger_table(found: Listed, today: date) -> Table:
    columns = [Column("trigger"), Column("standing"), Column("when it fires", "wrap"),
               Column("response owed", "wrap"), Column("by")]  # fmt: skip
    rows: list[list[Cell]] = []
    for t in found.entry.triggers:
        owed = [o for o in found.owed if o.trigger == t.name]
        fired = [f for f in found.standing.fired if f.trigger == t.name]
        if owed:
            overdue = owed[0].due < today
            times = f" {len(owed)} times" if len(owed) > 1 else ""
            told = f"fired{times}, due {formats.day(owed[0].due)}"
            standing: Cell = markup.status("stop" if overdue else "watch", told)
        elif fired:
            standing = markup.status("ok", "fired, answered")
        else:
            standing = markup.status("none", "has not fired")
        rows.append([t.name, standing, t.when, t.response, f"{t.owner}, {formats.plural(t.within_days, 'day')}"])
    declared = {t.name for t in found.entry.triggers}
    for o in found.owed:
        if o.trigger not in declared:
            level = "stop" if o.due < today else "watch"
            status = markup.status(level, f"fired, due {formats.day(o.due)}")
            rows.append([o.trigger, status, o.why, o.response, o.owner or "nobody named"])
    return markup.table(columns, rows, "Monitoring triggers")


def version_table(
    versions: Sequence[ModelVersion], book: Book, zone: ZoneInfo, now: datetime, gone: frozenset[str]
) -> Table:
    columns = [Column("version"), Column("registered"), Column("model text, SHA-256"),
               Column("promotion", "fill")]  # fmt: skip
    rows: list[list[Cell]] = []
    for v in versions:
        asked = [p for p in book.of_model(v.name) if p.version == v.version]
        standing = (
            promotion_facts.standing(book, asked[-1], now, gone) if asked else markup.status("none", "not requested")
        )
        rows.append([f"v{v.version}", markup.at(v.created_at, zone), markup.digest(v.digest), standing])
    return markup.table(columns, rows, "Registered versions")


def _exposure(e: Exposure | None) -> Cell:
    if e is None:
        return "no night is published that it scored"
    shown = [amount(e)] if e.amount is not None else []
    return markup.join([*shown, f"{formats.count(e.subjects)} subjects", e.what, formats.day(e.as_of)])


def _held(p: Promotion | None, zone: ZoneInfo, today: date) -> Cell:
    if p is None:
        return markup.status("none", "no version may score")
    return markup.join([f"version {p.version}, signed until ", _until(p, zone, today)], "")


def _unsaid() -> Html:
    return markup.status("none", "not stated: `scoretrace models edit` says it".replace("`", ""))


def _list(items: Sequence[str]) -> Html:
    return Html("<br>".join(markup.html(item) for item in items)) if items else _unsaid()


def _shared(items: Sequence[str], shared: Mapping[str, tuple[str, ...]]) -> Html:
    said = [f"{s} (shared with {', '.join(shared[s])})" if s in shared else s for s in items]
    return _list(said)


# ── a version's card ─────────────────────────────────────────────────────────────────────────────────────────


def card_figures(f: ValidationFacts, zone: ZoneInfo) -> Html:
    m = f.training["metrics"]
    interval = f"{m['auc_low']:.4f} to {m['auc_high']:.4f}" if "auc_low" in m else "on held-out rows"
    ratio = m.get("observed_over_expected")
    passed = sum(bool(c["passed"]) for c in f.training["checks"])
    found = sum(x.open for p in f.promotions for x in p.findings)
    return markup.facts(
        [
            ("AUC", _metric(m, "auc", ".4f"), interval),
            ("KS", _metric(m, "ks", ".4f"), "on held-out rows"),
            ("observed / expected", f"{ratio:.3f}" if ratio is not None else formats.MISSING, "events"),
            ("gates", f"{passed} of {len(f.training['checks'])}", "passed in training"),
            ("features", formats.count(len(f.features)), f"{f.dropped} more left out"),
            ("open findings", formats.count(found), "of its promotions"),
            ("registered", formats.day(f.version.created_at.astimezone(zone).date()), f"by {f.training['actor']}"),
        ]
    )


def feature_orders(effect: Mapping[str, float]) -> Mapping[str, Callable[[Feature], Any]]:
    """What a version's features are ordered by; effect: feature → mean effect on the log-odds."""
    return {
        "feature": lambda x: x.name,
        "gain": lambda x: x.share,
        "effect": lambda x: effect.get(x.name),
        "may": lambda x: _MAY[x.constraint],
        "does": lambda x: None if x.rises is None else _DOES[x.rises],
        "owner": lambda x: x.owner or None,
    }


def feature_table(features: Sequence[Feature], effect: Mapping[str, float], order: str) -> Table:
    """Each feature's weight and direction; the first column holds the names."""
    columns = [
        Column("feature", order="feature"),
        Column("share of gain", "number", "of what all splits of the model gained in training", "-gain"),
        Column("effect, log-odds", "number", "mean absolute contribution to a held-out row", "-effect"),
        Column("PD may", hint="what the model was held to as the feature rises", order="may"),
        Column("PD does", hint="what it was seen to do on held-out rows as the feature rises", order="does"),
        Column("owner", order="owner"),
        Column("definition", "fill clip"),
    ]
    rows: list[list[Cell]] = [
        [
            x.name,
            formats.share(x.share),
            f"{effect[x.name]:.3f}" if x.name in effect else formats.MISSING,
            _MAY[x.constraint],
            _DOES[x.rises],
            x.owner,
            markup.hint(x.description, x.description) if x.description else markup.quiet("not described"),
        ]
        for x in features
    ]
    return markup.table(columns, rows, "Features", order=order)


def feature_rows(features: Sequence[Feature], effect: Mapping[str, float]) -> list[dict[str, Any]]:
    """The same as rows of a file, with what each is."""
    return [
        {
            "feature": x.name,
            "definition": x.description,
            "share_of_gain": x.share,
            "mean_effect_log_odds": effect.get(x.name),
            "pd_may": _MAY[x.constraint],
            "pd_does": _DOES[x.rises],
            "owner": x.owner,
        }
        for x in features
    ]


def metric_table(f: ValidationFacts) -> Table:
    m = f.training["metrics"]
    rows: list[list[Cell]] = [[words, _metric(m, key, shape)] for key, words, shape in _METRICS if key in m]
    return markup.table([Column("measure"), Column("held-out rows", "number")], rows, "Metrics", fit=True)


def data_table(f: ValidationFacts) -> Table:
    """Rows and events of each cohort, by fold."""
    rows: list[list[Cell]] = [
        [x.cohort, x.fold, formats.count(x.rows), formats.count(x.events),
         formats.probability(x.events / x.rows if x.rows else None)]
        for x in f.folds
    ]  # fmt: skip
    columns = [Column("cohort"), Column("fold"), Column("rows", "number"), Column("events", "number"),
               Column("event rate", "number")]  # fmt: skip
    return markup.table(columns, rows, "Training data by cohort and fold", fit=True)


def origin(f: ValidationFacts, zone: ZoneInfo) -> Table:
    v, t = f.version, f.training
    rows: list[list[Cell]] = [
        ["model text", markup.digest(v.digest)],
        ["training set", markup.digest(v.training_set)],
        ["feature contract", markup.digest(v.contract_sha256)],
        ["training run", f"{t['run_id']}, as of {t['as_of']}, by {t['actor']}"],
        ["lake snapshot", str(v.snapshot_id)],
        ["registered", markup.at(v.created_at, zone)],
        ["algorithm", f"LightGBM {f.recipe.get('lightgbm', '')}, binary log-loss"],
        ["parameters", parameters(f)],
    ]
    return markup.table([Column(""), Column("", "wrap fill")], rows, "To make it again")


def parameters(f: ValidationFacts) -> str:
    found = f.recipe.get("parameters", {})
    return ", ".join(f"{k} {v}" for k, v in sorted(found.items()) if k != "monotone_constraints") or "not on record"


# ── two versions side by side ────────────────────────────────────────────────────────────────────────────────


def metric_differences(old: ValidationFacts, new: ValidationFacts) -> Table:
    """Each on its own held-out rows; where these differ, the difference says little, and the page says so."""
    a, b = old.training["metrics"], new.training["metrics"]
    rows: list[list[Cell]] = [
        [
            words,
            _metric(a, key, shape),
            _metric(b, key, shape),
            _difference(b[key] - a[key], shape) if key in a and key in b else formats.MISSING,
        ]
        for key, words, shape in _METRICS
        if key in a or key in b
    ]
    columns = [Column("measure"), *(Column(f"v{f.version.version}", "number") for f in (old, new)),
               Column("difference", "number")]  # fmt: skip
    return markup.table(columns, rows, "Metrics side by side")


def _difference(value: float, shape: str) -> str:
    """A difference in the measure's own unit and with its places: of percentages in percentage points."""
    places = int(shape.rpartition(".")[2][0])
    if shape.endswith("%"):
        return f"{formats.signed(value * 100, places)}{formats.THIN}pp"
    return formats.signed(value, places)


def made_differently(old: ValidationFacts, new: ValidationFacts) -> Html:
    """What of their making differs; what is equal is left out."""
    pairs: list[tuple[str, str, str]] = [
        ("as of", str(old.training["as_of"]), str(new.training["as_of"])),
        ("training set", old.version.training_set[:12], new.version.training_set[:12]),
        ("feature contract", old.version.contract_sha256[:12], new.version.contract_sha256[:12]),
        ("features", str(len(old.features)), str(len(new.features))),
        ("trained by", str(old.training["actor"]), str(new.training["actor"])),
    ]
    mine, theirs = old.recipe.get("parameters", {}), new.recipe.get("parameters", {})
    for key in sorted({*mine, *theirs} - {"monotone_constraints"}):
        pairs.append((key, str(mine.get(key, formats.MISSING)), str(theirs.get(key, formats.MISSING))))
    rows: list[list[Cell]] = [[what, a, b] for what, a, b in pairs if a != b]
    if not rows:
        return markup.quiet("Both were made the same way.")
    columns = [Column("what differs"), *(Column(f"v{f.version.version}") for f in (old, new))]
    return markup.table(columns, rows, "What differs in their making")


def feature_differences(old: ValidationFacts, new: ValidationFacts) -> Table:
    """Features by how much their share of gain changed, those that came or went among them."""
    a, b = {x.name: x.share for x in old.features}, {x.name: x.share for x in new.features}
    names = sorted({*a, *b}, key=lambda n: (-abs(b.get(n, 0.0) - a.get(n, 0.0)), n))[:SHOWN_FEATURES]
    rows: list[list[Cell]] = [
        [name, formats.share(a.get(name)), formats.share(b.get(name)), _came(name, a, b)] for name in names
    ]
    columns = [Column("feature"), *(Column(f"v{f.version.version}", "number") for f in (old, new)),
               Column("share of gain", "number")]  # fmt: skip
    return markup.table(columns, rows, "Features, largest change first")


def _came(name: str, a: Mapping[str, float], b: Mapping[str, float]) -> Cell:
    if name not in a:
        return "new"
    if name not in b:
        return "gone"
    return formats.points_change(b[name] - a[name])


def _metric(metrics: Mapping[str, Any], key: str, shape: str) -> str:
    return format(metrics[key], shape).replace(",", formats.THIN) if key in metrics else formats.MISSING
