{{ config(materialized='tonight') }}
-- What other lenders report, as of the latest report known. An account without any report has nulls.
select
    slots.account_id,
    bureau.bureau_score_1 as bureau_score_last,
    bureau.bureau_score_1 - bureau.bureau_score_2 as bureau_score_delta,
    bureau.bureau_score_min_12m,
    bureau.bureau_score_max_12m,
    bureau.bureau_score_1 - bureau.bureau_score_max_12m as bureau_score_drop_12m,
    cast({{ days_between('bureau.pulled_on', as_of()) }} as integer) as bureau_age_days_last,
    bureau.pulls_12m as bureau_pull_count_12m,
    case when bureau.account_id is null then null when bureau.bureau_score_1 is null then 1 else 0 end as bureau_thin_file_last,
    bureau.open_trades_1 as bureau_open_trades_last,
    bureau.delinquent_trades_1 as bureau_delinquent_trades_last,
    bureau.inquiries_6m_1 as bureau_inquiries_last_6m,
    cast(bureau.external_balance_1 as double) as bureau_balance_last,
    cast(bureau.external_limit_1 as double) as bureau_limit_last,
    bureau.collections_1 as bureau_collections_last,
    bureau.public_records_1 as bureau_public_records_last,
    bureau.open_trades_1 - bureau.open_trades_2 as bureau_open_trades_delta,
    bureau.delinquent_trades_1 - bureau.delinquent_trades_2 as bureau_delinquent_trades_delta,
    cast(bureau.external_balance_1 - bureau.external_balance_2 as double) as bureau_balance_delta,
    {{ ratio('bureau.external_balance_1', 'bureau.external_limit_1') }} as bureau_utilization_last,
    {{ ratio('bureau.delinquent_trades_1', 'bureau.open_trades_1') }} as bureau_delinquent_share_last,
    {{ ratio('slots.balance_1', 'slots.balance_1 + bureau.external_balance_1') }} as bureau_own_share_last
from {{ ref('int_account_slots') }} as slots
left join {{ ref('int_account_bureau') }} as bureau
    on slots.account_id = bureau.account_id
