{#- Three materializations that never rename a table and commit once, so that a reader sees the old rows or the new ones,
    a kill leaves the old ones, and a second run gives the same:

    partition: replaces literal partitions of a table and keeps all others. Needs an enforced contract: the table is
        created from it, a new column of the contract is added, and a column of another type stops with both types.
        partition_column: as_of_date (the as-of date's partition) or statement_month (the months to rebuild, or all).
        keep_state: note in ops.model_state, in the same transaction, what the table or partition was built for.
    tonight: makes the table anew in one statement; it holds the as-of date alone.
    carried: holds the as-of date alone too, one row or none per key. A night that reaches few accounts makes theirs
        anew and carries the others over (macros/reach.sql); ops.model_state notes what the table was built for. -#}

{% materialization partition, adapter='duckdb' -%}
    {%- set column = config.require('partition_column') -%}
    {%- if column == 'as_of_date' -%}
        {%- set predicate = column ~ ' = ' ~ as_of() -%}
    {%- else -%}
        {%- set months = rebuild_months() -%}
        {%- if months is none -%}
            {%- set predicate = 'true' -%}
        {%- elif months | length == 0 -%}
            {%- set predicate = 'false' -%}
        {%- else -%}
            {%- set predicate = column ~ ' in (' ~ date_literals(months) ~ ')' -%}
        {%- endif -%}
    {%- endif -%}
    {{ return(replace_rows(predicate, column, config.get('keep_state', false))) }}
{%- endmaterialization %}

{% materialization tonight, adapter='duckdb' -%}
    {%- set target_relation = this.incorporate(type='table') -%}
    {{ run_hooks(pre_hooks, inside_transaction=False) }}
    {%- if config.get('contract').enforced -%}
        {{ get_assert_columns_equivalent(compiled_code) }}
    {%- endif -%}
    {{ run_hooks(pre_hooks, inside_transaction=True) }}
    {%- call statement('main') -%}
        create or replace table {{ target_relation }} as
        {{ compiled_code }}
    {%- endcall -%}
    {{ run_hooks(post_hooks, inside_transaction=True) }}
    {%- do adapter.commit() -%}
    {{ run_hooks(post_hooks, inside_transaction=False) }}
    {{ return({'relations': [target_relation]}) }}
{%- endmaterialization %}

{% materialization carried, adapter='duckdb' -%}
    {%- set target_relation = this.incorporate(type='table') -%}
    {%- set key = config.require('key') -%}
    {{ run_hooks(pre_hooks, inside_transaction=False) }}
    {%- if config.get('contract').enforced -%}
        {{ get_assert_columns_equivalent(compiled_code) }}
    {%- endif -%}
    {{ run_hooks(pre_hooks, inside_transaction=True) }}
    {%- if reach() is none -%}
        {%- call statement('main') -%}
            create or replace table {{ target_relation }} as
            {{ compiled_code }}
        {%- endcall -%}
    {%- else -%}
        {%- call statement('delete') -%}
            delete from {{ target_relation }} where {{ key }} in ({{ reached_accounts() }})
        {%- endcall -%}
        {%- call statement('main') -%}
            insert into {{ target_relation }} by name
            {{ compiled_code }}
        {%- endcall -%}
    {%- endif -%}
    {{ note_state() }}
    {{ run_hooks(post_hooks, inside_transaction=True) }}
    {%- do adapter.commit() -%}
    {{ run_hooks(post_hooks, inside_transaction=False) }}
    {{ return({'relations': [target_relation]}) }}
{%- endmaterialization %}

{#- What a table, or a partition of it, was built for: the as-of date, the loads it has seen, its definition. -#}
{% macro note_state(partition_column=none) -%}
    {%- call statement('state') -%}
        delete from lake.ops.model_state where model = '{{ model.name }}'
        {%- if partition_column == 'as_of_date' %} and as_of_date = {{ as_of() }}{% endif %}
    {%- endcall -%}
    {%- call statement('new_state') -%}
        insert into lake.ops.model_state (model, as_of_date, load_seq, definition_sha256)
        select '{{ model.name }}', {{ as_of() }}, coalesce(max(seq), 0),
            '{{ var('definition_sha256', {}).get(model.name, 'built by hand') }}'
        from lake.raw.load_log
    {%- endcall -%}
{%- endmacro %}

{% macro replace_rows(predicate, partition_column, keep_state) -%}
    {%- set target_relation = this.incorporate(type='table') -%}
    {{ run_hooks(pre_hooks, inside_transaction=False) }}
    {%- if not config.get('contract').enforced -%}
        {{ exceptions.raise_compiler_error(model.name ~ ': this materialization needs an enforced contract') }}
    {%- endif -%}
    {{ get_assert_columns_equivalent(compiled_code) }}
    {%- do prepare_table(target_relation, partition_column) -%}
    {{ run_hooks(pre_hooks, inside_transaction=True) }}
    {#- One statement call: everything between begin and commit stands or falls together. -#}
    {%- call statement('delete') -%}
        delete from {{ target_relation }} where {{ predicate }}
    {%- endcall -%}
    {%- set batches = month_batches() if partition_column == 'statement_month' else [] -%}
    {%- for batch in batches or [none] -%}
        {%- call statement('main') -%}
            insert into {{ target_relation }} {{ get_column_names() }}
            select {% for name in model['columns'] %}{{ name }}{{ ', ' if not loop.last }}{% endfor %} from (
            {{ compiled_code if batch is none else of_batch(compiled_code, batch) }}
            ) as model_rows
        {%- endcall -%}
    {%- endfor -%}
    {%- if keep_state -%}{{ note_state(partition_column) }}{%- endif -%}
    {{ run_hooks(post_hooks, inside_transaction=True) }}
    {%- do adapter.commit() -%}
    {{ run_hooks(post_hooks, inside_transaction=False) }}
    {{ return({'relations': [target_relation]}) }}
{%- endmacro %}

{#- Create the table from the contract, or add the contract's new columns; commits on its own. -#}
{% macro prepare_table(relation, partition_column) -%}
    {%- set existing = load_cached_relation(relation) -%}
    {%- if existing is not none and existing.type == 'view' -%}
        {%- do adapter.drop_relation(existing) -%}
        {%- set existing = none -%}
    {%- endif -%}
    {%- if existing is none -%}
        {%- call statement('create') -%}
            create table {{ relation }} {{ get_table_columns_and_constraints() }}
        {%- endcall -%}
        {%- if partition_column -%}
            {%- call statement('set_partition') -%}
                alter table {{ relation }} set partitioned by ({{ partition_column }})
            {%- endcall -%}
        {%- endif -%}
        {%- do adapter.commit() -%}
    {%- else -%}
        {%- set wanted = get_column_schema_from_query(get_empty_schema_sql(model['columns'])) -%}
        {%- set present = {} -%}
        {%- for column in adapter.get_columns_in_relation(relation) -%}
            {%- do present.update({column.name: column.dtype}) -%}
        {%- endfor -%}
        {%- for column in wanted -%}
            {%- if column.name not in present -%}
                {%- call statement('add_column') -%}
                    alter table {{ relation }} add column {{ column.name }} {{ column.dtype }}
                {%- endcall -%}
                {%- do adapter.commit() -%}
            {%- elif present[column.name] != column.dtype -%}
                {{ exceptions.raise_compiler_error(
                    relation ~ '.' ~ column.name ~ ' is ' ~ present[column.name] ~ ' in the lake and ' ~ column.dtype
                    ~ ' in its contract; give the column a new name, or drop the table to have it built again'
                ) }}
            {%- endif -%}
        {%- endfor -%}
    {%- endif -%}
{%- endmacro %}
