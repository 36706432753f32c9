{{ config(materialized='carried', key='account_id') }}
-- Product, price and limit, and how the lender has moved them.
select
    account_id,
    product_code as product_code_last,
    cast(apr_1 as double) as apr_last_1,
    cast(apr_1 - apr_13 as double) as apr_change_12m,
    cast({{ rolling_max('apr', 12) }} as double) as apr_max_12m,
    cast(credit_limit_1 as double) as credit_limit_last_1,
    cast(credit_limit_1 - balance_1 as double) as credit_undrawn_last_1,
    {{ ratio('credit_limit_1 - credit_limit_13', 'credit_limit_13') }} as credit_limit_growth_12m,
    {{ rolling_moves('credit_limit', 12, '>') }} as credit_limit_increase_count_12m,
    {{ rolling_moves('credit_limit', 12, '<') }} as credit_limit_decrease_count_12m,
    {{ ratio('credit_limit_1', rolling_max('credit_limit', 24)) }} as credit_limit_to_peak_24m,
    cast(scheduled_payment_1 as double) as scheduled_payment_last_1,
    {{ ratio('scheduled_payment_1', 'credit_limit_1') }} as scheduled_payment_to_limit_last_1,
    {{ ratio('scheduled_payment_1', 'balance_1') }} as scheduled_payment_to_balance_last_1,
    {{ ratio('scheduled_payment_1 - scheduled_payment_4', 'scheduled_payment_4') }} as scheduled_payment_growth_3m
from {{ ref('int_account_slots') }}{{ if_reached('account_id') }}
