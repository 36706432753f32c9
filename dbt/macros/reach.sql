{#- Which accounts a night reaches: those with a row that became known since the table was built. An account's months, and
    so its slots and all that is plain arithmetic over them, are made of its own rows and of the calendar month alone;
    so every other account's stay what they were, to the bit. pipeline/rebuild.py decides; none means all accounts. -#}
{% macro reach() -%}
    {{ return(var('reach', {}).get(model.name)) }}
{%- endmacro %}

{% macro reached_accounts() -%}
    {%- set reach = reach() -%}
    {%- for table in reach.tables %}
    select account_id from lake.raw.{{ table }}
    where load_date > {{ date_literal(reach.after) }} and load_date <= {{ date_literal(reach.until) }}
        {%- if reach.loads %}
        or load_date in ({{ date_literals(reach.days) }})
        and load_id in ({{ quoted(reach.loads) }})
        {%- endif %}
    {{- '\n    union all' if not loop.last }}
    {%- endfor %}
{%- endmacro %}

{#- `where`, or with word='and' a further condition, that keeps the accounts a night reaches; nothing when it reaches all.
    The two comments mark it as in macros/rebuild.sql: the model's whole definition is the SQL without it. -#}
{% macro if_reached(column, word='where') -%}
    {%- if reach() is not none %}
    /* rebuild */
    {{ word }} {{ column }} in ({{ reached_accounts() }})
    /* end rebuild */
    {%- endif -%}
{%- endmacro %}
