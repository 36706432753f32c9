SELECT
    PMT_ID AS payment_id,
    ACCT_NBR AS account_id,
    DUE_DT AS due_date,
    PMT_DT AS paid_on,
    DUE_AMT AS due_amount,
    PMT_AMT AS paid_amount,
    CASE PMT_MTHD_CD
        WHEN 'AP' THEN 'autopay'
        WHEN 'TR' THEN 'transfer'
        WHEN 'DC' THEN 'card'
        WHEN 'CK' THEN 'check'
        WHEN 'CA' THEN 'cash'
        ELSE coalesce(PMT_MTHD_CD, 'unknown')
    END AS method,
    -- Any other flag becomes null and shows in the null gate.
    CASE RTN_FLG WHEN 'Y' THEN TRUE WHEN 'N' THEN FALSE END AS returned,
    source
FROM payments
