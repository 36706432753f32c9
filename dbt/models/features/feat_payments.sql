{{ config(materialized='carried', key='account_id') }}
-- What was paid, when and how, over statement slots. What is paid in a slot's month settles the statement before it.
select
    account_id
    {%- for k in [1, 2, 3, 4, 5, 6] %},
    cast(paid_amount_{{ k }} as double) as paid_last_{{ k }}
    {%- endfor %}
    {%- for months in [3, 6, 12] %},
    {{ rolling_mean('paid_amount', months) }} as paid_avg_{{ months }}m
    {%- endfor %}
    {%- for k in [1, 2, 3] %},
    {{ ratio('paid_amount_' ~ k, 'balance_' ~ (k + 1)) }} as paid_to_balance_last_{{ k }}
    {%- endfor %}
    {%- for months in [3, 6, 12] %},
    {{ ratio(rolling_total('paid_amount', months), rolling_sum('balance', months, 2)) }} as paid_to_balance_avg_{{ months }}m
    {%- endfor %}
    {%- for months in [3, 6, 12] %},
    {{ ratio(rolling_total('paid_amount', months), rolling_sum('due_amount', months)) }} as paid_to_due_avg_{{ months }}m
    {%- endfor %},
    {{ rolling_total('payments_due', 6) }} as payment_due_count_6m
    {%- for months in [3, 6, 12] %},
    {{ rolling_total('payments_missed', months) }} as payment_missed_count_{{ months }}m
    {%- endfor %}
    {%- for months in [6, 12] %},
    {{ rolling_total('payments_late', months) }} as payment_late_count_{{ months }}m
    {%- endfor %},
    {{ rolling_total('payments_returned', 12) }} as payment_returned_count_12m,
    {{ ratio(rolling_total('days_late', 6), rolling_sum('payments_due', 6)) }} as payment_days_late_avg_6m,
    {{ ratio(rolling_total('payments_autopay', 6), rolling_sum('payments_due', 6)) }} as payment_autopay_share_6m,
    {{ ratio(rolling_sum('paid_amount', 3) ~ ' - ' ~ rolling_sum('paid_amount', 3, 4), rolling_sum('paid_amount', 3, 4)) }} as paid_growth_3m,
    {{ rolling_recency('payments_missed', 12, '> 0') }} as payment_missed_recency_12m
    {%- for k in [1, 2, 3] %},
    status_code_{{ k }} as status_code_last_{{ k }}
    {%- endfor %},
    {{ rolling_count('status_code', 6, '= ' ~ statuses().index('inactive')) }} as months_inactive_count_6m,
    {{ rolling_count('status_code', 6, '= ' ~ statuses().index('paid_in_full')) }} as months_paid_in_full_count_6m,
    {{ rolling_count('status_code', 6, '= ' ~ statuses().index('revolving')) }} as months_revolving_count_6m
from {{ ref('int_account_slots') }}{{ if_reached('account_id') }}
