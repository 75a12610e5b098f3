-- What REST knows of the exposed schemas, as one JSON value: see rest_schema.Catalogue.
with relation as (
  select c.oid, n.nspname, c.relname
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
  where n.nspname = any($1::text[]) and c.relkind in ('r', 'v', 'm', 'f', 'p')
), columns as (
  select a.attrelid, json_object_agg(a.attname, json_build_object(
      'name', a.attname, 'type', format_type(a.atttypid, a.atttypmod),
      'default', case when a.attidentity <> '' then null when a.attgenerated = '' then pg_get_expr(d.adbin, d.adrelid) end
    ) order by a.attnum) as all_of_them,
    json_agg(json_build_object('name', a.attname, 'type', format_type(a.atttypid, a.atttypmod)) order by a.attnum) as listed
  from pg_attribute a left join pg_attrdef d on (d.adrelid, d.adnum) = (a.attrelid, a.attnum)
  join pg_class c on c.oid = a.attrelid
  where a.attnum > 0 and not a.attisdropped and c.relkind in ('r', 'v', 'm', 'f', 'p', 'c')
  group by a.attrelid
), tables as (
  select json_object_agg(format('%s.%s', r.nspname, r.relname), json_build_object(
    'schema', r.nspname, 'name', r.relname, 'columns', coalesce(c.all_of_them, '{}'), 'primary_key', coalesce((
      select json_agg(a.attname order by k.place)
      from pg_constraint p cross join unnest(p.conkey) with ordinality as k (number, place)
      join pg_attribute a on (a.attrelid, a.attnum) = (p.conrelid, k.number)
      where p.conrelid = r.oid and p.contype = 'p'), '[]'))) as found
  from relation r left join columns c on c.attrelid = r.oid
), foreign_keys as (
  select json_agg(json_build_object(
    'name', f.conname, 'schema', s.nspname, 'table', s.relname, 'target_schema', t.nspname, 'target', t.relname,
    'columns', (select json_agg(a.attname order by k.place) from unnest(f.conkey) with ordinality as k (number, place)
      join pg_attribute a on (a.attrelid, a.attnum) = (f.conrelid, k.number)),
    'target_columns', (select json_agg(a.attname order by k.place) from unnest(f.confkey) with ordinality as k (number, place)
      join pg_attribute a on (a.attrelid, a.attnum) = (f.confrelid, k.number)),
    'unique', exists (select from pg_index i where i.indrelid = f.conrelid and i.indisunique and i.indpred is null
      and array(select unnest(i.indkey::int2[]) order by 1) = array(select unnest(f.conkey) order by 1))
  ) order by f.conname) as found
  from pg_constraint f join relation s on s.oid = f.conrelid join relation t on t.oid = f.confrelid
  where f.contype = 'f' and f.conparentid = 0
), functions as (
  select json_agg(json_build_object(
    'schema', n.nspname, 'name', p.proname, 'is_set', p.proretset, 'returns', format_type(p.prorettype, null),
    'table', (select r.relname from relation r where r.oid = t.typrelid),
    'columns', case when t.typtype = 'c' then c.listed else (
      select json_agg(json_build_object('name', o.name, 'type', format_type(o.type, null)) order by o.place)
      from unnest(p.proallargtypes, p.proargmodes, p.proargnames) with ordinality as o (type, mode, name, place)
      where o.mode in ('t', 'o', 'b') and p.prorettype = 'record'::regtype) end,
    'arguments', coalesce((
      select json_agg(json_build_object('name', coalesce(i.name, ''), 'type', format_type(i.type, null),
        'required', i.place <= p.pronargs - p.pronargdefaults) order by i.place)
      from (
        select a.type, a.name, row_number() over (order by a.place) as place
        from unnest(coalesce(p.proallargtypes, p.proargtypes::oid[]), p.proargnames, p.proargmodes)
          with ordinality as a (type, name, mode, place)
        where a.type is not null and coalesce(a.mode, 'i') in ('i', 'b', 'v')
      ) as i), '[]')
  ) order by p.proname, p.oid) as found
  from pg_proc p join pg_namespace n on n.oid = p.pronamespace join pg_type t on t.oid = p.prorettype
  left join columns c on c.attrelid = t.typrelid
  where n.nspname = any($1::text[]) and p.prokind = 'f' and t.typname not in ('trigger', 'event_trigger')
), role_settings as (
  select json_object_agg(rolname, settings) as found from (
    select r.rolname, json_object_agg(split_part(s.setting, '=', 1), substr(s.setting, strpos(s.setting, '=') + 1)) as settings
    from pg_roles r join pg_db_role_setting c on c.setrole = r.oid and c.setdatabase = 0
    cross join unnest(c.setconfig) as s (setting)
    join pg_settings g on g.name = split_part(s.setting, '=', 1) and g.context = 'user'
    where pg_has_role('authenticator', r.oid, 'member') and r.rolname <> 'authenticator'
    group by r.rolname) as per_role
)
select json_build_object(
  'tables', coalesce((select found from tables), '{}'), 'foreign_keys', coalesce((select found from foreign_keys), '[]'),
  'functions', coalesce((select found from functions), '[]'),
  'role_settings', coalesce((select found from role_settings), '{}'))
