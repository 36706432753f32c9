SELECT
    ACCT_NBR AS account_id,
    EVT_DT AS event_date,
    CASE EVT_CD
        WHEN 'DFLT' THEN 'default'
        WHEN 'CHOF' THEN 'charged_off'
        WHEN 'CLSD' THEN 'closed'
        WHEN 'PPAY' THEN 'prepaid'
        WHEN 'CURE' THEN 'cured'
        ELSE EVT_CD
    END AS event_type,
    EVT_AMT AS amount,
    source
FROM events
