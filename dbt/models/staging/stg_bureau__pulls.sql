-- The latest version of each bureau report known on the as-of date, of accounts and of applications.
select
    subject_id,
    subject_type,
    pulled_on,
    bureau_score,
    open_trades,
    delinquent_trades,
    inquiries_6m,
    external_balance,
    external_limit,
    collections,
    public_records,
    load_date
from (
    select
        subject_id,
        subject_type,
        pulled_on,
        bureau_score,
        open_trades,
        delinquent_trades,
        inquiries_6m,
        external_balance,
        external_limit,
        collections,
        public_records,
        load_date,
        {{ version_rank(['subject_type', 'subject_id', 'pulled_on']) }} as version_rank
    from {{ source('raw', 'bureau_pull') }}
    where {{ known_by_as_of('pulled_on') }}
) as versions
where version_rank = 1
