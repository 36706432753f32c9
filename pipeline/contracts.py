"""The raw contracts: what each landed table holds, typed, keyed and documented.

A portfolio maps a lender's files to these columns; landing checks every row against them.
Money is DECIMAL(18,2), rates are DECIMAL(9,6), ids take the portfolio's id type.
"""

from __future__ import annotations

from dataclasses import dataclass, field

MONEY = "DECIMAL(18,2)"
RATE = "DECIMAL(9,6)"
ID = "ID"
_MOST_SHOWN = 80


@dataclass(frozen=True)
class Column:
    """One column of a contract.

    ``values`` closes its vocabulary; ``low`` and ``high`` are the bounds of what is plausible, inclusive.
    A gate reports what is outside either.
    """

    name: str
    type: str
    description: str
    nullable: bool = True
    values: tuple[str, ...] = ()
    low: int | None = None
    high: int | None = None
    pii: bool = False
    unit: str = ""

    @property
    def measured_in(self) -> str:
        """Its unit, as features declare theirs: money is in the portfolio's ``currency``. Empty where it has none."""
        return "currency" if self.type == MONEY else self.unit

    def sql_type(self, id_type: str) -> str:
        return id_type if self.type == ID else self.type

    def shown(self, value: object) -> str:
        """A value of the column for a message. Whom it is about is not said: of an id or personal data, its form."""
        return form(value) if self.pii or self.type == ID else repr(str(value)[:_MOST_SHOWN])


def form(value: object) -> str:
    """What a value looks like, for messages that are kept and sent on: '-71.5 EUR' is of the form '-99.9 AAA'."""
    letters = ("9" if c.isdigit() else "A" if c.isupper() else "a" if c.isalpha() else c for c in str(value))
    return f"a value of the form {''.join(letters)[:_MOST_SHOWN]!r}"


@dataclass(frozen=True)
class Contract:
    """One raw table.

    key: the columns that name a record; a later load with the same key is a newer version of it.
    event_date: SQL expression over the columns for the day the row speaks of; never after its load date.
    fixed: columns that no later version of a record may change. The warehouse finds a record's versions by them too,
        so that one account's are found without reading everybody's.
    """

    table: str
    grain: str
    key: tuple[str, ...]
    event_date: str
    columns: tuple[Column, ...] = field(repr=False)
    fixed: tuple[str, ...] = ()

    def column(self, name: str) -> Column:
        return next(c for c in self.columns if c.name == name)


LANDING_COLUMNS = (
    Column("load_date", "DATE", "Business date of the load that brought the row.", nullable=False),
    Column("load_id", "VARCHAR", "Load that brought the row; see raw.loads.", nullable=False),
    Column("source_file", "VARCHAR", "File the row came from, relative to the extract folder.", nullable=False),
    Column("source_sha256", "VARCHAR", "SHA-256 of that file's bytes.", nullable=False),
    Column("source_row", "BIGINT", "Record number in that file, from 1, the header not counted.", nullable=False),
)

STATUSES = ("current", "inactive", "paid_in_full", "revolving", "delinquent", "charged_off", "closed")
EVENT_TYPES = ("default", "charged_off", "closed", "prepaid", "cured")
PRODUCTS = ("card", "personal_loan", "auto_loan", "line_of_credit")
SUBJECT_TYPES = ("account", "application")

_ALL = (
    Contract(
        "applications",
        "one application; a later load of the same id is its newer state",
        ("application_id",),
        "applied_on",
        (
            Column("application_id", ID, "Application.", nullable=False),
            Column("account_id", ID, "Account it was booked as; null until booked."),
            Column("applied_on", "DATE", "Day of the application.", nullable=False),
            Column("product", "VARCHAR", "Product applied for.", nullable=False, values=PRODUCTS),
            Column("amount", MONEY, "Amount or limit applied for.", low=0),
            Column("term_months", "INTEGER", "Term in months; null for revolving products.", unit="months"),
            Column("apr", RATE, "Offered yearly rate, 0.199 is 19.9%.", low=0, high=5, unit="yearly rate"),
            Column("stated_income", MONEY, "Yearly income as stated.", pii=True),
            Column("dti", RATE, "Debt to income, 0.35 is 35%.", low=0, high=100, unit="ratio"),
            Column("employment_months", "INTEGER", "Months with the present employer.", low=0, high=900, unit="months"),
            Column("channel", "VARCHAR", "How it came in.", values=("branch", "online", "mobile", "broker")),
            Column(
                "purpose",
                "VARCHAR",
                "Stated purpose.",
                values=("purchase", "refinance", "consolidation", "vehicle", "home", "medical", "other"),
            ),
            Column("state", "VARCHAR", "State or region of residence."),
        ),
    ),
    Contract(
        "applicant_protected",
        "one subject; protected attributes, kept apart, never a feature",
        ("subject_type", "subject_id"),
        "recorded_on",
        (
            Column("subject_id", ID, "Account or application.", nullable=False),
            Column("subject_type", "VARCHAR", "What subject_id names.", nullable=False, values=SUBJECT_TYPES),
            Column("recorded_on", "DATE", "Day it was recorded.", nullable=False),
            Column("age_band", "VARCHAR", "Age in bands of years.", pii=True),
            Column("sex", "VARCHAR", "Sex as recorded.", pii=True),
            Column("marital_status", "VARCHAR", "Marital status as recorded.", pii=True),
        ),
    ),
    Contract(
        "loan_servicing",
        "one statement of one account",
        ("account_id", "statement_date"),
        "statement_date",
        (
            Column("account_id", ID, "Account.", nullable=False),
            Column("statement_date", "DATE", "Closing day of the statement.", nullable=False),
            Column("product", "VARCHAR", "Product.", nullable=False, values=PRODUCTS),
            Column("opened_on", "DATE", "Day the account was opened."),
            Column("credit_limit", MONEY, "Limit, or original amount of an instalment loan.", low=0),
            Column("balance", MONEY, "Balance owed at the statement date."),
            Column("scheduled_payment", MONEY, "Payment due for this statement."),
            Column("apr", RATE, "Yearly rate in force.", low=0, high=5, unit="yearly rate"),
            Column(
                "days_past_due",
                "INTEGER",
                "Days past due at the statement date.",
                nullable=False,
                low=0,
                high=9999,
                unit="days",
            ),
            Column("status", "VARCHAR", "State of the account.", nullable=False, values=STATUSES),
        ),
    ),
    Contract(
        "payments_ledger",
        "one payment",
        ("payment_id",),
        "coalesce(paid_on, due_date)",
        (
            Column("payment_id", ID, "Payment.", nullable=False),
            Column("account_id", ID, "Account it was paid on.", nullable=False),
            Column("due_date", "DATE", "Day it was due.", nullable=False),
            Column("paid_on", "DATE", "Day it was paid; null if it was missed."),
            Column("due_amount", MONEY, "Amount due."),
            Column("paid_amount", MONEY, "Amount paid; 0 if missed."),
            Column("method", "VARCHAR", "How.", values=("autopay", "transfer", "card", "check", "cash", "unknown")),
            Column("returned", "BOOLEAN", "Whether the payment was returned."),
        ),
        fixed=("account_id", "due_date"),
    ),
    Contract(
        "bureau_pull",
        "one bureau report of one subject",
        ("subject_type", "subject_id", "pulled_on"),
        "pulled_on",
        (
            Column("subject_id", ID, "Account or application.", nullable=False),
            Column("subject_type", "VARCHAR", "What subject_id names.", nullable=False, values=SUBJECT_TYPES),
            Column("pulled_on", "DATE", "Day of the report.", nullable=False),
            Column(
                "bureau_score", "INTEGER", "Bureau score; null for a thin file.", low=300, high=850, unit="score points"
            ),
            Column("open_trades", "INTEGER", "Open trade lines.", low=0, high=999, unit="trade lines"),
            Column("delinquent_trades", "INTEGER", "Trade lines now delinquent.", low=0, high=999, unit="trade lines"),
            Column("inquiries_6m", "INTEGER", "Credit inquiries in six months.", low=0, high=999, unit="inquiries"),
            Column("external_balance", MONEY, "Balance owed elsewhere."),
            Column("external_limit", MONEY, "Limits held elsewhere."),
            Column("collections", "INTEGER", "Accounts in collection.", low=0, high=999, unit="accounts"),
            Column("public_records", "INTEGER", "Public records.", low=0, high=999, unit="records"),
        ),
    ),
    Contract(
        "account_events",
        "one event of one account",
        ("account_id", "event_date", "event_type"),
        "event_date",
        (
            Column("account_id", ID, "Account.", nullable=False),
            Column("event_date", "DATE", "Day it happened.", nullable=False),
            Column("event_type", "VARCHAR", "What happened.", nullable=False, values=EVENT_TYPES),
            Column("amount", MONEY, "Amount concerned."),
        ),
    ),
)

CONTRACTS: dict[str, Contract] = {c.table: c for c in _ALL}
