{{ config(materialized='partition', partition_column='as_of_date') }}
-- Expected loss of the book: PD × loss given default × exposure at default, by product and grade. Exact decimals all
-- the way: the PD is rounded to eight digits once, and money is never a float. DuckDB multiplies decimals of up to 18
-- digits within 18 digits, and a PD has eight of them: exposures are widened first, or a million overflows.
with exposures as (
    select
        scores.account_id,
        scores.as_of_date,
        scores.grade,
        slots.product_code,
        cast(scores.pd as decimal(9, 8)) as pd,
        {{ by_product('slots.product_code', 'lgd_by_product') }} as lgd,
        greatest(coalesce(slots.balance_1, 0), 0) as balance,
        cast(
            greatest(coalesce(slots.balance_1, 0), 0)
            + {{ by_product('slots.product_code', 'ccf_by_product') }}
            * cast(
                greatest(coalesce(slots.credit_limit_1, 0) - greatest(coalesce(slots.balance_1, 0), 0), 0)
                as decimal(20, 2)
            )
            as decimal(20, 2)
        ) as exposure
    from {{ source('scores', 'account_scores') }} as scores
    inner join {{ ref('int_account_slots') }} as slots
        on scores.account_id = slots.account_id
    where scores.as_of_date = {{ as_of() }}
)

select
    as_of_date,
    case product_code
        {%- for product in products() %} when {{ loop.index0 }} then '{{ product }}'{% endfor %}
    end as product,
    grade,
    cast(count(*) as bigint) as accounts,
    cast(sum(balance) as decimal(38, 2)) as balance,
    cast(sum(exposure) as decimal(38, 2)) as exposure_at_default,
    cast(sum(pd * exposure * lgd) as decimal(38, 2)) as expected_loss
from exposures
group by as_of_date, product_code, grade
