{#- An assumption by product code, from a documented var, as an exact decimal. -#}
{% macro by_product(code_column, assumption) -%}
    case {{ code_column }}
        {%- for product in products() %} when {{ loop.index0 }} then cast({{ var(assumption)[product] }} as decimal(4, 3)){% endfor %} end
{%- endmacro %}
