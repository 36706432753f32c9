-- a plain column keeps its value, a constant has no input
SELECT a, b + 1 AS next, 'x' AS kind FROM t
-- WHERE decides over every row
SELECT a FROM t WHERE b > 1 AND c IN (1, 2)
-- GROUP BY and HAVING
SELECT a, sum(b) AS total FROM t GROUP BY a HAVING max(c) > 0
-- GROUP BY by position, and ALL
SELECT a + d AS g, min(b) AS low FROM t GROUP BY 1 ORDER BY ALL
-- count(*) reads the rows, count of a column masks it
SELECT count(*) AS n, count(b) AS filled, count(DISTINCT c) AS kinds FROM t
-- an aggregate over no column reads the rows
SELECT a, sum(1) AS n FROM t GROUP BY a
-- count(*) of a join reads the rows of both
SELECT count(*) AS n FROM t JOIN u ON t.a = u.a
-- FILTER on an aggregate
SELECT count(*) FILTER (WHERE b > 1) AS n, sum(c) FILTER (WHERE d = 1) AS part FROM t
-- inner and outer joins
SELECT t.b, u.e FROM t JOIN u ON t.a = u.a
-- a column of an outer join
SELECT t.b, u.e FROM t LEFT JOIN u ON t.a = u.a AND u.e > 0
-- USING joins on both sides, its column is of both
SELECT a, b, e FROM t JOIN u USING (a)
-- semi and anti joins
SELECT b FROM t SEMI JOIN u ON t.a = u.a
-- anti join
SELECT b FROM t ANTI JOIN u ON t.a = u.a
-- a window: its partition and order are not the value
SELECT a, row_number() OVER (PARTITION BY a ORDER BY b, c) AS place FROM t
-- a window aggregate and a named window
SELECT sum(b) OVER w AS running, lag(c) OVER w AS before FROM t WINDOW w AS (PARTITION BY a ORDER BY d)
-- the latest version of a row, by a derived table
SELECT a, b FROM (SELECT a, b, row_number() OVER (PARTITION BY a ORDER BY d DESC) AS r FROM t WHERE c > 0) AS v WHERE r = 1
-- the same by QUALIFY
SELECT a, b FROM t QUALIFY row_number() OVER (PARTITION BY a ORDER BY d DESC, b) = 1
-- CASE: the condition decides, the branch flows
SELECT CASE WHEN a > 1 THEN b ELSE c END AS chosen FROM t
-- CASE on a value, inside an aggregate
SELECT sum(CASE a WHEN 1 THEN b END) AS ones FROM t
-- IF, COALESCE and NULLIF
SELECT if(a > 1, b, c) AS i, coalesce(b, c) AS co, nullif(b, d) AS nu FROM t
-- a hash masks
SELECT md5(CAST(a AS VARCHAR)) AS hidden, sha256(CAST(b AS VARCHAR)) AS secret FROM t
-- the best of a group is chosen by another column
SELECT a, max_by(b, c) AS best, first(d ORDER BY c) AS head FROM t GROUP BY a
-- an ordered-set aggregate
SELECT quantile_cont(b, 0.5) AS middle, percentile_cont(0.5) WITHIN GROUP (ORDER BY c) AS median FROM t
-- DISTINCT compares all columns
SELECT DISTINCT a, b FROM t
-- DISTINCT ON keeps the first by an order
SELECT DISTINCT ON (a) a, b FROM t ORDER BY a, c, b
-- UNION compares, UNION ALL does not
SELECT a AS k FROM t UNION SELECT e FROM u
-- UNION ALL
SELECT a AS k, b AS v FROM t UNION ALL SELECT a, e FROM u
-- EXCEPT takes only the left, the right decides
SELECT a FROM t EXCEPT SELECT a FROM u
-- INTERSECT
SELECT a FROM t INTERSECT SELECT a FROM u
-- UNION ALL BY NAME
SELECT a, b FROM t UNION ALL BY NAME SELECT e, a FROM u
-- a scalar subquery that is correlated
SELECT t.a, (SELECT max(u.e) FROM u WHERE u.a = t.a) AS top FROM t
-- EXISTS and IN in a condition
SELECT b FROM t WHERE EXISTS (SELECT 1 FROM u WHERE u.a = t.a AND u.e > 0)
-- IN with a subquery as a value
SELECT a IN (SELECT a FROM u WHERE e > 0) AS known FROM t
-- CTEs, one of them twice
WITH z AS (SELECT a, b FROM t WHERE c > 0), y AS (SELECT b AS w FROM z) SELECT z.a, y.w FROM z JOIN y ON z.b = y.w
-- a column alias of a derived table
SELECT s.k FROM (SELECT a, b FROM t) AS s(k, v) WHERE s.v > 1
-- star, with columns left out and replaced
SELECT * EXCLUDE (d) REPLACE (b + c AS b) FROM t
-- a lateral subquery
SELECT t.b, s.top FROM t, LATERAL (SELECT max(u.e) AS top FROM u WHERE u.a = t.a) AS s
-- unnest of a list column multiplies the row beside it
SELECT u.a, x.v FROM u, unnest(u.l) AS x(v)
-- unnest in the SELECT list does so too
SELECT a, unnest(l) AS v FROM u
-- functions over lists, with a lambda and a comprehension
SELECT list_transform(l, x -> x + e) AS raised, [x + a FOR x IN l] AS added FROM u
-- an alias of the same SELECT used again
SELECT b + c AS s, s * 2 AS twice FROM t ORDER BY s
-- LIMIT takes the first rows of an order
SELECT a FROM t ORDER BY b, a LIMIT 2
-- VALUES are constants
SELECT t.b, v.w FROM t JOIN (VALUES (1, 10), (2, 20)) AS v(k, w) ON t.a = v.k
-- a view and a table are their SELECT
CREATE VIEW made AS SELECT a, b FROM t WHERE d = 1
-- two columns of one name are numbered
SELECT t.a, u.a FROM t JOIN u ON t.b = u.e
