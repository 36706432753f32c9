{#- Which rows a data test reads. A test's config is rendered while parsing, when the as-of date is not known yet; so the
    project's tests name a window there, and it becomes a predicate here, while the test compiles:

    as_of_partition     as_of_date is one of the tested dates (vars tested_dates, else the as-of date)
    as_of_date_alone    as_of_date is the as-of date: for a comparison with a table that holds that date alone
    tonights_loads      load_date is within the period of the night
    recent_months       statement_date is in the as-of month or the one before
    recent_account_months  the same for statement_month
    recent_due_months   the same for due_month -#}
{% macro get_where_subquery(relation) -%}
    {%- set where = config.get('where', '') -%}
    {%- if not where -%}{{ return(relation) }}{%- endif -%}
    {%- if where == 'as_of_partition' -%}
        {%- set where = tested_partitions() -%}
        {%- if relation.identifier in var('tables_in_memory') -%}{{ return(in_memory(relation.identifier)) }}{%- endif -%}
    {%- elif where == 'as_of_date_alone' -%}
        {%- set where = 'as_of_date = ' ~ as_of() -%}
    {%- elif where == 'tonights_loads' -%}
        {%- set where = 'load_date >= ' ~ period_start() ~ ' and load_date <= ' ~ as_of() -%}
    {%- elif where == 'recent_months' -%}
        {%- set where = 'statement_date >= ' ~ months_before(1) ~ ' and statement_date <= last_day(' ~ months_before(0) ~ ')' -%}
    {%- elif where == 'recent_account_months' -%}
        {%- set where = 'statement_month in (' ~ months_before(0) ~ ', ' ~ months_before(1) ~ ')' -%}
    {%- elif where == 'recent_due_months' -%}
        {%- set where = 'due_date >= ' ~ months_before(1) ~ ' and due_date <= last_day(' ~ months_before(0) ~ ')' -%}
    {%- endif -%}
    {{ return('(select * from ' ~ relation ~ ' where ' ~ where ~ ') as tested') }}
{%- endmacro %}

{% macro tested_partitions() -%}
    {%- set dates = [] -%}
    {%- for day in var('tested_dates', none) or [as_of_value()] -%}{%- do dates.append(date_literal(day)) -%}{%- endfor -%}
    as_of_date in ({{ dates | join(', ') }})
{%- endmacro %}

{#- Hundreds of tests read the same partitions. When a test run starts, those that are small enough are read from the lake
    once, as one snapshot, into dbt's own in-memory database; the tests then query that copy. Named by Python in the var
    tables_in_memory; by hand, and for a large book, the tests query the lake itself. -#}
{% macro read_tested_partitions() -%}
    {%- for table in var('tables_in_memory') -%}
    create or replace table {{ in_memory(table) }} as select * from lake.features.{{ table }} where {{ tested_partitions() }};
    {% endfor -%}
{%- endmacro %}

{% macro in_memory(table) -%}
    memory.main.{{ table }}
{%- endmacro %}
