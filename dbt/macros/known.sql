{#- What was known on the as-of date, and the total order of a record's versions. -#}

{#- Rows that had been loaded by, and speak of a day up to, the as-of date. -#}
{% macro known_by_as_of(event_date) -%}
    load_date <= {{ as_of() }} and {{ event_date }} <= {{ as_of() }}
{%- endmacro %}

{#- 1 for the newest version of a key. The landing columns make the order total, so a rerun picks the same row. -#}
{% macro version_rank(keys) -%}
    row_number() over (
        partition by {{ keys | join(', ') }}
        order by load_date desc, load_id desc, source_file desc, source_row desc
    )
{%- endmacro %}

{#- Position of a text value in a literal list, from 0: a small integer that a model can read.
    A value outside the list is null; an accepted_values test stands guard. -#}
{% macro code(column, values) -%}
    case {{ column }}
        {%- for value in values %} when '{{ value }}' then {{ loop.index0 }}{% endfor %} end
{%- endmacro %}

{% macro products() %}{{ return(['card', 'personal_loan', 'auto_loan', 'line_of_credit']) }}{% endmacro %}
{#- In order of how the balance is carried: not used, paid in full, current, revolving, behind, gone. -#}
{% macro statuses() %}{{ return(['inactive', 'paid_in_full', 'current', 'revolving', 'delinquent', 'charged_off', 'closed']) }}{% endmacro %}
{% macro channels() %}{{ return(['branch', 'online', 'mobile', 'broker']) }}{% endmacro %}
{% macro purposes() %}{{ return(['purchase', 'refinance', 'consolidation', 'vehicle', 'home', 'medical', 'other']) }}{% endmacro %}
{% macro terminal_events() %}{{ return(['charged_off', 'closed', 'prepaid', 'default']) }}{% endmacro %}

{#- Text values as a SQL list. -#}
{% macro quoted(values) -%}
    {%- for value in values -%}'{{ value }}'{{ ', ' if not loop.last }}{%- endfor -%}
{%- endmacro %}
