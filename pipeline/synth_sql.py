"""The synthetic lender's model of its customers, as DuckDB SQL.

Every random number is a hash of (seed, subject, month, purpose): the same seed gives the same rows on any
number of threads and in any order of work. Dates of a month are literals, so one query moves every
account of a table one month on.

An account carries a constant risk ``z`` and a stress ``s`` that comes and goes. Stress raises utilisation and
lowers the bureau score at once, and feeds the next months' chance to miss a payment: so there is
something to learn before the default is there. ``b`` counts missed instalments; 3 of them are the default.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from datetime import date

from pipeline.sql import literal

STOCK_KEY = 1 << 39  # subjects of the opening book; below it a subject is its application's number
APPLICATION_NUMBERS = 500_000_000
BOOKED_NUMBERS = 200_000_000
STOCK_NUMBERS = 100_000_000
GRACE_DAYS = 5  # a missed payment is posted when its grace is over

# The opening book has outlived its worst risks.
_STOCK_RISK = "-0.12 + 0.95 * norm_risk(k, 0)"
_FIRST_STRESS = "0.62 * norm_stress0(k, 0)"
_STAYS = "(ev IS NULL OR ev NOT IN ('CHOF', 'CLSD', 'PPAY'))"

# Purposes of random numbers. A number is used once: two uses of one would be perfectly correlated.
# fmt: off
_PURPOSES = (
    "risk", "product", "income", "age", "sex", "marital", "amount", "term", "employment", "dti", "apr", "channel",
    "purpose", "state", "decision", "takeup", "booking_lag", "opened", "gap", "usage", "inactive", "transactor",
    "autopay", "stress0", "bureau_level", "thin_file", "stress", "shock", "roll", "leave", "leave_day", "utilisation",
    "late", "late_days", "miss", "partial", "partial_days", "arrival", "overpay", "pulled", "bureau", "inquiries",
    "trades", "external", "method",
)
# fmt: on


def macros(seed: int) -> list[str]:
    """CREATE MACRO statements: ``unif_<purpose>(key, month)`` on [0, 1) and ``norm_<purpose>`` with mean 0, variance 1.

    The normal numbers are sums of four uniform ones of 16 bits (Irwin-Hall): no tail beyond 3.5 deviations,
    which a lender's book does not need, and the same bits on every machine.
    """
    salt = int.from_bytes(hashlib.sha256(f"scoretrace {seed}".encode()).digest()[:8], "big") >> 2
    statements = ["CREATE MACRO lgt(x) AS 1.0 / (1.0 + exp(-(x)))"]
    for number, purpose in enumerate(_PURPOSES):
        bits = f"hash(xor((k::BIGINT << 22) + (m::BIGINT << 6) + {number}, {salt}::BIGINT))"
        statements.append(f"CREATE MACRO unif_{purpose}(k, m) AS ({bits} >> 11)::DOUBLE / 9007199254740992.0")
        pieces = " + ".join(f"(({bits} >> {shift}) & 65535::UBIGINT)::DOUBLE" for shift in (0, 16, 32, 48))
        statements.append(f"CREATE MACRO norm_{purpose}(k, m) AS (({pieces}) / 65536.0 - 2.0) * 1.7320508075688772")
    return statements


@dataclass(frozen=True)
class Month:
    """A calendar month by its number (year × 12 + month − 1), as statement cycles see it."""

    number: int

    @classmethod
    def of(cls, day: date) -> Month:
        return cls(day.year * 12 + day.month - 1)

    def __add__(self, months: int) -> Month:
        return Month(self.number + months)

    @property
    def first(self) -> date:
        return date(self.number // 12, self.number % 12 + 1, 1)

    @property
    def days(self) -> int:
        return ((self + 1).first - self.first).days

    @property
    def statement_date(self) -> str:
        """SQL for an account's statement date: its phase in the cycle, spread over every day of this month."""
        return f"({literal(self.first)} + floor(phase * {self.days})::INTEGER)"

    @property
    def climate(self) -> float:
        """Log-odds added to the chance to miss a payment: a mild 4-year cycle, and the season (tax refunds)."""
        cycle = 0.06 * math.sin(2 * math.pi * (self.number % 48) / 48)
        season = (0.10, 0.06, -0.08, -0.10, -0.04, 0.0, 0.02, 0.02, 0.0, 0.0, 0.02, 0.04)[self.number % 12]
        return cycle + season


def _borrower(source: str) -> str:
    """Who the subjects of ``source`` (k, z) are and what they ask for. One row per row of ``source``."""
    return f"""
    SELECT * REPLACE (CASE WHEN prod IN ('CC', 'LC')
                THEN least(50000, greatest(500, round(income * amount * exp(-0.15 * z), -2)))
                WHEN prod = 'PL' THEN least(50000, greatest(1500, round(income * amount * 1.6, -2)))
                ELSE least(90000, greatest(5000, round(income * amount * 3.2, -2))) END AS amount),
        CASE prod WHEN 'CC' THEN 0.195 WHEN 'LC' THEN 0.145 WHEN 'PL' THEN 0.125 ELSE 0.072 END
            + round(0.018 * greatest(-1.6, least(3.0, view_z)), 4) AS apr,
        CASE prod WHEN 'PL' THEN [24, 36, 48, 60][1 + floor(unif_term(k, 0) * 4)::INTEGER]
                  WHEN 'AL' THEN [36, 48, 60, 72][1 + floor(unif_term(k, 0) * 4)::INTEGER] END AS term
    FROM (
        SELECT *, CASE WHEN unif_product(k, 0) < 0.45 THEN 'CC' WHEN unif_product(k, 0) < 0.73 THEN 'PL'
                       WHEN unif_product(k, 0) < 0.88 THEN 'AL' ELSE 'LC' END AS prod,
            round(exp(10.95 + 0.42 * norm_income(k, 0) - 0.12 * z), -2) AS income,
            greatest(0.02, least(0.75, 0.27 + 0.08 * norm_dti(k, 0) + 0.06 * z)) AS dti,
            floor(greatest(0, least(480, exp(3.7 + 0.8 * norm_employment(k, 0) - 0.22 * z))))::INTEGER AS emp,
            0.06 + 0.16 * unif_amount(k, 0) AS amount,
            0.8 * z + 0.6 * norm_apr(k, 0) AS view_z
        FROM ({source}))"""


def applications(days: str, shifted_from: date | None) -> str:
    """Every application of ``days`` (applied_on, first, last: numbers of that day), with the lender's decision."""
    shift = f"CASE WHEN applied_on >= {literal(shifted_from)} THEN 0.9 ELSE 0.0 END" if shifted_from else "0.0"
    numbered = f"SELECT applied_on, unnest(range(first, last)) AS k FROM {days}"
    source = f"SELECT *, 0.25 + norm_risk(k, 0) + {shift} AS z FROM ({numbered})"
    return f"""
    SELECT *, CASE WHEN 0.75 * z + 0.7 * norm_decision(k, 0) < 1.0 AND unif_takeup(k, 0) < 0.85
                   THEN applied_on + 1 + floor(unif_booking_lag(k, 0) * 6)::INTEGER END AS booked_on
    FROM ({_borrower(source)})"""


def accounts(stock: int, opened_before: date, chunk: int, chunks: int) -> str:
    """The accounts of one slice of the statement cycle: ``stock`` old ones in all, and the booked applications."""
    # Multiples of a golden-ratio step spread any run of numbers evenly over the cycle.
    phase = "((n * 2654435769) % 4294967296)::DOUBLE / 4294967296.0"
    old = f"SELECT range AS n, range + {STOCK_KEY} AS k, {STOCK_NUMBERS} + range AS acct FROM range({stock})"
    age_days = """CASE WHEN term IS NULL THEN 3650 * unif_opened(k, 0) * sqrt(unif_opened(k, 0))
                  ELSE 29 * term * unif_opened(k, 0) END"""
    borrowers = f"SELECT *, {_STOCK_RISK} AS z, {phase} AS phase FROM ({old})"
    within = f"phase >= {chunk / chunks!r} AND phase < {(chunk + 1) / chunks!r}"
    month_of = "year(opened_on) * 12 + month(opened_on) - 1"
    return f"""
    SELECT k, acct, phase, prod, z, amount AS lim, apr, term, opened_on,
        CASE WHEN floor(phase * day(last_day(opened_on))) - day(opened_on) >= 10 THEN {month_of}
             ELSE {month_of} + 1 END AS first_m,
        floor(unif_gap(k, 0) * 6)::INTEGER AS gap,
        term IS NULL AND unif_inactive(k, 0) < 0.08 AS inactive,
        prod = 'CC' AND unif_transactor(k, 0) < lgt(-1.2 - 0.6 * z) AS transactor,
        unif_autopay(k, 0) < lgt(0.1 - 0.4 * z) AS autopay,
        CASE WHEN prod = 'CC' AND unif_transactor(k, 0) < lgt(-1.2 - 0.6 * z) THEN -2.4 ELSE -0.7 END
            + 0.9 * norm_usage(k, 0) + 0.25 * z AS usage
    FROM (
        SELECT n, k, acct, phase, prod, z, amount, apr, term,
            {literal(opened_before)} - 1 - floor({age_days})::INTEGER AS opened_on
        FROM ({_borrower(f"{borrowers} WHERE {within}")})
        UNION ALL
        SELECT k, k, {BOOKED_NUMBERS} + k, phase, prod, z, amount, apr, term, booked_on
        FROM (SELECT *, {phase.replace("n *", "k *")} AS phase FROM applications WHERE booked_on IS NOT NULL)
        WHERE {within})"""


def next_state(month: Month, previous: str | None) -> str:
    """Every open account of the chunk after ``month``: those of ``previous`` moved on, and the newly opened.

    Columns beside the account's own: s stress, u utilisation, b and b0 missed instalments now and the month
    before, bal and bal0 balances, sched, sched1 the payments of the last two statements, due the payment
    that this month decided on, ev what happened.
    """
    fresh = f"""
        SELECT *, {_FIRST_STRESS} AS s, CASE WHEN inactive THEN 0.0 ELSE lgt(usage) END AS u,
            0 AS b, 0.0::DOUBLE AS bal, 0.0::DOUBLE AS sched, 0.0::DOUBLE AS sched1
        FROM accounts WHERE first_m {"=" if previous else "<="} {month.number}"""
    moved = f"""
        SELECT k, acct, phase, prod, z, lim, apr, term, opened_on, first_m, gap, inactive, transactor, autopay, usage,
            s, u, b, bal, sched, sched1 FROM {previous} WHERE {_STAYS}"""
    m = month.number
    return f"""
    WITH opened AS ({fresh}), carried AS ({f"{moved} UNION ALL BY NAME FROM opened" if previous else "FROM opened"}),
    rolled AS (
        SELECT * REPLACE (0.86 * s + 0.32 * norm_stress(k, {m})
                          + CASE WHEN unif_shock(k, {m}) < 0.006 THEN 2.0 ELSE 0.0 END AS s),
            b AS b0, bal AS bal0, CASE WHEN {m} >= first_m + 2 THEN sched1 ELSE 0.0 END AS due,
            0.70 * z + 0.80 * s + {month.climate:.6f} + 0.5 * exp(-({m} - first_m) / 10.0)
                - CASE WHEN autopay THEN 0.3 ELSE 0.0 END
                + CASE prod WHEN 'CC' THEN 0.0 WHEN 'LC' THEN 0.1 WHEN 'PL' THEN 0.15 ELSE -0.15 END AS risk,
            unif_roll(k, {m}) AS x, {m} - first_m AS age
        FROM carried),
    missed AS (
        SELECT * REPLACE (CASE
            WHEN b0 >= 3 THEN CASE WHEN x < 0.88 THEN b0 + 1 WHEN x < 0.94 THEN b0 ELSE 0 END
            WHEN due <= 0 THEN b0
            WHEN b0 = 0 THEN CASE WHEN x < lgt(-4.38 + risk) THEN 1 ELSE 0 END
            WHEN b0 = 1 THEN CASE WHEN x < lgt(-0.75 + 0.5 * risk) THEN 2 WHEN x > 0.84 THEN 1 ELSE 0 END
            ELSE CASE WHEN x < lgt(0.1 + 0.4 * risk) THEN 3 WHEN x > 0.95 THEN 2 WHEN x > 0.90 THEN 1 ELSE 0 END
            END AS b)
        FROM rolled),
    happened AS (
        SELECT *, CASE
            WHEN b >= 6 THEN 'CHOF' WHEN b = 3 AND b0 < 3 THEN 'DFLT' WHEN b0 >= 3 AND b = 0 THEN 'CURE'
            WHEN b > 0 OR b0 > 0 OR age < 3 THEN NULL
            WHEN term IS NULL AND unif_leave(k, {m}) < 0.007 * exp(-0.3 * s) THEN 'CLSD'
            WHEN term IS NOT NULL AND age - 1 >= term THEN 'CLSD'
            WHEN term IS NOT NULL AND unif_leave(k, {m}) < 0.009 * exp(-0.3 * s) THEN 'PPAY' END AS ev
        FROM missed),
    used AS (
        SELECT * REPLACE (CASE WHEN inactive THEN 0.0 ELSE greatest(0.0, least(1.06,
            0.72 * u + 0.28 * lgt(usage + 0.9 * s + {0.25 if m % 12 == 11 else 0.0}) + 0.02 * norm_utilisation(k, {m})
            + CASE WHEN b > 0 THEN 0.02 ELSE 0.0 END)) END AS u)
        FROM happened),
    owed AS (
        SELECT * REPLACE (round(CASE
            WHEN ev IN ('CLSD', 'PPAY') THEN 0.0
            WHEN term IS NULL THEN lim * u
            ELSE lim * (pow(1 + apr / 12, term) - pow(1 + apr / 12, least(term, greatest(0, age - 1 - b))))
                 / (pow(1 + apr / 12, term) - 1) END, 2) AS bal)
        FROM used)
    SELECT * EXCLUDE (risk, x, age, sched, sched1), sched AS sched1,
        round(CASE WHEN bal <= 0 THEN 0.0
              WHEN term IS NULL THEN least(bal, greatest(25.0, bal * (0.01 + apr / 12)))
              ELSE lim * (apr / 12) / (1 - pow(1 + apr / 12, -term)) END, 2) AS sched
    FROM owed"""


def statements(month: Month, shifted_from: date | None) -> str:
    """The month's statements, in the lender's columns, from table ``state``."""
    day = month.statement_date
    shifted = f"({day} >= {literal(shifted_from)} AND term IS NULL)" if shifted_from else "FALSE"
    limit = f"CASE WHEN {shifted} THEN greatest(300, round(lim * 0.8, -2)) ELSE lim END"
    balance = f"CASE WHEN {shifted} THEN least(lim * 0.88, bal * 1.3) ELSE bal END"
    return f"""
    SELECT acct AS ACCT_NBR, {day} AS STMT_DT, prod AS PROD_CD, opened_on AS OPEN_DT,
        ({limit})::DECIMAL(18, 2) AS CR_LMT_AMT, ({balance})::DECIMAL(18, 2) AS CUR_BAL_AMT,
        sched::DECIMAL(18, 2) AS MIN_DUE_AMT, (apr * 100)::DECIMAL(7, 4) AS INT_RT_PCT,
        CASE WHEN b > 0 THEN 30 * b + gap ELSE 0 END::INTEGER AS DLQ_DAYS,
        CASE WHEN ev = 'CHOF' THEN 'W' WHEN ev IN ('CLSD', 'PPAY') THEN 'X' WHEN b > 0 THEN 'D'
             WHEN term IS NOT NULL THEN 'C' WHEN bal = 0 THEN 'I' WHEN transactor THEN 'T' ELSE 'R' END AS ACCT_STAT_CD,
        {day} AS load_date
    FROM state ORDER BY load_date, ACCT_NBR"""


def payments(month: Month) -> str:
    """What became of the payment that was due a month before this month's statement."""
    m, due_day = month.number, f"({(month + -1).statement_date} - gap)"
    window = f"({month.statement_date} - 1)"
    return f"""
    WITH decided AS (
        SELECT *, {due_day} AS due_date, CASE WHEN b <= b0 THEN 'paid'
            WHEN unif_miss(k, {m}) < 0.20 THEN 'partial' WHEN unif_miss(k, {m}) < 0.30 THEN 'returned'
            ELSE 'missed' END AS result
        FROM state WHERE due > 0),
    paid AS (
        SELECT *, CASE result
            WHEN 'missed' THEN NULL
            WHEN 'partial' THEN due_date + 1 + floor(unif_partial_days(k, {m}) * 15)::INTEGER
            WHEN 'returned' THEN due_date + floor(unif_partial_days(k, {m}) * 3)::INTEGER
            ELSE CASE WHEN b > 0 THEN due_date + 3 + floor(unif_late_days(k, {m}) * 18)::INTEGER
                WHEN autopay AND b0 = 0 THEN due_date
                WHEN unif_late(k, {m}) < lgt(-2.1 + 0.7 * z + 0.9 * s)
                    THEN due_date + 1 + floor(20 * pow(unif_late_days(k, {m}), 2))::INTEGER
                ELSE due_date - floor(unif_late_days(k, {m}) * 9)::INTEGER END END AS paid_on,
            round(CASE result WHEN 'missed' THEN 0.0 WHEN 'returned' THEN due
                WHEN 'partial' THEN due * (0.1 + 0.7 * unif_partial(k, {m}))
                ELSE CASE WHEN ev IN ('CLSD', 'PPAY') OR transactor THEN greatest(due, bal0)
                    WHEN term IS NULL AND b0 = 0 AND unif_overpay(k, {m}) > lgt(0.2 + 0.5 * z + 0.8 * s)
                        THEN least(greatest(due, bal0), due * (1 + 5 * unif_partial(k, {m})))
                    ELSE due * (1 + b0 - b) END END, 2) AS amount
        FROM decided)
    SELECT acct * 100000 + {m} AS PMT_ID, acct AS ACCT_NBR, due_date AS DUE_DT,
        posted_on AS PMT_DT, due::DECIMAL(18, 2) AS DUE_AMT, amount::DECIMAL(18, 2) AS PMT_AMT,
        CASE WHEN result = 'missed' THEN NULL WHEN autopay THEN 'AP'
             ELSE ['TR', 'TR', 'DC', 'CK', 'CA'][1 + floor(unif_method(k, 0) * 5)::INTEGER] END AS PMT_MTHD_CD,
        CASE WHEN result = 'returned' THEN 'Y' ELSE 'N' END AS RTN_FLG,
        coalesce(posted_on, due_date + {GRACE_DAYS})
            + CASE WHEN NOT {_STAYS} THEN 0 WHEN unif_arrival(k, {m}) < 0.01 THEN 2
                   WHEN unif_arrival(k, {m}) < 0.03 THEN 1 ELSE 0 END AS load_date
    FROM (SELECT *, CASE WHEN paid_on IS NOT NULL THEN least(paid_on, {window}) END AS posted_on FROM paid)
    ORDER BY load_date, PMT_ID"""


def _report(kind: str, number: str, day: str, m: int, level: str, source: str) -> str:
    """A bureau report: ``level`` is the subject's risk as others see it, in SQL; source has k, z, income."""
    return f"""
    SELECT {literal(kind)} AS SUBJ_TYP_CD, {number} AS SUBJ_NBR, {day} AS PULL_DT,
        CASE WHEN unif_thin_file(k, 0) >= 0.02 THEN greatest(300, least(850,
            round(700 - 46 * lvl + 18 * norm_bureau_level(k, 0) + 11 * norm_bureau(k, {m}))))::INTEGER END AS VS_SCORE,
        greatest(0, round(5 + 2.5 * norm_trades(k, 0) + 0.4 * lvl))::INTEGER AS OPEN_TRD_CNT,
        greatest(0, round(-1.1 + 0.8 * lvl + 0.7 * norm_trades(k, {m})))::INTEGER AS DLQ_TRD_CNT,
        greatest(0, round(0.7 + 0.8 * lvl + 1.0 * norm_inquiries(k, {m})))::INTEGER AS INQ_6M_CNT,
        round(wealth * 0.5 * lgt(-0.6 + 0.6 * lvl + 0.5 * norm_external(k, {m})), 2)::DECIMAL(18, 2) AS EXT_BAL_AMT,
        round(wealth * 0.5, -2)::DECIMAL(18, 2) AS EXT_LMT_AMT,
        greatest(0, round(-1.6 + 0.7 * lvl + 0.6 * norm_external(k, 0)))::INTEGER AS COLL_CNT,
        greatest(0, round(-2.0 + 0.6 * lvl + 0.6 * norm_trades(k, 1)))::INTEGER AS PUB_REC_CNT,
        {day} AS load_date
    FROM (SELECT *, {level} AS lvl FROM ({source})) ORDER BY load_date, SUBJ_NBR"""


def bureau_of_accounts(month: Month) -> str:
    """Quarterly reports: a third of the open accounts each month, up to five days after their statement."""
    m = month.number
    day = f"({month.statement_date} + floor(unif_pulled(k, {m}) * 6)::INTEGER)"
    source = f"""
        SELECT *, exp(10.2 + 0.5 * norm_external(k, 1)) AS wealth FROM state WHERE (k + {m}) % 3 = 0 AND {_STAYS}"""
    return _report("ACCT", "acct", day, m, "z + 0.85 * s + 0.5 * least(b, 4)", source)


def bureau_of_applications() -> str:
    source = "SELECT *, income * 0.5 AS wealth FROM applications"
    # An applicant's stress is the stress that the account starts with.
    level = f"z + 0.85 * {_FIRST_STRESS}"
    return _report("APPL", f"{APPLICATION_NUMBERS} + k", "applied_on", 0, level, source)


def events(month: Month) -> str:
    """The month's events, each on its own day; the final ones end the account."""
    day = month.statement_date
    return f"""
    SELECT acct AS ACCT_NBR, EVT_DT, ev AS EVT_CD,
        (CASE ev WHEN 'CLSD' THEN 0.0 WHEN 'PPAY' THEN bal0 ELSE bal END)::DECIMAL(18, 2) AS EVT_AMT,
        EVT_DT AS load_date
    FROM (SELECT *, CASE ev WHEN 'DFLT' THEN {day} - gap
            WHEN 'PPAY' THEN {day} - floor(unif_leave_day(k, {month.number}) * 20)::INTEGER ELSE {day} END AS EVT_DT
          FROM state WHERE ev IS NOT NULL)
    ORDER BY load_date, ACCT_NBR, EVT_CD"""


def credit_applications() -> str:
    """Each application on its day, and again with its account on the day it was booked."""
    columns = f"""
        {APPLICATION_NUMBERS} + k AS APPL_NBR, acct AS ACCT_NBR, applied_on AS APPL_DT, prod AS PROD_CD,
        amount::DECIMAL(18, 2) AS REQ_AMT, term::INTEGER AS TERM_MOS, (apr * 100)::DECIMAL(7, 4) AS OFFR_RT_PCT,
        income::DECIMAL(18, 2) AS ANNL_INC_AMT, (dti * 100)::DECIMAL(7, 2) AS DTI_PCT, emp AS EMP_MOS,
        ['BR', 'WB', 'WB', 'MB', 'MB', 'BK'][1 + floor(unif_channel(k, 0) * 6)::INTEGER] AS CHNL_CD,
        CASE prod WHEN 'AL' THEN 'VEH'
             WHEN 'PL' THEN ['CONS', 'CONS', 'REFI', 'HOME', 'MED', 'OTH'][1 + floor(unif_purpose(k, 0) * 6)::INTEGER]
             ELSE ['PURC', 'PURC', 'CONS', 'OTH'][1 + floor(unif_purpose(k, 0) * 4)::INTEGER] END AS PURP_CD,
        ['NY', 'NY', 'NY', 'NJ', 'NJ', 'CT', 'PA', 'PA', 'MA', 'VT'][1 + floor(unif_state(k, 0) * 10)::INTEGER]
            AS RES_ST_CD"""
    return f"""
    SELECT {columns}, load_date FROM (
        SELECT *, NULL::BIGINT AS acct, applied_on AS load_date FROM applications
        UNION ALL SELECT *, {BOOKED_NUMBERS} + k, booked_on FROM applications WHERE booked_on IS NOT NULL)
    ORDER BY load_date, APPL_NBR"""


_DEMOGRAPHICS = """
    SELECT {kind} AS SUBJ_TYP_CD, subject AS SUBJ_NBR, load_date AS REC_DT,
        CASE WHEN age < 25 THEN '18-24' WHEN age < 35 THEN '25-34' WHEN age < 45 THEN '35-44' WHEN age < 55 THEN '45-54'
             WHEN age < 65 THEN '55-64' ELSE '65+' END AS AGE_BAND_CD,
        CASE WHEN unif_sex(k, 0) < lgt(0.06 * norm_income(k, 0)) THEN 'M' ELSE 'F' END AS SEX_CD,
        CASE WHEN unif_marital(k, 0) < lgt(-0.9 + 0.04 * (age - 25)) THEN 'M'
             WHEN unif_marital(k, 0) < 0.93 THEN 'S' ELSE 'O' END AS MAR_STAT_CD,
        load_date
    FROM (SELECT *, 43 + 11 * norm_age(k, 0) + 5 * norm_income(k, 0) AS age FROM ({source}))
    ORDER BY load_date, SUBJ_NBR"""


def demographics_of_applicants() -> str:
    """Protected attributes of an applicant, recorded with the application; age goes weakly with income."""
    source = f"SELECT k, {APPLICATION_NUMBERS} + k AS subject, applied_on AS load_date FROM applications"
    return _DEMOGRAPHICS.format(kind=literal("APPL"), source=source)


def demographics_of_accounts(history_from: date) -> str:
    """Protected attributes of an account's holder, recorded when it is opened.

    Read while ``state`` is at the month of ``history_from``: the accounts open then come with the history's first day.
    """
    month = Month.of(history_from)
    source = f"""
        SELECT k, acct AS subject, greatest(opened_on, {literal(history_from)}) AS load_date FROM state
        WHERE {month.statement_date} >= {literal(history_from)} OR {_STAYS}
        UNION ALL
        SELECT k, acct, greatest(opened_on, {literal(history_from)}) FROM accounts WHERE first_m > {month.number}"""
    return _DEMOGRAPHICS.format(kind=literal("ACCT"), source=source)


def restated(statements_of: str, restated_day: date, load_day: date) -> str:
    """Corrected versions of a fifth of an earlier day's statements: a fee taken back, an arrears entry reversed."""
    return f"""
    SELECT * REPLACE (round(CUR_BAL_AMT * 0.97, 2)::DECIMAL(18, 2) AS CUR_BAL_AMT,
        CASE WHEN DLQ_DAYS BETWEEN 1 AND 59 THEN 0 ELSE DLQ_DAYS END AS DLQ_DAYS,
        CASE WHEN ACCT_STAT_CD = 'D' AND DLQ_DAYS BETWEEN 1 AND 59
             THEN CASE WHEN PROD_CD IN ('PL', 'AL') THEN 'C' ELSE 'R' END ELSE ACCT_STAT_CD END AS ACCT_STAT_CD,
        {literal(load_day)} AS load_date)
    FROM ({statements_of}) WHERE STMT_DT = {literal(restated_day)} AND load_date = STMT_DT AND ACCT_NBR % 5 = 0"""
