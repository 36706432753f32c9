{{ config(materialized='view') }}
-- What downstream systems take: every score of the as-of date, accounts and applications, one row each.
select
    'account' as subject_type,
    cast(account_id as varchar) as subject_id,
    as_of_date,
    pd,
    score_points,
    grade,
    model_name,
    model_version,
    model_digest,
    run_id,
    scored_at
from {{ source('scores', 'account_scores') }}
where as_of_date = {{ as_of() }}
union all
select
    'application' as subject_type,
    cast(application_id as varchar) as subject_id,
    as_of_date,
    pd,
    score_points,
    grade,
    model_name,
    model_version,
    model_digest,
    run_id,
    scored_at
from {{ source('scores', 'application_scores') }}
where as_of_date = {{ as_of() }}
