{{ config(materialized='partition', partition_column='as_of_date') }}
-- Tonight's new applications with score, the reasons for it, and the route recommended to the underwriters.
-- The route is advice: nothing is declined here.
with reasons as (
    select
        application_id,
        max(case when rank = 1 then feature end) as reason_1,
        max(case when rank = 2 then feature end) as reason_2,
        max(case when rank = 3 then feature end) as reason_3,
        max(case when rank = 4 then feature end) as reason_4
    from {{ source('scores', 'application_reasons') }}
    where as_of_date = {{ as_of() }}
    group by application_id
)

select
    scores.application_id,
    scores.as_of_date,
    applications.applied_on,
    applications.product,
    applications.channel,
    applications.amount as requested_amount,
    scores.pd,
    scores.score_points,
    scores.grade,
    reasons.reason_1,
    reasons.reason_2,
    reasons.reason_3,
    reasons.reason_4,
    case
        when scores.pd <= {{ var('approve_pd_up_to') }} then 'straight_through'
        when scores.pd < {{ var('review_pd_from') }} then 'underwriter'
        else 'senior_underwriter'
    end as recommended_route,
    scores.model_name,
    scores.model_version,
    scores.run_id
from {{ source('scores', 'application_scores') }} as scores
inner join {{ ref('stg_applications__first_known') }} as applications
    on scores.application_id = applications.application_id
left join reasons
    on scores.application_id = reasons.application_id
where scores.as_of_date = {{ as_of() }}
