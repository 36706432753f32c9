{#- Generic data tests. A test selects the rows that break it. All read one night's partition only, see get_where_subquery. -#}

{% test in_range(model, column_name, min_value, max_value) -%}
select {{ column_name }} from {{ model }}
where {{ column_name }} is not null
    and not ({{ column_name }} >= {{ min_value }} and {{ column_name }} <= {{ max_value }})
{%- endtest %}

{% test unique_key(model, columns) -%}
select {{ columns | join(', ') }} from {{ model }}
group by {{ columns | join(', ') }}
having count(*) > 1
{%- endtest %}

{#- A date is not after another column of its row. -#}
{% test not_after(model, column_name, other) -%}
select {{ column_name }} from {{ model }} where {{ column_name }} > {{ other }}
{%- endtest %}

{#- Point in time: nothing behind a row became known, or happened, after the as-of date. -#}
{% test known_by(model, column_name) -%}
select {{ column_name }} from {{ model }} where {{ column_name }} > {{ as_of() }}
{%- endtest %}

{#- Both tables hold the same keys, each once. -#}
{% test same_rows_as(model, other, key) -%}
select {{ key }} from (
    select {{ key }}, 1 as side from {{ model }}
    union all
    select {{ key }}, 2 as side from {{ other }}
) as both_sides
group by {{ key }}
having count(*) <> 2 or min(side) = max(side)
{%- endtest %}

{% test not_less_than(model, column_name, other) -%}
select {{ column_name }} from {{ model }} where {{ column_name }} < {{ other }}
{%- endtest %}

{#- Distribution: at most this share of the rows is null. An empty partition passes. -#}
{% test null_share_below(model, column_name, share) -%}
select nulls, rows_tested from (
    select
        sum(case when {{ column_name }} is null then 1 else 0 end) as nulls,
        count(*) as rows_tested
    from {{ model }}
) as counted
where rows_tested > 0 and cast(nulls as double) / rows_tested > {{ share }}
{%- endtest %}

{#- Distribution: the mean lies between two bounds. Rows without a value are left out; no value at all passes. -#}
{% test mean_between(model, column_name, min_value, max_value) -%}
select mean_value from (
    select cast(sum(cast({{ column_name }} as decimal(38, 6))) as double) / nullif(count({{ column_name }}), 0) as mean_value
    from {{ model }}
) as measured
where mean_value < {{ min_value }} or mean_value > {{ max_value }}
{%- endtest %}

{#- Neither infinite nor not-a-number: a ratio that got away. -#}
{% test finite(model, column_name) -%}
select {{ column_name }} from {{ model }} where not isfinite({{ column_name }})
{%- endtest %}

{#- Every application that was scored stands in the queue. -#}
{% test unscored_applications(model) -%}
select scores.application_id
from {{ source('scores', 'application_scores') }} as scores
left join (select application_id from {{ model }}) as queue on scores.application_id = queue.application_id
where scores.as_of_date = {{ as_of() }} and queue.application_id is null
{%- endtest %}

{#- Every account that was scored is provided for. -#}
{% test provisions_cover_scores(model) -%}
select provided, scored from (
    select
        (select coalesce(sum(accounts), 0) from {{ model }}) as provided,
        (select count(*) from {{ source('scores', 'account_scores') }} where as_of_date = {{ as_of() }}) as scored
) as counted
where provided <> scored
{%- endtest %}
