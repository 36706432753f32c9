"""Settings: read once from the environment, then passed down. Nothing else reads the environment."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import ConfigError

REPOSITORY = Path(__file__).resolve().parents[1]
DBT_PROJECT = REPOSITORY / "dbt"
SHIPPED_PORTFOLIOS = Path(__file__).resolve().parent / "portfolios"


@dataclass(frozen=True)
class Settings:
    """Where this installation keeps its state and how much of the machine it may use.

    home: the one folder that holds everything (lake, control store, registry, archive, extracts).
    control_url: SQLAlchemy URL of the control store.
    lake_catalog: DuckLake catalog, ``sqlite:PATH`` or ``postgres:CONNINFO``.
    memory_limit: DuckDB memory limit, for example ``12GB``; empty leaves DuckDB's own default.
    threads: DuckDB threads; 0 leaves DuckDB's own default (every core).
    oidc_groups: JSON file with the role of each of the identity provider's groups; empty is ``oidc_groups.json``
    in the home.
    hooks: JSON file that names the receivers of webhooks; empty is ``hooks.json`` in the home.
    """

    home: Path
    control_url: str
    lake_catalog: str
    memory_limit: str = ""
    threads: int = 0
    oidc_groups: str = ""
    hooks: str = ""

    @classmethod
    def at(cls, home: Path, **overrides: str | int) -> Settings:
        """The embedded default for a home folder: SQLite catalogs inside it."""
        home = home.expanduser().resolve()
        if odd := sorted(set(str(home)) & set("?#%")):
            # These three mean something else in the database URLs that the path becomes part of.
            raise ConfigError(
                f"the home folder {home} has {' and '.join(odd)} in its path", "set SCORETRACE_HOME to a plainer path"
            )
        values: dict[str, str | int] = {
            "control_url": f"sqlite:///{home / 'control.sqlite'}",
            "lake_catalog": f"sqlite:{home / 'lake' / 'catalog.sqlite'}",
        }
        values.update({k: v for k, v in overrides.items() if v})
        return cls(home=home, **values)  # type: ignore[arg-type]

    @classmethod
    def load(cls) -> Settings:
        """Read SCORETRACE_HOME, _CONTROL_URL, _LAKE_CATALOG, _MEMORY_LIMIT, _THREADS, _OIDC_GROUPS and _HOOKS."""
        env = os.environ
        threads = env.get("SCORETRACE_THREADS") or "0"
        if not threads.isdigit():
            raise ConfigError(f"SCORETRACE_THREADS is {threads!r}", "set it to a whole number, or not at all")
        return cls.at(
            Path(env.get("SCORETRACE_HOME") or "var"),
            control_url=env.get("SCORETRACE_CONTROL_URL", ""),
            lake_catalog=env.get("SCORETRACE_LAKE_CATALOG", ""),
            memory_limit=env.get("SCORETRACE_MEMORY_LIMIT", ""),
            threads=int(threads),
            oidc_groups=env.get("SCORETRACE_OIDC_GROUPS", ""),
            hooks=env.get("SCORETRACE_HOOKS", ""),
        )

    @property
    def lake_data(self) -> Path:
        return self.home / "lake" / "data"

    @property
    def portfolio_dir(self) -> Path:
        """The home's own copy of its portfolio, made by ``scoretrace init``."""
        return self.home / "portfolio"

    @property
    def oidc_groups_file(self) -> Path:
        """Which role each group of the identity provider has."""
        return Path(self.oidc_groups).expanduser() if self.oidc_groups else self.home / "oidc_groups.json"

    @property
    def hooks_file(self) -> Path:
        """Who is told of promotions and alerts, and where."""
        return Path(self.hooks).expanduser() if self.hooks else self.home / "hooks.json"

    @property
    def registry_dir(self) -> Path:
        return self.home / "registry"

    @property
    def archive_dir(self) -> Path:
        """Content-addressed files that runs recorded: compiled SQL, manifests, lock files."""
        return self.home / "archive"

    @property
    def run_logs_dir(self) -> Path:
        """What each run said while it went, a file a run."""
        return self.home / "run_logs"

    @property
    def keys_dir(self) -> Path:
        """The signing key, readable by its owner alone, and every public key there ever was."""
        return self.home / "keys"

    @property
    def checkpoints_dir(self) -> Path:
        """Signed checkpoints of the audit log, one after each published night."""
        return self.home / "checkpoints"

    @property
    def extracts_dir(self) -> Path:
        """Where a night looks for its extracts when no folder is given: one subfolder per load date."""
        return self.home / "extracts"

    @property
    def work_dir(self) -> Path:
        """Scratch that may be deleted whenever nothing runs: dbt target, spill, staging."""
        return self.home / "work"


HOOK_SECRET = "SCORETRACE_HOOK_"  # noqa: S105 - how the names of such variables begin


def hook_secret(variable: str) -> str | None:
    """The secret of a webhook receiver from an environment variable that is named for it; None when it is not set."""
    return os.environ.get(variable) if variable.startswith(HOOK_SECRET) else None


def prepare_process() -> None:
    """Set what libraries read from the environment when they load. Call it first in each entry point."""
    # Idle OpenMP threads that spin steal the cores from DuckDB: training took 25 s in place of 5 s.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    for name in ("MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
        os.environ.setdefault(name, "true")
    os.environ.setdefault("DBT_SEND_ANONYMOUS_USAGE_STATS", "false")
