SELECT
    SUBJ_NBR AS subject_id,
    CASE SUBJ_TYP_CD WHEN 'ACCT' THEN 'account' WHEN 'APPL' THEN 'application' ELSE SUBJ_TYP_CD END AS subject_type,
    REC_DT AS recorded_on,
    AGE_BAND_CD AS age_band,
    CASE SEX_CD WHEN 'F' THEN 'female' WHEN 'M' THEN 'male' END AS sex,
    CASE MAR_STAT_CD WHEN 'M' THEN 'married' WHEN 'S' THEN 'single' WHEN 'O' THEN 'other' END AS marital_status,
    source
FROM demographics
