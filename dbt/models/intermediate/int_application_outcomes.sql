{{ config(materialized='view') }}
-- The outcome to predict, per application: the first label event of the account it was booked as.
select
    applications.application_id as subject_id,
    outcomes.event_date,
    outcomes.load_date
from {{ ref('stg_applications__applications') }} as applications
inner join {{ ref('int_account_outcomes') }} as outcomes
    on applications.account_id = outcomes.subject_id
