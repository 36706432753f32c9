{{ config(materialized='partition', partition_column='as_of_date', keep_state=true) }}
-- One row per application first known in the period, with what was known of it on that very day.
select
    applications.application_id,
    {{ as_of() }} as as_of_date,
    applications.applied_on,
    applications.known_on,
    cast({{ code('applications.product', products()) }} as integer) as application_product_code,
    cast({{ code('applications.channel', channels()) }} as integer) as application_channel_code,
    cast({{ code('applications.purpose', purposes()) }} as integer) as application_purpose_code,
    cast(applications.amount as double) as requested_amount,
    applications.term_months as requested_term_months,
    cast(applications.apr as double) as offered_apr,
    cast(applications.stated_income as double) as stated_income_yearly,
    cast(applications.dti as double) as debt_to_income_stated,
    applications.employment_months as employment_months_stated,
    cast({{ days_between('applications.applied_on', 'applications.known_on') }} as integer) as application_age_days,
    case when applications.stated_income is null then 1 else 0 end as income_missing_flag,
    case when applications.employment_months is null then 1 else 0 end as employment_missing_flag,
    {{ ratio('applications.amount', 'applications.stated_income') }} as amount_to_income,
    {{ ratio('applications.amount', 'applications.term_months') }} as principal_per_month,
    {{ ratio('12 * applications.amount', 'applications.term_months * applications.stated_income') }} as principal_to_income,
    {{ ratio('applications.amount * applications.apr', 'applications.stated_income') }} as interest_to_income,
    bureau.bureau_score as bureau_score_at_application,
    case when bureau.application_id is null then null when bureau.bureau_score is null then 1 else 0 end as bureau_thin_file_at_application,
    cast({{ days_between('bureau.pulled_on', 'applications.known_on') }} as integer) as bureau_age_days_at_application,
    bureau.open_trades as bureau_open_trades_at_application,
    bureau.delinquent_trades as bureau_delinquent_trades_at_application,
    bureau.inquiries_6m as bureau_inquiries_6m_at_application,
    cast(bureau.external_balance as double) as bureau_balance_at_application,
    cast(bureau.external_limit as double) as bureau_limit_at_application,
    bureau.collections as bureau_collections_at_application,
    bureau.public_records as bureau_public_records_at_application,
    {{ ratio('bureau.external_balance', 'bureau.external_limit') }} as bureau_utilization_at_application,
    {{ ratio('bureau.delinquent_trades', 'bureau.open_trades') }} as bureau_delinquent_share_at_application,
    {{ ratio('bureau.external_balance', 'bureau.open_trades') }} as bureau_balance_per_trade_at_application,
    {{ ratio('bureau.external_balance', 'applications.stated_income') }} as bureau_balance_to_income_at_application,
    {{ ratio('bureau.external_balance + applications.amount', 'applications.stated_income') }} as total_debt_to_income_at_application,
    {{ ratio('bureau.external_limit', 'applications.stated_income') }} as bureau_limit_to_income_at_application
from {{ ref('stg_applications__first_known') }} as applications
left join {{ ref('int_application_bureau') }} as bureau
    on applications.application_id = bureau.application_id
where applications.known_on >= {{ period_start() }}
