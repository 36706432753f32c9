{{ config(materialized='view') }}
-- The features that are reported under a name of their own, for every account scored on the as-of date.
select
    account_id,
    as_of_date,
    dpd_30_rollup,
    dpd_last_1,
    dpd_max_12m,
    dpd_90plus_count_12m,
    utilization_3m_avg,
    bureau_score_last,
    bureau_score_delta,
    payment_missed_count_12m,
    tenure_months_last,
    product_code_last
from {{ ref('account_features') }}
where as_of_date = {{ as_of() }}
