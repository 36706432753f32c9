-- The latest version of each account event known on the as-of date.
select
    account_id,
    event_date,
    event_type,
    amount,
    load_date
from (
    select
        account_id,
        event_date,
        event_type,
        amount,
        load_date,
        {{ version_rank(['account_id', 'event_date', 'event_type']) }} as version_rank
    from {{ source('raw', 'account_events') }}
    where {{ known_by_as_of('event_date') }}
) as versions
where version_rank = 1
