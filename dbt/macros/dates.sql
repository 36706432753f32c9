{#- Dates are worked out while compiling and stand as literals in the SQL: partitions are pruned by them,
    and the archived SQL says by itself which day it was for. -#}

{#- The as-of date as a Python date. While parsing, vars are not known yet: a placeholder that is never run. -#}
{% macro as_of_value() -%}
    {%- set given = var('as_of', none) -%}
    {%- if given is none -%}
        {%- if execute -%}
            {{ exceptions.raise_compiler_error("the as-of date is missing; run dbt with --vars '{as_of: 2026-03-14}'") }}
        {%- endif -%}
        {%- set given = '2000-01-31' -%}
    {%- endif -%}
    {{ return(modules.datetime.date.fromisoformat(given | string)) }}
{%- endmacro %}

{% macro date_literal(value) -%}
    date '{{ value | string }}'
{%- endmacro %}

{#- Dates as a SQL list. -#}
{% macro date_literals(values) -%}
    {%- for value in values -%}{{ date_literal(value) }}{{ ', ' if not loop.last }}{%- endfor -%}
{%- endmacro %}

{#- The as-of date as a SQL literal. -#}
{% macro as_of() -%}
    {{ date_literal(as_of_value()) }}
{%- endmacro %}

{#- First day of the period this night covers. -#}
{% macro period_start() -%}
    {{ date_literal(var('period_start', none) or as_of_value()) }}
{%- endmacro %}

{#- First day of the calendar month `months` before the as-of month, as a Python date. -#}
{% macro months_before_value(months) -%}
    {%- set day = as_of_value() -%}
    {%- set index = day.year * 12 + day.month - 1 - months -%}
    {{ return(modules.datetime.date(index // 12, index % 12 + 1, 1)) }}
{%- endmacro %}

{% macro months_before(months) -%}
    {{ date_literal(months_before_value(months)) }}
{%- endmacro %}

{#- The as-of date less a number of days. -#}
{% macro days_before(days) -%}
    {{ date_literal(as_of_value() - modules.datetime.timedelta(days=days)) }}
{%- endmacro %}

{#- First day of a date column's month. -#}
{% macro month_of(column) -%}
    cast(date_trunc('month', {{ column }}) as date)
{%- endmacro %}

{#- Whole days from one date to a later one. -#}
{% macro days_between(earlier, later) -%}
    date_diff('day', {{ earlier }}, {{ later }})
{%- endmacro %}

{#- Calendar months from one date's month to a later one's. -#}
{% macro months_between(earlier, later) -%}
    ((extract(year from {{ later }}) - extract(year from {{ earlier }})) * 12
     + extract(month from {{ later }}) - extract(month from {{ earlier }}))
{%- endmacro %}
