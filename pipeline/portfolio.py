"""A portfolio: a folder with ``portfolio.yml`` and one ``<table>.sql`` for each contract it provides.

That folder is all a new lender writes; there is no Python in it. ``load`` checks it as a whole and
names the key that is wrong.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml

from pipeline import archive, retention
from pipeline.config import SHIPPED_PORTFOLIOS, Settings
from pipeline.contracts import CONTRACTS
from pipeline.errors import ConfigError
from pipeline.governance import inventory, policy
from pipeline.governance.inventory import Entry
from pipeline.governance.policy import DEFAULTS, REVIEW_MONTHS, Policy
from pipeline.monitoring import policy as monitoring
from pipeline.monitoring.policy import DriftPolicy
from pipeline.retention import Retention

ID_TYPES = ("BIGINT", "VARCHAR")
CALENDARS = ("daily", "monthly")
HOLDOUTS = ("out_of_time", "hash")
SUBJECTS = ("account", "application")
PROTECTED = tuple(c.name for c in CONTRACTS["applicant_protected"].columns if c.pii)


@dataclass(frozen=True)
class Extract:
    """One of the lender's files: its name, its columns with DuckDB types, its CSV delimiter.

    ``name`` is the file's stem (``statements`` → statements.csv, .csv.gz or .parquet) and the table name
    that the mapping SQL reads. An optional extract may be absent from a load.
    """

    name: str
    columns: dict[str, str]
    delimiter: str = ","
    optional: bool = False


@dataclass(frozen=True)
class Label:
    """What the model predicts: one of ``events`` within ``horizon_months`` after the as-of date."""

    events: tuple[str, ...]
    horizon_months: int


@dataclass(frozen=True)
class ModelSpec:
    """One model of the portfolio.

    subject: ``account`` or ``application``.
    holdout: ``out_of_time`` (the latest cohorts) or ``hash`` (of the subject id).
    cohorts: how many matured month-ends to train on. floors: what a first model must reach.
    tolerances: how much worse than the incumbent a candidate may be on each measure.
    cutoff_pd: subjects with a PD up to and including it are approved, by the lender's credit policy. references:
    protected attribute → group that the others are compared with. Both are for fairness figures alone.
    """

    name: str
    subject: str
    holdout: str = "out_of_time"
    holdout_share: float = 0.3
    cohorts: int = 8
    max_rows: int = 300_000
    floors: dict[str, float] = field(default_factory=dict)
    tolerances: dict[str, float] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)
    materiality: str = "high"
    cutoff_pd: float | None = None
    references: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Grade:
    """A grade holds scores with a PD up to and including ``pd_up_to``."""

    name: str
    pd_up_to: float


@dataclass(frozen=True)
class Points:
    """Score points: ``base`` at odds (good:bad) of ``base_odds``:1, ``pdo`` points to double the odds."""

    base: int = 600
    base_odds: float = 30.0
    pdo: int = 40


@dataclass(frozen=True)
class Gates:
    """Bounds of the load gates. Shares are of rows; the volume window is in loads."""

    volume_window: int = 28
    volume_low: float = 0.5
    volume_high: float = 2.0
    null_increase: float = 0.02
    unknown_category_share: float = 0.0
    unknown_account_rows: int = 0
    freshness_days: int = 3


@dataclass(frozen=True)
class Portfolio:
    """A checked portfolio. ``sha256`` covers every file of its folder."""

    name: str
    title: str
    folder: Path
    sha256: str
    id_type: str
    calendar: str
    timezone: str
    currency: str
    sla_due: time
    label: Label
    extracts: tuple[Extract, ...]
    models: tuple[ModelSpec, ...]
    grades: tuple[Grade, ...]
    points: Points
    gates: Gates
    governance: Mapping[str, Policy] = field(default_factory=lambda: dict(DEFAULTS))  # tier → what a promotion needs
    review_months: Mapping[str, int] = field(
        default_factory=lambda: dict(REVIEW_MONTHS)
    )  # tier → from review to review
    inventory: Mapping[str, Entry] = field(default_factory=dict)  # model → what the portfolio declares of it
    monitoring: DriftPolicy = field(default_factory=DriftPolicy)
    retention: Retention = field(default_factory=Retention)
    exclude_dpd: int = 90  # an account this many days past due is already lost: it is not scored

    @property
    def provides(self) -> tuple[str, ...]:
        """The contracts this portfolio has a mapping for, in contract order."""
        return tuple(t for t in CONTRACTS if (self.folder / f"{t}.sql").is_file())

    def mapping(self, table: str) -> str:
        """The SELECT that maps the lender's files to a contract."""
        return (self.folder / f"{table}.sql").read_text(encoding="utf-8").strip().rstrip(";")

    def model(self, name: str) -> ModelSpec:
        for spec in self.models:
            if spec.name == name:
                return spec
        raise ConfigError(
            f"portfolio {self.name} has no model {name!r}",
            f"its models are: {', '.join(m.name for m in self.models)}",
        )

    def due(self, as_of: date) -> datetime:
        """When the scores of an as-of date are due: the morning after, in the portfolio's zone."""
        return datetime.combine(as_of + timedelta(days=1), self.sla_due, ZoneInfo(self.timezone))

    def require_not_future(self, day: date) -> None:
        """Raise ConfigError for a day after today in the portfolio's zone."""
        today = datetime.now(ZoneInfo(self.timezone)).date()
        if day > today:
            raise ConfigError(
                f"{day} is in the future (today is {today} in {self.timezone})", "give a date that has come"
            )

    def period_start(self, as_of: date) -> date:
        """First day of the period that a night at ``as_of`` covers: the day itself, or its month."""
        return as_of if self.calendar == "daily" else as_of.replace(day=1)


def resolve(name_or_folder: str) -> Path:
    """The folder of a shipped portfolio's name, or the folder itself."""
    folder = Path(name_or_folder).expanduser()
    if (folder / "portfolio.yml").is_file():
        return folder.resolve()
    shipped = SHIPPED_PORTFOLIOS / name_or_folder
    if "/" not in name_or_folder and (shipped / "portfolio.yml").is_file():
        return shipped
    names = sorted(p.parent.name for p in SHIPPED_PORTFOLIOS.glob("*/portfolio.yml"))
    raise ConfigError(
        f"{name_or_folder!r} is neither a shipped portfolio nor a folder with a portfolio.yml",
        f"shipped are: {', '.join(names)}; the README's 'Bring your own lender' shows how to write one",
    )


def load(folder: Path) -> Portfolio:
    """Read and check a portfolio folder. Raises ConfigError naming the file and the key that is wrong."""
    path = folder / "portfolio.yml"
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), Loader=_PlainLoader)  # noqa: S506 - a SafeLoader
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} cannot be read: {error}", "mend the file and run the command again") from error
    try:
        return _build(folder, raw)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        detail = f"key {error} is missing" if isinstance(error, KeyError) else str(error)
        raise ConfigError(f"{path}: {detail}", "compare it with a shipped portfolio.yml") from error


class _PlainLoader(yaml.SafeLoader):
    """YAML without its surprises: a column named ``no`` stays a word, 16:30 stays a time."""


_PlainLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag.rpartition(":")[2] not in ("bool", "int", "timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_PlainLoader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"true|false"), list("tf"))
_PlainLoader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"[-+]?[0-9]+"), list("-+0123456789"))


def _build(folder: Path, raw: dict[str, Any]) -> Portfolio:
    portfolio = Portfolio(
        name=str(raw["name"]),
        title=str(raw.get("title", raw["name"])),
        folder=folder,
        sha256=_folder_sha256(folder),
        id_type=_one_of("id_type", str(raw["id_type"]).upper(), ID_TYPES),
        calendar=_one_of("calendar", raw["calendar"], CALENDARS),
        timezone=_zone(raw.get("timezone", "UTC")),
        currency=str(raw.get("currency", "USD")),
        sla_due=time.fromisoformat(str(raw.get("sla", {}).get("due", "06:00"))),
        label=Label(tuple(raw["label"]["events"]), int(raw["label"]["horizon_months"])),
        extracts=tuple(Extract(name, **spec) for name, spec in raw["extracts"].items()),
        models=tuple(ModelSpec(name, **_without_inventory(spec)) for name, spec in raw["models"].items()),
        inventory={name: inventory.parse(name, spec.get("inventory", {})) for name, spec in raw["models"].items()},
        grades=tuple(Grade(str(n), float(v)) for n, v in raw["grades"].items()),
        points=Points(**raw.get("points", {})),
        gates=Gates(**raw.get("gates", {})),
        governance=policy.parse(raw.get("governance", {})),
        review_months=policy.review_months(raw.get("governance", {})),
        monitoring=monitoring.parse(raw.get("monitoring", {})),
        retention=retention.parse(raw.get("retention", {})),
        exclude_dpd=int(raw.get("exclude_dpd", 90)),
    )
    for spec in portfolio.models:
        _one_of(f"models.{spec.name}.subject", spec.subject, SUBJECTS)
        _one_of(f"models.{spec.name}.holdout", spec.holdout, HOLDOUTS)
        _one_of(f"models.{spec.name}.materiality", spec.materiality, policy.TIERS)
        if spec.cutoff_pd is not None and not (isinstance(spec.cutoff_pd, float | int) and 0 < spec.cutoff_pd < 1):
            raise ValueError(f"models.{spec.name}.cutoff_pd is {spec.cutoff_pd!r}; it is a PD between 0 and 1")
        for attribute in spec.references:
            _one_of(f"models.{spec.name}.references", attribute, PROTECTED)
    if not portfolio.models:
        raise ValueError("models: at least one model is needed")
    subjects = [spec.subject for spec in portfolio.models]
    if len(subjects) != len(set(subjects)):
        raise ValueError("models: two models score the same subject; a subject has one model in production")
    for extract in portfolio.extracts:
        if not isinstance(extract.delimiter, str) or len(extract.delimiter) != 1:
            raise ValueError(f"extracts.{extract.name}.delimiter must be one character, not {extract.delimiter!r}")
    limits = [g.pd_up_to for g in portfolio.grades]
    if limits != sorted(set(limits)) or not limits or limits[-1] != 1.0:
        raise ValueError("grades: the PD bounds must rise and the last must be 1.0")
    if not portfolio.provides:
        raise ValueError(f"no mapping found; write at least one of {', '.join(f'{t}.sql' for t in CONTRACTS)}")
    return portfolio


def _without_inventory(spec: Mapping[str, Any]) -> dict[str, Any]:
    """What a model is trained and judged by: its place in the inventory is no part of that."""
    return {key: value for key, value in spec.items() if key != "inventory"}


def _one_of(key: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise ValueError(f"{key} is {value!r}; it must be one of {', '.join(allowed)}")
    return value


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ValueError(f"timezone {name!r} is not known") from error
    return name


def files_of(folder: Path) -> list[Path]:
    """The files that make a portfolio: portfolio.yml and the mappings. Whatever else lies there is not part of it."""
    return [folder / "portfolio.yml", *(p for t in CONTRACTS if (p := folder / f"{t}.sql").is_file())]


@contextmanager
def archived(settings: Settings, files: Mapping[str, str]) -> Iterator[Portfolio]:
    """A portfolio as a run recorded it: file name → SHA-256 in the archive. Its folder lasts as long as the context.

    Raises NotFound when the archive has lost a file.
    """
    with tempfile.TemporaryDirectory() as scratch:
        for name, sha256 in files.items():
            (Path(scratch) / name).write_bytes(archive.read(settings, sha256))
        yield load(Path(scratch))


def _folder_sha256(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in files_of(folder):
        digest.update(f"{path.name}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
