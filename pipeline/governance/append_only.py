"""Tables that only grow: triggers, made with the table, by which the database itself refuses to change a row.

They stop mistakes and whoever has an account of the database. An owner of the database, or of its file, can drop
them; what was changed then is found by the hashes of the rows.
"""

from __future__ import annotations

from sqlalchemy import DDL, Table, event

from pipeline.sql import literal


def protect(table: Table) -> None:
    """Have UPDATE, DELETE, TRUNCATE and REPLACE refused on a table with one primary key column, once it is made."""
    for dialect, statements in (("sqlite", _sqlite(table)), ("postgresql", _postgresql(table))):
        for statement in statements:
            ddl = DDL(statement)  # type: ignore[no-untyped-call]
            event.listen(table, "after_create", ddl.execute_if(dialect=dialect))


def _sqlite(table: Table) -> tuple[str, ...]:
    name = table.name
    (key,) = (column.name for column in table.primary_key)

    def trigger(what: str, statement: str, when: str = "") -> str:
        message = f"{name} is append-only: {what} is refused"
        head = f"CREATE TRIGGER {name}_no_{what.lower()} BEFORE {statement} ON {name} {when}"
        return f"{head} BEGIN SELECT RAISE(ABORT, {literal(message)}); END"

    return (
        trigger("UPDATE", "UPDATE"),
        trigger("DELETE", "DELETE"),
        # INSERT OR REPLACE removes the old row without asking the DELETE trigger.
        trigger("REPLACE", "INSERT", f"WHEN EXISTS (SELECT 1 FROM {name} WHERE {key} = NEW.{key})"),
    )


def _postgresql(table: Table) -> tuple[str, ...]:
    return (
        "CREATE OR REPLACE FUNCTION scoretrace_append_only() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "RAISE EXCEPTION USING MESSAGE = TG_TABLE_NAME || ' is append-only: ' || TG_OP || ' is refused'; END $$",
        # For each statement, so that one that would touch no row is refused too.
        f"CREATE TRIGGER {table.name}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table.name} "
        "FOR EACH STATEMENT EXECUTE FUNCTION scoretrace_append_only()",
    )
