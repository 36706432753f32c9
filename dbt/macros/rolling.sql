{#- Windows over statement slots. `measure` names columns measure_1 … measure_n, 1 being the latest statement
    and a missing month null. Everything is plain arithmetic in a fixed order: no aggregate, so no thread order. -#}

{% macro rolling_sum(measure, months, start=1) -%}
    ({%- for k in range(start, start + months) -%}
    coalesce({{ measure }}_{{ k }}, 0){{ ' + ' if not loop.last }}
    {%- endfor -%})
{%- endmacro %}

{#- How many of the slots hold a value. -#}
{% macro rolling_n(measure, months, start=1) -%}
    ({%- for k in range(start, start + months) -%}
    case when {{ measure }}_{{ k }} is null then 0 else 1 end{{ ' + ' if not loop.last }}
    {%- endfor -%})
{%- endmacro %}

{#- Sum over the slots that hold a value; null when none does. -#}
{% macro rolling_total(measure, months, start=1) -%}
    case when {{ rolling_n(measure, months, start) }} > 0 then {{ rolling_sum(measure, months, start) }} end
{%- endmacro %}

{#- Mean over the slots that hold a value: an exact sum, divided once. -#}
{% macro rolling_mean(measure, months, start=1) -%}
    cast({{ rolling_sum(measure, months, start) }} as double) / nullif({{ rolling_n(measure, months, start) }}, 0)
{%- endmacro %}

{#- greatest and least pass over nulls; null only when every slot is. -#}
{% macro rolling_max(measure, months, start=1) -%}
    greatest({%- for k in range(start, start + months) -%}{{ measure }}_{{ k }}{{ ', ' if not loop.last }}{%- endfor -%})
{%- endmacro %}

{% macro rolling_min(measure, months, start=1) -%}
    least({%- for k in range(start, start + months) -%}{{ measure }}_{{ k }}{{ ', ' if not loop.last }}{%- endfor -%})
{%- endmacro %}

{#- Number of slots for which `measure <condition>` is true. -#}
{% macro rolling_count(measure, months, condition, start=1) -%}
    ({%- for k in range(start, start + months) -%}
    case when {{ measure }}_{{ k }} {{ condition }} then 1 else 0 end{{ ' + ' if not loop.last }}
    {%- endfor -%})
{%- endmacro %}

{#- Number of months in which the measure rose (sign '>') or fell ('<') against the month before. -#}
{% macro rolling_moves(measure, months, sign) -%}
    ({%- for k in range(1, months + 1) -%}
    case when {{ measure }}_{{ k }} {{ sign }} {{ measure }}_{{ k + 1 }} then 1 else 0 end{{ ' + ' if not loop.last }}
    {%- endfor -%})
{%- endmacro %}

{#- Months since the condition last held, 0 for the latest statement; null when it never did in the window. -#}
{% macro rolling_recency(measure, months, condition) -%}
    case {%- for k in range(1, months + 1) %} when {{ measure }}_{{ k }} {{ condition }} then {{ k - 1 }}{% endfor %} end
{%- endmacro %}

{#- For how many statements without a break, counted from the latest, the condition has held. -#}
{% macro rolling_streak(measure, months, condition) -%}
    case {%- for k in range(1, months + 1) %} when coalesce({{ measure }}_{{ k }} {{ condition }}, false) = false then {{ k - 1 }}{% endfor %} else {{ months }} end
{%- endmacro %}

{#- Population standard deviation in two passes; `mean` is the column that holds the same window's mean. Null below two values. -#}
{% macro rolling_std(measure, months, mean) -%}
    case when {{ rolling_n(measure, months) }} > 1 then sqrt((
    {%- for k in range(1, months + 1) -%}
    coalesce((cast({{ measure }}_{{ k }} as double) - {{ mean }}) * (cast({{ measure }}_{{ k }} as double) - {{ mean }}), 0){{ ' + ' if not loop.last }}
    {%- endfor -%}
    ) / {{ rolling_n(measure, months) }}) end
{%- endmacro %}

{#- Least-squares slope per month towards now (rising is positive) from n, Σt, Σt², Σx and Σtx. Null below three values. -#}
{% macro rolling_trend(measure, months) -%}
    {%- set n = rolling_n(measure, months) -%}
    {%- set t, tt, tx = [], [], [] -%}
    {%- for k in range(1, months + 1) -%}
        {%- set at = months - k -%}
        {%- do t.append('case when ' ~ measure ~ '_' ~ k ~ ' is null then 0 else ' ~ at ~ ' end') -%}
        {%- do tt.append('case when ' ~ measure ~ '_' ~ k ~ ' is null then 0 else ' ~ at * at ~ ' end') -%}
        {%- do tx.append(at ~ ' * coalesce(' ~ measure ~ '_' ~ k ~ ', 0)') -%}
    {%- endfor -%}
    {%- set t, tt, tx = '(' ~ t | join(' + ') ~ ')', '(' ~ tt | join(' + ') ~ ')', '(' ~ tx | join(' + ') ~ ')' -%}
    case when {{ n }} > 2 then
        (cast({{ n }} as double) * cast({{ tx }} as double) - cast({{ t }} as double) * cast({{ rolling_sum(measure, months) }} as double))
        / ({{ n }} * {{ tt }} - {{ t }} * {{ t }}) end
{%- endmacro %}

{#- One division, null where the denominator is null, zero or negative: a zero limit has no utilization. -#}
{% macro ratio(numerator, denominator) -%}
    case when {{ denominator }} > 0 then cast({{ numerator }} as double) / cast({{ denominator }} as double) end
{%- endmacro %}

{% macro flag(condition) -%}
    case when {{ condition }} then 1 else 0 end
{%- endmacro %}
