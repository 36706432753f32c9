{{ config(materialized='view') }}
-- Accounts that had ended by the as-of date (charged off, closed, prepaid or defaulted), once each.
select
    account_id,
    min(event_date) as ended_on
from {{ ref('stg_events__account_events') }}
where event_type in ({{ quoted(terminal_events()) }})
group by account_id
