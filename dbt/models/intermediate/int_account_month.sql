{{ config(
    materialized='partition',
    partition_column='statement_month',
    contract={'enforced': true},
    keep_state=true,
) }}
-- One row per account and calendar month: its last statement in the month, and the payments due in it as exact sums.
-- A month without a statement, or without a ledger row, has nulls on that side.
with statements as (
    select
        account_id,
        statement_month,
        statement_date,
        product,
        status,
        opened_on,
        credit_limit,
        balance,
        scheduled_payment,
        apr,
        days_past_due,
        load_date
    from (
        select
            account_id,
            statement_month,
            statement_date,
            product,
            status,
            opened_on,
            credit_limit,
            balance,
            scheduled_payment,
            apr,
            days_past_due,
            load_date,
            row_number() over (partition by account_id, statement_month order by statement_date desc) as statement_rank
        from {{ ref('stg_servicing__statements') }}
        where statement_date is not null
        {{ and_in_rebuild_months('statement_date', 'statement_month') }}
    ) as ranked
    where statement_rank = 1
),

payments as (
    select
        account_id,
        due_month,
        cast(count(*) as integer) as payments_due,
        cast(sum(case when paid_on is null then 1 else 0 end) as integer) as payments_missed,
        cast(sum(case when paid_on > due_date then 1 else 0 end) as integer) as payments_late,
        cast(sum(case when returned then 1 else 0 end) as integer) as payments_returned,
        cast(sum(case when method = 'autopay' then 1 else 0 end) as integer) as payments_autopay,
        cast(sum(case when paid_on > due_date then {{ days_between('due_date', 'paid_on') }} else 0 end) as integer)
            as days_late,
        cast(sum(due_amount) as decimal(18, 2)) as due_amount,
        cast(sum(paid_amount) as decimal(18, 2)) as paid_amount,
        max(load_date) as load_date
    from {{ ref('stg_ledger__payments') }}
    where due_date is not null
    {{ and_in_rebuild_months('due_date', 'due_month') }}
    group by account_id, due_month
)

select
    coalesce(statements.account_id, payments.account_id) as account_id,
    coalesce(statements.statement_month, payments.due_month) as statement_month,
    statements.statement_date,
    greatest(statements.load_date, payments.load_date) as known_on,
    statements.opened_on,
    cast({{ code('statements.product', products()) }} as integer) as product_code,
    cast({{ code('statements.status', statuses()) }} as integer) as status_code,
    statements.credit_limit,
    statements.balance,
    statements.scheduled_payment,
    statements.apr,
    statements.days_past_due,
    payments.payments_due,
    payments.payments_missed,
    payments.payments_late,
    payments.payments_returned,
    payments.payments_autopay,
    payments.days_late,
    payments.due_amount,
    payments.paid_amount
from statements
full outer join payments
    on statements.account_id = payments.account_id
    and statements.statement_month = payments.due_month
