-- Protected attributes of each subject, for fairness reports alone: no feature model refers to this view (a test holds that).
select
    subject_id,
    subject_type,
    recorded_on,
    age_band,
    sex,
    marital_status,
    load_date
from (
    select
        subject_id,
        subject_type,
        recorded_on,
        age_band,
        sex,
        marital_status,
        load_date,
        {{ version_rank(['subject_type', 'subject_id']) }} as version_rank
    from {{ source('raw', 'applicant_protected') }}
    where {{ known_by_as_of('recorded_on') }}
) as versions
where version_rank = 1
