-- Six statements a client, each known on its own day. Status codes: -2 no use, -1 paid in full, 0 revolving,
-- 1 to 9 months of delay.
SELECT
    ID AS account_id,
    month.day AS statement_date,
    'card' AS product,
    CAST(NULL AS DATE) AS opened_on,
    CAST(X1 AS DECIMAL(18, 2)) AS credit_limit,
    CAST(month.bill AS DECIMAL(18, 2)) AS balance,
    CAST(NULL AS DECIMAL(18, 2)) AS scheduled_payment,
    CAST(NULL AS DECIMAL(9, 6)) AS apr,
    CAST(30 * greatest(month.status, 0) AS INTEGER) AS days_past_due,
    CASE
        WHEN month.status >= 1 THEN 'delinquent'
        WHEN month.status = 0 THEN 'revolving'
        WHEN month.status = -1 THEN 'paid_in_full'
        WHEN month.status = -2 THEN 'inactive'
        ELSE CAST(month.status AS VARCHAR)
    END AS status,
    month.day AS load_date,
    source
FROM (
    SELECT
        ID,
        X1,
        source,
        unnest([
            {'day': DATE '2005-04-30', 'status': X11, 'bill': X17},
            {'day': DATE '2005-05-31', 'status': X10, 'bill': X16},
            {'day': DATE '2005-06-30', 'status': X9, 'bill': X15},
            {'day': DATE '2005-07-31', 'status': X8, 'bill': X14},
            {'day': DATE '2005-08-31', 'status': X7, 'bill': X13},
            {'day': DATE '2005-09-30', 'status': X6, 'bill': X12}
        ]) AS month
    FROM UCI_Credit_Card
)
