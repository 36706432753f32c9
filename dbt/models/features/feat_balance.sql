{{ config(materialized='carried', key='account_id') }}
-- What is owed and how it moves, over statement slots. A balance in credit is negative and stays so.
with means as (
    select
        account_id
        {%- for k in range(1, 25) %},
        balance_{{ k }}
        {%- endfor %},
        {{ rolling_mean('balance', 3) }} as mean_3m,
        {{ rolling_mean('balance', 6) }} as mean_6m,
        {{ rolling_mean('balance', 12) }} as mean_12m
    from {{ ref('int_account_slots') }}{{ if_reached('account_id') }}
)

select
    account_id
    {%- for k in [1, 2, 3, 4, 5, 6] %},
    cast(balance_{{ k }} as double) as balance_last_{{ k }}
    {%- endfor %},
    mean_3m as balance_avg_3m,
    mean_6m as balance_avg_6m,
    mean_12m as balance_avg_12m
    {%- for months in [12, 24] %},
    cast({{ rolling_max('balance', months) }} as double) as balance_max_{{ months }}m
    {%- endfor %},
    cast({{ rolling_min('balance', 12) }} as double) as balance_min_12m,
    {{ ratio('(' ~ rolling_std('balance', 6, 'mean_6m') ~ ')', 'mean_6m') }} as balance_cv_6m
    {%- for months in [1, 3, 6] %},
    {{ ratio('balance_1 - balance_' ~ (months + 1), 'balance_' ~ (months + 1)) }} as balance_growth_{{ months }}m
    {%- endfor %},
    {{ rolling_trend('balance', 6) }} as balance_trend_6m,
    {{ rolling_count('balance', 6, '<= 0') }} as balance_zero_count_6m,
    {{ rolling_moves('balance', 6, '>') }} as balance_rising_count_6m,
    {{ ratio('balance_1', rolling_max('balance', 24)) }} as balance_to_peak_24m
from means
