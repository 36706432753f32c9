{{ config(materialized='carried', key='account_id') }}
-- How late the account has been, over statement slots. A missing statement counts as no delinquency seen.
select
    account_id
    {%- for k in [1, 2, 3, 4, 5, 6] %},
    days_past_due_{{ k }} as dpd_last_{{ k }}
    {%- endfor %}
    {%- for months in [3, 6, 12, 24] %},
    {{ rolling_max('days_past_due', months) }} as dpd_max_{{ months }}m
    {%- endfor %}
    {%- for months in [3, 6, 12] %},
    {{ rolling_mean('days_past_due', months) }} as dpd_avg_{{ months }}m
    {%- endfor %}
    {%- for months in [3, 6, 12] %},
    {{ rolling_count('days_past_due', months, '>= 1') }} as dpd_1plus_count_{{ months }}m
    {%- endfor %},
    {{ rolling_count('days_past_due', 12, '>= 30') }} as dpd_30_rollup
    {%- for months in [6, 24] %},
    {{ rolling_count('days_past_due', months, '>= 30') }} as dpd_30plus_count_{{ months }}m
    {%- endfor %}
    {%- for months in [6, 12, 24] %},
    {{ rolling_count('days_past_due', months, '>= 60') }} as dpd_60plus_count_{{ months }}m
    {%- endfor %}
    {%- for months in [12, 24] %},
    {{ rolling_count('days_past_due', months, '>= 90') }} as dpd_90plus_count_{{ months }}m
    {%- endfor %}
    {%- for days in [1, 30] %},
    {{ rolling_recency('days_past_due', 24, '>= ' ~ days) }} as dpd_{{ days }}plus_recency_24m
    {%- endfor %},
    {{ rolling_streak('days_past_due', 24, '>= 1') }} as dpd_1plus_streak_24m,
    {{ rolling_streak('days_past_due', 24, '= 0') }} as dpd_clean_streak_24m,
    days_past_due_1 - days_past_due_4 as dpd_change_3m
    {%- for months in [6, 12] %},
    {{ rolling_trend('days_past_due', months) }} as dpd_trend_{{ months }}m
    {%- endfor %},
    {{ rolling_moves('days_past_due', 12, '>') }} as dpd_worsening_count_12m,
    {{ rolling_moves('days_past_due', 12, '<') }} as dpd_improving_count_12m
from {{ ref('int_account_slots') }}{{ if_reached('account_id') }}
