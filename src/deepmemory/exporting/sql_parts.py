"""The functions of an exported layer in SQL, and what is looked at before anything is changed."""

from deepmemory.exporting.facts import LayerFacts
from deepmemory.exporting.sql_names import dollar_quoted, identifier, number, text, vector
from deepmemory.exporting.sql_target import SqlTarget

__all__ = ["bonus_function", "preparation", "removal", "search_function", "transform_function"]

_MARGIN = 10
"""Hits asked of the index beyond k: most documents that a bonus lifts into the first k are just below them."""


def preparation(target: SqlTarget) -> str:
    """Check the server, see that nothing of somebody else's is in the way, and set the names' meaning.

    From here on to the end of the transaction unqualified names are PostgreSQL's and pgvector's own.
    """
    code = f"""
DECLARE
  version text;
  place text;
  foreign_name text;
BEGIN
  IF current_setting('server_version_num')::integer < 140000 THEN
    RAISE EXCEPTION 'Deep Memory needs PostgreSQL 14 or newer, and this is %', current_setting('server_version');
  END IF;
  SELECT e.extversion, n.nspname INTO version, place
  FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'vector';
  IF version IS NULL THEN
    RAISE EXCEPTION 'pgvector is not installed in the database %; run CREATE EXTENSION vector, then this script again',
      current_database();
  END IF;
  IF string_to_array(substring(version from '^[0-9.]+'), '.')::integer[] < '{{0,7}}' THEN
    RAISE EXCEPTION 'Deep Memory needs pgvector 0.7 or newer, and this is %; run ALTER EXTENSION vector UPDATE',
      version;
  END IF;
  SELECT name INTO foreign_name FROM ({_there(target)}) AS there WHERE mark NOT LIKE 'Deep Memory%' LIMIT 1;
  IF foreign_name IS NOT NULL THEN
    RAISE EXCEPTION '% is there already and is not Deep Memory''s; export the layer with another --name or --schema',
      foreign_name;
  END IF;
  IF to_regnamespace({text(identifier(target.schema))}) IS NULL THEN
    CREATE SCHEMA {identifier(target.schema)};
  END IF;
  PERFORM set_config('search_path', 'pg_catalog, ' || quote_ident(place), true);
END
"""
    return f"DO {dollar_quoted(code)};\n"


def removal(target: SqlTarget) -> str:
    """Take out what is the layer's; what is somebody else's of the same name stays."""
    code = f"""
DECLARE
  ours record;
BEGIN
  FOR ours IN SELECT * FROM ({_there(target)}) AS there WHERE mark LIKE 'Deep Memory%' ORDER BY place DESC LOOP
    EXECUTE format('DROP %s %s', ours.kind, ours.name);
  END LOOP;
END
"""
    return f"DO {dollar_quoted(code)};\n"


def _there(target: SqlTarget) -> str:
    """A query for what has the names of the layer's tables and functions, with the comments that mark what is ours.

    Of the functions those with the longer names use the others, and all of them the tables: a higher place goes first.
    """
    tables = ", ".join(f"to_regclass({text(name)})" for name in target.tables.values())
    functions = ", ".join(text(name) for name in target.function_names)
    return f"""
    SELECT 'TABLE' AS kind, c.oid::regclass::text AS name, coalesce(obj_description(c.oid, 'pg_class'), '') AS mark,
      0 AS place
    FROM pg_class c WHERE c.oid IN ({tables})
    UNION ALL
    SELECT 'FUNCTION', p.oid::regprocedure::text, coalesce(obj_description(p.oid, 'pg_proc'), ''), length(p.proname)
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE n.nspname = {text(target.schema)} AND p.proname IN ({functions})
  """


def transform_function(facts: LayerFacts, target: SqlTarget) -> str:
    """The function that moves a query."""
    moved = "SELECT l2_normalize(query);"
    if facts.whole is not None:
        moved = (
            "SELECT l2_normalize(array_agg(m.added - (m.weights <#> query) ORDER BY m.dimension)::vector)\n"
            f"  FROM {target.tables['matrix']} AS m;"
        )
    cost = max(100, facts.takes * facts.layer.dimensions // 50)
    return f"""\
-- It reads a table and is IMMUTABLE all the same: the table changes only together with the function, in this script,
-- and PostgreSQL then plans anew what used it. So a query is transformed once, not once a row where no index is used.
CREATE OR REPLACE FUNCTION {target.functions["transform"]}(query vector) RETURNS vector
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE COST {cost}
BEGIN ATOMIC
  {moved}
END;
COMMENT ON FUNCTION {target.functions["transform"]}(vector) IS {text(f"Deep Memory: {facts.title}")};
"""


def bonus_function(facts: LayerFacts, target: SqlTarget) -> str:
    """The function that says what labelled documents get beside their similarity."""
    layer, prior = facts.layer, number(facts.layer.prior)
    if layer.memory is None:
        code = f"  SELECT d.id, {prior} FROM {target.tables['labels']} AS d;"
    else:
        memory = layer.memory
        seen = f"{target.functions['transform']}(query)" if memory.is_transformed else "l2_normalize(query)"
        threshold = number(memory.threshold)
        code = f"""\
  WITH asked AS MATERIALIZED (
    SELECT l2_normalize({seen} - {vector(memory.centre)}::vector) AS direction
  ), near AS MATERIALIZED (
    SELECT k.key, -(k.direction <#> asked.direction) AS cosine FROM asked, {target.tables["keys"]} AS k
  ), best AS MATERIALIZED (
    SELECT p.label, max(near.cosine * p.weight) AS cosine
    FROM near JOIN {target.tables["pairs"]} AS p ON p.key = near.key WHERE near.cosine > {threshold} GROUP BY p.label
  )
  SELECT d.id, {prior} + {number(memory.gain)} * greatest(0, coalesce(best.cosine, 0) - {threshold})
  FROM {target.tables["labels"]} AS d {"LEFT " if layer.prior else ""}JOIN best ON best.label = d.label;"""
    return f"""\
CREATE OR REPLACE FUNCTION {target.functions["bonus"]}(query vector) RETURNS TABLE (id text, bonus double precision)
LANGUAGE sql STABLE STRICT PARALLEL SAFE
BEGIN ATOMIC
{code}
END;
COMMENT ON FUNCTION {target.functions["bonus"]}(vector) IS {text(f"Deep Memory: {facts.title}")};
"""


def search_function(facts: LayerFacts, target: SqlTarget, documents: tuple[str, str]) -> str:
    """The function that searches a table with all that the layer has; it is made for the types that the table has."""
    id, stored, search = text(target.id), text(target.vector), target.functions["search"]
    there_is_none = text(f"there is no table {'.'.join(documents)}; name the one with the documents by --table")
    code = f"""
DECLARE
  documents regclass := to_regclass({text(identifier(*documents))});
  id_type text;
  vector_type text;
  dimensions integer;
  there text;
  settings text := '';
BEGIN
  IF documents IS NULL THEN
    RAISE EXCEPTION '%', {there_is_none};
  END IF;
  SELECT string_agg(attname, ', ' ORDER BY attnum),
    max(format_type(atttypid, NULL)) FILTER (WHERE attname = {id}),
    max(atttypid::regtype::text) FILTER (WHERE attname = {stored}),
    max(atttypmod) FILTER (WHERE attname = {stored})
  INTO there, id_type, vector_type, dimensions
  FROM pg_attribute WHERE attrelid = documents AND attnum > 0 AND NOT attisdropped;
  IF id_type IS NULL OR vector_type IS NULL THEN
    RAISE EXCEPTION '% should have the columns % (--id) and % (--vector); it has: %',
      documents, {id}, {stored}, there;
  END IF;
  IF vector_type NOT IN ('vector', 'halfvec') THEN
    RAISE EXCEPTION 'the column % of % should be a vector or halfvec; it is of the type %',
      {stored}, documents, vector_type;
  END IF;
  IF dimensions > 0 AND dimensions <> {facts.layer.dimensions} THEN
    RAISE EXCEPTION 'the column % of % has % dimensions, and the layer takes %',
      {stored}, documents, dimensions, {facts.layer.dimensions};
  END IF;
  BEGIN
    EXECUTE format('SELECT count(id::%s) FROM %s', id_type, {text(target.tables["labels"])});
  EXCEPTION WHEN data_exception THEN
    RAISE EXCEPTION 'the layer''s documents have ids that the column % of the type % can''t hold (%); name the column '
      'with their ids by --id', {id}, id_type, SQLERRM;
  END;
  -- Without it an HNSW index gives at most hnsw.ef_search hits, 40 by default.
  IF (SELECT string_to_array(substring(extversion from '^[0-9.]+'), '.')::integer[] >= '{{0,8}}'
      FROM pg_extension WHERE extname = 'vector') THEN
    settings := 'SET hnsw.iterative_scan = ''strict_order''';
  END IF;
  DROP FUNCTION IF EXISTS {search}(vector, integer);
  EXECUTE format({dollar_quoted(_search(facts, target, documents))}, id_type, vector_type, settings);
END
"""
    mark = f"COMMENT ON FUNCTION {search}(vector, integer) IS {text(f'Deep Memory: {facts.title}')};"
    return f"DO {dollar_quoted(code)};\n{mark}\n"


def _search(facts: LayerFacts, target: SqlTarget, documents: tuple[str, str]) -> str:
    """The definition as ``format`` takes it, which fills in the id's type, the vector's type and settings."""
    transform, bonus, function = (name.replace("%", "%%") for name in target.functions.values())
    names = (identifier(*documents), identifier(target.id), identifier(target.vector))
    table, id, stored = (name.replace("%", "%%") for name in names)
    distance = f"d.{stored} {'<=>' if facts.layer.distance == 'cosine' else '<#>'} moved"
    similarity = f"1 - ({distance})" if facts.layer.distance == "cosine" else f"-({distance})"
    code = f"""
#variable_conflict use_variable
DECLARE
  moved %2$s := {transform}(query);
  labelled %1$s[];
  bonuses double precision[];
  found %1$s[];
  similarities double precision[];
  depth integer := k + {_MARGIN};
  kth double precision;
BEGIN
  IF k < 1 THEN
    RAISE EXCEPTION 'k should be 1 or more, and is %%', k;
  END IF;
  SELECT coalesce(array_agg(b.id::%1$s), '{{}}'), coalesce(array_agg(b.bonus), '{{}}') INTO labelled, bonuses
  FROM {bonus}(query) AS b;
  LOOP
    SELECT coalesce(array_agg(h.id), '{{}}'), coalesce(array_agg(h.similarity), '{{}}') INTO found, similarities
    FROM (
      SELECT d.{id} AS id, {similarity} AS similarity FROM {table} AS d
      WHERE d.{stored} IS NOT NULL ORDER BY {distance} LIMIT depth
    ) AS h;
    -- A prior below 0 may have lowered so many hits that what follows the last one belongs above them.
    SELECT h.similarity + coalesce(b.bonus, 0) INTO kth
    FROM unnest(found, similarities) AS h (id, similarity)
    LEFT JOIN unnest(labelled, bonuses) AS b (id, bonus) USING (id)
    ORDER BY 1 DESC OFFSET k - 1 LIMIT 1;
    EXIT WHEN cardinality(found) < depth OR similarities[depth] <= kth;
    depth := 2 * depth;
  END LOOP;
  RETURN QUERY
    SELECT c.id, c.similarity + coalesce(b.bonus, 0)
    FROM (
      SELECT h.id, h.similarity FROM unnest(found, similarities) AS h (id, similarity)
      UNION ALL
      SELECT d.{id}, {similarity} FROM unnest(labelled, bonuses) AS b (id, bonus) JOIN {table} AS d ON d.{id} = b.id
      WHERE b.bonus > 0 AND b.id <> ALL (found) AND d.{stored} IS NOT NULL
    ) AS c LEFT JOIN unnest(labelled, bonuses) AS b (id, bonus) USING (id)
    WHERE c.similarity <> 'NaN'
    ORDER BY 2 DESC, c.id::text COLLATE "C" LIMIT k;
END
"""
    return (
        f"CREATE FUNCTION {function}(query vector, k integer DEFAULT 10)\n"
        "RETURNS TABLE (id %1$s, score double precision)\n"
        "LANGUAGE plpgsql STABLE STRICT SET search_path FROM CURRENT %3$s AS " + dollar_quoted(code)
    )
