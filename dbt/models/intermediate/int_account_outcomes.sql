{{ config(materialized='view') }}
-- The outcome to predict, per account: its first label event known by the as-of date.
select
    account_id as subject_id,
    event_date,
    load_date
from (
    select
        account_id,
        event_date,
        load_date,
        row_number() over (partition by account_id order by event_date, load_date, event_type) as event_rank
    from {{ ref('stg_events__account_events') }}
    where event_type in ({{ quoted(var('label_events')) }})
) as ranked
where event_rank = 1
