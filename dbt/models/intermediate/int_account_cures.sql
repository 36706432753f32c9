{{ config(materialized='view') }}
-- Accounts that recovered from delinquency in the two years up to the as-of date.
select
    account_id,
    cast(count(*) as integer) as cures_24m,
    max(event_date) as last_cured_on
from {{ ref('stg_events__account_events') }}
where event_type = 'cured'
    and event_date > {{ days_before(730) }}
group by account_id
