{{ config(materialized='tonight') }}
-- For each application of the period, the latest bureau report that was known on the day the application was:
-- not one that came later, so a monthly build and the night itself see the same.
select
    application_id,
    known_on,
    pulled_on,
    bureau_known_on,
    bureau_score,
    open_trades,
    delinquent_trades,
    inquiries_6m,
    external_balance,
    external_limit,
    collections,
    public_records
from (
    select
        applications.application_id,
        applications.known_on,
        pulls.pulled_on,
        pulls.load_date as bureau_known_on,
        pulls.bureau_score,
        pulls.open_trades,
        pulls.delinquent_trades,
        pulls.inquiries_6m,
        pulls.external_balance,
        pulls.external_limit,
        pulls.collections,
        pulls.public_records,
        row_number() over (
            partition by applications.application_id
            order by pulls.pulled_on desc, pulls.load_date desc, pulls.load_id desc, pulls.source_file desc, pulls.source_row desc
        ) as pull_rank
    from {{ ref('stg_applications__first_known') }} as applications
    inner join {{ source('raw', 'bureau_pull') }} as pulls
        on applications.application_id = pulls.subject_id
    where pulls.subject_type = 'application'
        and applications.known_on >= {{ period_start() }}
        and pulls.load_date <= applications.known_on
        and pulls.pulled_on <= applications.known_on
) as ranked
where pull_rank = 1
