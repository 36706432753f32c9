-- The latest version of each payment known on the as-of date. Account and due date are part of what names a payment
-- here: no version changes them (a gate holds that), and so an account or a month is read without the whole ledger.
select
    payment_id,
    account_id,
    due_date,
    {{ month_of('due_date') }} as due_month,
    paid_on,
    due_amount,
    paid_amount,
    method,
    returned,
    load_date
from (
    select
        payment_id,
        account_id,
        due_date,
        paid_on,
        due_amount,
        paid_amount,
        method,
        returned,
        load_date,
        {{ version_rank(['payment_id', 'account_id', 'due_date']) }} as version_rank
    from {{ source('raw', 'payments_ledger') }}
    where {{ known_by_as_of('coalesce(paid_on, due_date)') }}
) as versions
where version_rank = 1
