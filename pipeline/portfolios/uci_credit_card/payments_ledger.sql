-- What a client paid in a month pays the bill of the month before (the first client's August payment is July's
-- bill to the dollar). March's bill is not in the file: what was due in April is null. The days within
-- the month are not known either: both stand at its end.
SELECT
    ID * 100 + month(paid.day) AS payment_id,
    ID AS account_id,
    paid.day AS due_date,
    CASE WHEN paid.amount > 0 THEN paid.day END AS paid_on,
    CAST(CASE WHEN paid.bill IS NOT NULL THEN greatest(paid.bill, 0) END AS DECIMAL(18, 2)) AS due_amount,
    CAST(paid.amount AS DECIMAL(18, 2)) AS paid_amount,
    'unknown' AS method,
    CAST(NULL AS BOOLEAN) AS returned,
    paid.day AS load_date,
    source
FROM (
    SELECT
        ID,
        source,
        unnest([
            {'day': DATE '2005-04-30', 'bill': NULL, 'amount': X23},
            {'day': DATE '2005-05-31', 'bill': X17, 'amount': X22},
            {'day': DATE '2005-06-30', 'bill': X16, 'amount': X21},
            {'day': DATE '2005-07-31', 'bill': X15, 'amount': X20},
            {'day': DATE '2005-08-31', 'bill': X14, 'amount': X19},
            {'day': DATE '2005-09-30', 'bill': X13, 'amount': X18}
        ]) AS paid
    FROM UCI_Credit_Card
)
