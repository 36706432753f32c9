{#- The months that int_account_month rebuilds: none (null) means all of them. -#}
{% macro rebuild_months() -%}
    {%- set given = var('rebuild_months', none) -%}
    {%- if given is none -%}{{ return(none) }}{%- endif -%}
    {%- set months = [] -%}
    {%- for month in given -%}{%- do months.append(month | string) -%}{%- endfor -%}
    {{ return(months | sort) }}
{%- endmacro %}

{#- `and` clause that keeps a date column within the months to rebuild. The outer range prunes whole files by their
    statistics; the list of months says exactly which. Nothing at all for a full build. The two comments mark it, so
    that the model's whole definition is the compiled SQL less what stands between them (pipeline/transform.py). -#}
{% macro and_in_rebuild_months(date_column, month_column) -%}
    {%- set months = rebuild_months() -%}
    {%- if months is not none %}
    /* rebuild */
        {%- if months | length == 0 %}
    and false
        {%- else %}
    and {{ date_column }} >= {{ date_literal(months | first) }}
    and {{ date_column }} <= last_day({{ date_literal(months | last) }})
    and {{ month_column }} in ({% for month in months %}{{ date_literal(month) }}{{ ', ' if not loop.last }}{% endfor %})
        {%- endif %}
    /* end rebuild */
    {%- endif -%}
{%- endmacro %}
