{{ config(materialized='tonight') }}
-- One row per account with a bureau report: the latest, the one before it, and the last twelve months.
with pulls as (
    select
        subject_id,
        pulled_on,
        bureau_score,
        open_trades,
        delinquent_trades,
        inquiries_6m,
        external_balance,
        external_limit,
        collections,
        public_records,
        load_date,
        row_number() over (partition by subject_id order by pulled_on desc) as pull_rank
    from {{ ref('stg_bureau__pulls') }}
    where subject_type = 'account'
)

select
    subject_id as account_id,
    {{ as_of() }} as as_of_date,
    max(pulled_on) as pulled_on,
    max(load_date) as known_on
    {%- for measure in ['bureau_score', 'open_trades', 'delinquent_trades', 'inquiries_6m', 'external_balance', 'external_limit', 'collections', 'public_records'] %},
    max(case when pull_rank = 1 then {{ measure }} end) as {{ measure }}_1,
    max(case when pull_rank = 2 then {{ measure }} end) as {{ measure }}_2
    {%- endfor %},
    cast(sum(case when pulled_on > {{ days_before(365) }} then 1 else 0 end) as integer) as pulls_12m,
    min(case when pulled_on > {{ days_before(365) }} then bureau_score end) as bureau_score_min_12m,
    max(case when pulled_on > {{ days_before(365) }} then bureau_score end) as bureau_score_max_12m
from pulls
group by subject_id
