-- What things cost: the price list that the endpoints read from their data file. Prices are whole billionths of a US dollar
-- for a token or a second; what they come to is whole millionths, rounded up.

create table private.price_list (
  is_only boolean primary key default true check (is_only),
  -- {"as_of", "models": {name: price}, "embeddings": {name: price of a token}, "sandbox": {"vcpu_second", "gib_second",
  -- "vcpus", "memory_mib"}, "turn_estimate_microusd"}; a model's price is {"input", "output", "cache_write_5m",
  -- "cache_write_1h", "cache_read"}, may differ in "long_prompt" ("above_prompt_tokens" and the five) and in "fast".
  -- Empty until an endpoint has told its own: everything is free, and no run has been admitted yet.
  list jsonb not null default '{}' check (octet_length(list::text) <= 262144),
  -- The models whose output costs most, for those that nobody knows.
  dearest text,
  dearest_fast text
);
insert into private.price_list default values;

-- A whole number that money can be multiplied with.
create function private.is_rate(given jsonb) returns boolean
  language sql immutable parallel safe
  return coalesce(
    jsonb_typeof(given) = 'number' and (given #>> '{}')::numeric between 0 and 1e9 and (given #>> '{}')::numeric % 1 = 0, false
  );

create function private.is_price(price jsonb) returns boolean
  language sql immutable parallel safe
  return (
    select bool_and(private.is_rate(price -> k.name))
    from unnest(array['input', 'output', 'cache_write_5m', 'cache_write_1h', 'cache_read']) k (name)
  );

-- Whether every number that charging takes from the list is there.
create function private.is_price_list(list jsonb) returns boolean
  language sql immutable
  return (
    select jsonb_typeof(list -> 'as_of') is not distinct from 'string'
      and jsonb_typeof(list -> 'models') is not distinct from 'object'
      and jsonb_typeof(list -> 'embeddings') is not distinct from 'object'
      and private.is_rate(list -> 'turn_estimate_microusd')
      and (
        select bool_and(private.is_rate(list -> 'sandbox' -> k.name))
        from unnest(array['vcpu_second', 'gib_second', 'vcpus', 'memory_mib']) k (name)
      )
      and not exists (select from jsonb_each(list -> 'embeddings') e where not private.is_rate(e.value))
      and not exists (
        select from jsonb_each(list -> 'models') m
        where not private.is_price(m.value)
          or not private.is_price(coalesce(m.value -> 'fast', m.value))
          or not private.is_price(coalesce(m.value -> 'long_prompt', m.value))
          or not private.is_rate(coalesce(m.value -> 'long_prompt', '{"above_prompt_tokens": 0}') -> 'above_prompt_tokens')
      )
  );

-- The price list as the endpoints have read it. Writes only what is new. Raises PT400 bad_prices.
create function public.set_prices_v1(prices jsonb) returns void
  language plpgsql security definer set search_path = ''
as $$
begin
  if private.is_price_list(set_prices_v1.prices) is not true then
    raise exception using errcode = 'PT400', message = 'bad_prices';
  end if;
  update private.price_list p
    set
      list = set_prices_v1.prices,
      dearest = (
        select m.key from jsonb_each(set_prices_v1.prices -> 'models') m
        order by (m.value ->> 'output')::bigint desc, (m.value ->> 'input')::bigint desc, m.key limit 1
      ),
      dearest_fast = (
        select m.key from jsonb_each(set_prices_v1.prices -> 'models') m where m.value ? 'fast'
        order by (m.value -> 'fast' ->> 'output')::bigint desc, (m.value -> 'fast' ->> 'input')::bigint desc, m.key limit 1
      )
    where p.list <> set_prices_v1.prices;
end;
$$;

revoke all on function public.set_prices_v1 from public, anon, authenticated, service_role;
grant execute on function public.set_prices_v1 to service_role;

-- A model's name without its date and its context window, as the price list has it.
create function private.listed_name(model text) returns text
  language sql immutable parallel safe
  return regexp_replace(model, '(-[0-9]{8}|-latest)?(\[1m\])?$', '');

create function private.prompt_tokens(usage jsonb) returns bigint
  language sql immutable parallel safe
  return private.as_count(usage -> 'input_tokens') + private.as_count(usage -> 'cache_read_input_tokens')
    + private.as_count(usage -> 'cache_creation_input_tokens');

-- What a request with this usage costs by the token, the name that stands for it in the list, and whether that is its own:
-- a model that nobody knows is charged as the dearest one. Fast mode has prices of its own, and so have long prompts.
create function private.model_price(model text, usage jsonb, out name text, out is_known boolean, out price jsonb)
  language plpgsql stable set search_path = ''
as $$
declare
  known private.price_list;
  is_fast boolean := coalesce(usage ->> 'speed' = 'fast', false);
begin
  select * into strict known from private.price_list;
  name := private.listed_name(model);
  price := known.list -> 'models' -> name;
  if is_fast then
    price := price -> 'fast';
  end if;
  is_known := price is not null;
  if not is_known then
    name := coalesce(case when is_fast then known.dearest_fast end, known.dearest);
    price := known.list -> 'models' -> name;
    price := coalesce(case when is_fast then price -> 'fast' end, price);
  end if;
  if private.prompt_tokens(usage) > private.as_count(price -> 'long_prompt' -> 'above_prompt_tokens')
    and price ? 'long_prompt' then
    price := price -> 'long_prompt';
  end if;
end;
$$;

-- Millionths of a dollar. Tokens written to the cache for an hour are dearer; what is not told apart is for five minutes.
-- At most a hundred dollars, whatever the event says: it comes from the sandbox, no request to a model costs as much, and
-- no sum of such can become too large for its column.
create function private.tokens_microusd(usage jsonb, price jsonb) returns bigint
  language sql immutable parallel safe
  return (
    select least(1e8, ceil((
        private.as_count(usage -> 'input_tokens')::numeric * private.as_count(price -> 'input')
        + private.as_count(usage -> 'output_tokens')::numeric * private.as_count(price -> 'output')
        + private.as_count(usage -> 'cache_read_input_tokens')::numeric * private.as_count(price -> 'cache_read')
        + hour.tokens::numeric * private.as_count(price -> 'cache_write_1h')
        + (private.as_count(usage -> 'cache_creation_input_tokens') - hour.tokens)::numeric
          * private.as_count(price -> 'cache_write_5m')
      ) / 1000))::bigint
    from (
      select least(
        private.as_count(usage -> 'cache_creation' -> 'ephemeral_1h_input_tokens'),
        private.as_count(usage -> 'cache_creation_input_tokens')
      ) as tokens
    ) hour
  );

-- What a running sandbox costs: billionths of a dollar a second.
create function private.sandbox_nanousd_per_second() returns bigint
  language sql stable set search_path = ''
  return (
    select ceil(
      private.as_count(s.sandbox -> 'vcpus')::numeric * private.as_count(s.sandbox -> 'vcpu_second')
      + private.as_count(s.sandbox -> 'memory_mib')::numeric * private.as_count(s.sandbox -> 'gib_second') / 1024
    )::bigint
    from (select p.list -> 'sandbox' as sandbox from private.price_list p) s
  );

create function private.sandbox_microusd(milliseconds bigint) returns bigint
  language sql stable set search_path = ''
  return ceil(milliseconds::numeric * private.sandbox_nanousd_per_second() / 1000000)::bigint;
