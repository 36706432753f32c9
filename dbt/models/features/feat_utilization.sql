{{ config(materialized='carried', key='account_id') }}
-- How much of the limit is used, over statement slots. A balance in credit counts as none used; without a limit
-- above zero there is no utilization.
with slots as (
    select
        account_id
        {%- for k in range(1, 13) %},
        {{ ratio('greatest(balance_' ~ k ~ ', 0)', 'credit_limit_' ~ k) }} as utilization_{{ k }}
        {%- endfor %}
    from {{ ref('int_account_slots') }}{{ if_reached('account_id') }}
),

means as (
    select
        account_id
        {%- for k in range(1, 13) %},
        utilization_{{ k }}
        {%- endfor %},
        {{ rolling_mean('utilization', 3) }} as mean_3m,
        {{ rolling_mean('utilization', 6) }} as mean_6m,
        {{ rolling_mean('utilization', 12) }} as mean_12m
    from slots
)

select
    account_id
    {%- for k in [1, 2, 3] %},
    utilization_{{ k }} as utilization_last_{{ k }}
    {%- endfor %},
    mean_3m as utilization_3m_avg,
    mean_6m as utilization_avg_6m,
    mean_12m as utilization_avg_12m
    {%- for months in [3, 12] %},
    {{ rolling_max('utilization', months) }} as utilization_max_{{ months }}m
    {%- endfor %},
    {{ rolling_min('utilization', 12) }} as utilization_min_12m
    {%- for months in [1, 3, 6] %},
    utilization_1 - utilization_{{ months + 1 }} as utilization_change_{{ months }}m
    {%- endfor %}
    {%- for months in [6, 12] %},
    {{ rolling_std('utilization', months, 'mean_' ~ months ~ 'm') }} as utilization_std_{{ months }}m,
    {{ rolling_trend('utilization', months) }} as utilization_trend_{{ months }}m,
    {{ rolling_count('utilization', months, '>= 0.9') }} as utilization_90plus_count_{{ months }}m
    {%- endfor %},
    {{ rolling_count('utilization', 12, '> 1') }} as overlimit_count_12m
from means
