-- Y: the client defaulted in October; known at the end of that month.
SELECT
    ID AS account_id,
    DATE '2005-10-31' AS event_date,
    'default' AS event_type,
    CAST(NULL AS DECIMAL(18, 2)) AS amount,
    DATE '2005-10-31' AS load_date,
    source
FROM UCI_Credit_Card
WHERE Y = 1
