-- The latest version of each application known on the as-of date; used for what became of it (booked or not).
select
    application_id,
    account_id,
    applied_on,
    product,
    channel,
    purpose,
    state,
    amount,
    term_months,
    apr,
    stated_income,
    dti,
    employment_months,
    load_date
from (
    select
        application_id,
        account_id,
        applied_on,
        product,
        channel,
        purpose,
        state,
        amount,
        term_months,
        apr,
        stated_income,
        dti,
        employment_months,
        load_date,
        {{ version_rank(['application_id']) }} as version_rank
    from {{ source('raw', 'applications') }}
    where {{ known_by_as_of('applied_on') }}
) as versions
where version_rank = 1
