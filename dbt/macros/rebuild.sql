{#- The months that int_account_month rebuilds: none (null) means all of them. -#}
{% macro rebuild_months() -%}
    {%- set given = var('rebuild_months', none) -%}
    {%- if given is none -%}{{ return(none) }}{%- endif -%}
    {%- set months = [] -%}
    {%- for month in given -%}{%- do months.append(month | string) -%}{%- endfor -%}
    {{ return(months | sort) }}
{%- endmacro %}

{#- Months in the batches that a large build is made in, so that its memory is that of a few months; [] makes it at once. -#}
{% macro month_batches() -%}
    {{ return(var('month_batches', [])) }}
{%- endmacro %}

{#- What stands in the SQL of a build in batches where one batch's months belong: no month at all. -#}
{% macro batch_place(what) -%}
    {{ return("date '0001-01-01' /* " ~ what ~ " of the batch */") }}
{%- endmacro %}

{% macro of_batch(sql, months) -%}
    {{ return(sql
        | replace(batch_place('first month'), date_literal(months | first))
        | replace(batch_place('last month'), date_literal(months | last))
        | replace(batch_place('months'), date_literals(months))) }}
{%- endmacro %}

{#- `and` clause that keeps a date column within the months to rebuild. The outer range prunes whole files by their
    statistics; the list of months says exactly which. Nothing at all for a full build. The two comments mark it, so
    that the model's whole definition is the compiled SQL less what stands between them (pipeline/transform.py). -#}
{% macro and_in_rebuild_months(date_column, month_column) -%}
    {%- set months = rebuild_months() -%}
    {%- if month_batches() %}
    /* rebuild */
    {{ and_within(date_column, month_column, batch_place('first month'), batch_place('last month'), batch_place('months')) }}
    /* end rebuild */
    {%- elif months is not none %}
    /* rebuild */
        {%- if months | length == 0 %}
    and false
        {%- else %}
    {{ and_within(date_column, month_column, date_literal(months | first), date_literal(months | last), date_literals(months)) }}
        {%- endif %}
    /* end rebuild */
    {%- endif -%}
{%- endmacro %}

{% macro and_within(date_column, month_column, first, last, months) -%}
    and {{ date_column }} >= {{ first }}
    and {{ date_column }} <= last_day({{ last }})
    and {{ month_column }} in ({{ months }})
{%- endmacro %}
