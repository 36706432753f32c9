{{ config(materialized='tonight') }}
-- How long the account is known, how complete its statements are, and whether it recovered before.
{%- set statement_age = days_between('slots.statement_date_1', as_of()) %}
select
    slots.account_id,
    cast({{ months_between('slots.opened_on', as_of()) }} as integer) as tenure_months_last
    {%- for months in [6, 12, 24] %},
    {{ rolling_n('days_past_due', months) }} as statement_count_{{ months }}m
    {%- endfor %},
    cast(greatest(
        least(12, {{ months_between('slots.opened_on', 'slots.statement_date_1') }} + 1) - {{ rolling_n('days_past_due', 12) }}, 0
    ) as integer) as statement_gap_count_12m,
    cast({{ statement_age }} - greatest(least({{ statement_age }}, 31) - 27, 0) as integer) as statement_age_days_last,
    cures.cures_24m as cure_count_24m,
    cast({{ days_between('cures.last_cured_on', as_of()) }} as integer) as cure_recency_days_24m
from {{ ref('int_account_slots') }} as slots
left join {{ ref('int_account_cures') }} as cures
    on slots.account_id = cures.account_id
