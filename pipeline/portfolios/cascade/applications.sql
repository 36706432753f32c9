-- An application comes on its day, and again with its account number when it is booked.
SELECT
    APPL_NBR AS application_id,
    ACCT_NBR AS account_id,
    APPL_DT AS applied_on,
    CASE PROD_CD
        WHEN 'CC' THEN 'card'
        WHEN 'PL' THEN 'personal_loan'
        WHEN 'AL' THEN 'auto_loan'
        WHEN 'LC' THEN 'line_of_credit'
        ELSE PROD_CD
    END AS product,
    REQ_AMT AS amount,
    TERM_MOS AS term_months,
    CAST(OFFR_RT_PCT / 100 AS DECIMAL(9, 6)) AS apr,
    ANNL_INC_AMT AS stated_income,
    CAST(DTI_PCT / 100 AS DECIMAL(9, 6)) AS dti,
    EMP_MOS AS employment_months,
    CASE CHNL_CD
        WHEN 'BR' THEN 'branch'
        WHEN 'WB' THEN 'online'
        WHEN 'MB' THEN 'mobile'
        WHEN 'BK' THEN 'broker'
        ELSE CHNL_CD
    END AS channel,
    CASE PURP_CD
        WHEN 'PURC' THEN 'purchase'
        WHEN 'REFI' THEN 'refinance'
        WHEN 'CONS' THEN 'consolidation'
        WHEN 'VEH' THEN 'vehicle'
        WHEN 'HOME' THEN 'home'
        WHEN 'MED' THEN 'medical'
        WHEN 'OTH' THEN 'other'
        ELSE PURP_CD
    END AS purpose,
    RES_ST_CD AS state,
    source
FROM credit_applications
