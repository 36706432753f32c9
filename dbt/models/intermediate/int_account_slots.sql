{{ config(materialized='carried', key='account_id') }}
{#- Slots that each measure needs: what no feature reads is not joined. days_past_due is never null on a statement,
    so that it also says which months have one. -#}
{%- set slots = {
    'credit_limit': 24, 'balance': 24, 'days_past_due': 24,
    'statement_date': 1, 'status_code': 12, 'scheduled_payment': 12, 'apr': 13,
    'payments_due': 12, 'payments_missed': 12, 'payments_late': 12, 'payments_returned': 12,
    'payments_autopay': 6, 'days_late': 12, 'due_amount': 12, 'paid_amount': 12,
} -%}
-- One row per account that is to be scored, with its statement months in slots. Slot 1 is the as-of month if its
-- statement has arrived, else the month before; slot k is k - 1 calendar months earlier; a missing month is null.
-- Every month is joined once, by a literal partition and on account_id alone; the anchor then picks the slot.
with anchors as (
    select
        account_id,
        case when max(statement_month) = {{ months_before(0) }} then 0 else 1 end as slot_anchor
    from {{ ref('int_account_month') }}
    where statement_month in ({{ months_before(0) }}, {{ months_before(1) }})
        and statement_date is not null
        {{ if_reached('account_id', 'and') }}
    group by account_id
),
{% for back in range(0, 25) %}
month_{{ back }} as (
    select
        account_id,
        {%- if back <= 1 %}
        opened_on, product_code,
        {%- endif %}
        known_on,
        {%- for measure, depth in slots.items() if back <= depth %}
        {{ measure }}{{ ',' if not loop.last }}
        {%- endfor %}
    from {{ ref('int_account_month') }}
    where statement_month = {{ months_before(back) }}
),
{% endfor %}
slotted as (
    select
        anchors.account_id,
        anchors.slot_anchor,
        case when anchors.slot_anchor = 0 then month_0.opened_on else month_1.opened_on end as opened_on,
        case when anchors.slot_anchor = 0 then month_0.product_code else month_1.product_code end as product_code,
        greatest({% for back in range(0, 25) %}month_{{ back }}.known_on{{ ', ' if not loop.last }}{% endfor %}) as known_on
        {%- for measure, depth in slots.items() %}
        {%- for k in range(1, depth + 1) %},
        case when anchors.slot_anchor = 0 then month_{{ k - 1 }}.{{ measure }} else month_{{ k }}.{{ measure }} end as {{ measure }}_{{ k }}
        {%- endfor %}
        {%- endfor %}
    from anchors
    {%- for back in range(0, 25) %}
    left join month_{{ back }} on anchors.account_id = month_{{ back }}.account_id
    {%- endfor %}
)

select
    slotted.account_id,
    slotted.slot_anchor,
    slotted.opened_on,
    slotted.product_code,
    slotted.known_on
    {%- for measure, depth in slots.items() %}
    {%- for k in range(1, depth + 1) %},
    slotted.{{ measure }}_{{ k }}
    {%- endfor %}
    {%- endfor %}
from slotted
left join {{ ref('int_account_closures') }} as closures
    on slotted.account_id = closures.account_id
where closures.account_id is null
    and slotted.days_past_due_1 < {{ var('exclude_dpd') }}
    and coalesce(slotted.status_code_1, 0) not in ({{ statuses().index('charged_off') }}, {{ statuses().index('closed') }})
