-- Marriage code 0 and sex codes other than 1 and 2 are not documented: null.
SELECT
    ID AS subject_id,
    'account' AS subject_type,
    DATE '2005-04-30' AS recorded_on,
    CASE
        WHEN X5 < 25 THEN '18-24'
        WHEN X5 < 35 THEN '25-34'
        WHEN X5 < 45 THEN '35-44'
        WHEN X5 < 55 THEN '45-54'
        WHEN X5 < 65 THEN '55-64'
        WHEN X5 >= 65 THEN '65+'
    END AS age_band,
    CASE X2 WHEN 1 THEN 'male' WHEN 2 THEN 'female' END AS sex,
    CASE X4 WHEN 1 THEN 'married' WHEN 2 THEN 'single' WHEN 3 THEN 'other' END AS marital_status,
    DATE '2005-04-30' AS load_date,
    source
FROM UCI_Credit_Card
