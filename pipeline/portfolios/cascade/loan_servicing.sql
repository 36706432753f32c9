SELECT
    ACCT_NBR AS account_id,
    STMT_DT AS statement_date,
    CASE PROD_CD
        WHEN 'CC' THEN 'card'
        WHEN 'PL' THEN 'personal_loan'
        WHEN 'AL' THEN 'auto_loan'
        WHEN 'LC' THEN 'line_of_credit'
        ELSE PROD_CD
    END AS product,
    OPEN_DT AS opened_on,
    CR_LMT_AMT AS credit_limit,
    CUR_BAL_AMT AS balance,
    MIN_DUE_AMT AS scheduled_payment,
    -- 19.9900 percent is 0.199900
    CAST(INT_RT_PCT / 100 AS DECIMAL(9, 6)) AS apr,
    DLQ_DAYS AS days_past_due,
    CASE ACCT_STAT_CD
        WHEN 'C' THEN 'current'
        WHEN 'I' THEN 'inactive'
        WHEN 'T' THEN 'paid_in_full'
        WHEN 'R' THEN 'revolving'
        WHEN 'D' THEN 'delinquent'
        WHEN 'W' THEN 'charged_off'
        WHEN 'X' THEN 'closed'
        ELSE ACCT_STAT_CD
    END AS status,
    source
FROM statements
