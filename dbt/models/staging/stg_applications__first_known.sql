-- Each application as it was first known: the day it came in, and what it said on that day. What it is scored on.
select
    application_id,
    applied_on,
    load_date as known_on,
    product,
    channel,
    purpose,
    amount,
    term_months,
    apr,
    stated_income,
    dti,
    employment_months
from (
    select
        application_id,
        applied_on,
        load_date,
        product,
        channel,
        purpose,
        amount,
        term_months,
        apr,
        stated_income,
        dti,
        employment_months,
        row_number() over (
            partition by application_id
            order by load_date, load_id desc, source_file desc, source_row desc
        ) as version_rank
    from {{ source('raw', 'applications') }}
    where {{ known_by_as_of('applied_on') }}
) as versions
where version_rank = 1
