-- The latest version of each statement known on the as-of date.
select
    account_id,
    statement_date,
    {{ month_of('statement_date') }} as statement_month,
    product,
    status,
    opened_on,
    credit_limit,
    balance,
    scheduled_payment,
    apr,
    days_past_due,
    load_date
from (
    select
        account_id,
        statement_date,
        product,
        status,
        opened_on,
        credit_limit,
        balance,
        scheduled_payment,
        apr,
        days_past_due,
        load_date,
        {{ version_rank(['account_id', 'statement_date']) }} as version_rank
    from {{ source('raw', 'loan_servicing') }}
    where {{ known_by_as_of('statement_date') }}
) as versions
where version_rank = 1
