SELECT
    SUBJ_NBR AS subject_id,
    CASE SUBJ_TYP_CD WHEN 'ACCT' THEN 'account' WHEN 'APPL' THEN 'application' ELSE SUBJ_TYP_CD END AS subject_type,
    PULL_DT AS pulled_on,
    VS_SCORE AS bureau_score,
    OPEN_TRD_CNT AS open_trades,
    DLQ_TRD_CNT AS delinquent_trades,
    INQ_6M_CNT AS inquiries_6m,
    EXT_BAL_AMT AS external_balance,
    EXT_LMT_AMT AS external_limit,
    COLL_CNT AS collections,
    PUB_REC_CNT AS public_records,
    source
FROM bureau
