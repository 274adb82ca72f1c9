-- Step (see breaker/step.go) as one atomic script. KEYS[1] is the circuit, a record (see
-- breaker/store.go). ARGV: the event, the settings, the channel of changes, and the TTLs
-- of a circuit, of a held one, and of a closed one that no operator has changed, in
-- milliseconds.

local e, s = cjson.decode(ARGV[1]), cjson.decode(ARGV[2])
local stored = redis.call('GET', KEYS[1])
local c = stored and cjson.decode(stored) or {key = e.key, state = 'CLOSED', gen = 1}
local from = c.state
local granted, next_at, written, changed, notable = false, nil, false, false, false

local function n(v) return v or 0 end

local function add(field, v)
  if n(v) ~= 0 then c[field] = n(c[field]) + v end
end

local function change(to, cause)
  c.state, c.held, c.next = to, nil, nil
  c.gen = n(c.gen) + 1
  c.cause, c.note, c.at, c.by = cause, nil, now, e.by
  c.oks = nil
  if to == 'CLOSED' then c.out = nil else c.out = c.out or now end
  written, changed = true, true
end

local function open(cause, ms)
  change('OPEN', cause)
  c.next = now + ms
  c.tries = nil
end

local function close(cause)
  change('CLOSED', cause)
  c.fails, c.tries, c.win = nil, nil, nil
end

-- operated records who made the change, and why.
local function operated()
  c.note = e.note
  c.op = {act = c.cause, by = e.operator, note = e.note, at = now}
end

local function count(t)
  add('n', t.n)
  add('nf', t.nf)
  local results = n(t.n)
  if results > 0 then
    local span = math.max(results, math.min(n(c.n), 100))
    c.ms = n(c.ms) + (n(t.ms) - results * n(c.ms)) / span
  end
  if n(t.nf) > 0 then
    c.last = now
    c.err = t.err or c.err
  end
  written = true
end

-- keep removes the probes for which want is false.
local function keep(want)
  local kept = {}
  for _, p in ipairs(c.probes or {}) do
    if want(p) then kept[#kept + 1] = p end
  end
  c.probes = #kept > 0 and kept or nil
end

local function unexpired(p) return p.exp > now end

-- The failure rate's window.

local width = math.max(math.floor(s.window / 10), 1)

local function bucket_start(t) return t - t % width end

local function observe(successes, failures)
  if s.rate == 0 then
    c.win = nil
    return
  end
  local oldest, win = bucket_start(now) - 9 * width, {}
  for _, b in ipairs(c.win or {}) do
    if b.t >= oldest then win[#win + 1] = b end
  end
  if #win == 0 or bucket_start(now) > win[#win].t then
    win[#win + 1] = {t = bucket_start(now), s = 0, f = 0}
  end
  while #win > 10 do table.remove(win, 1) end
  local last = win[#win]
  last.s, last.f = last.s + successes, last.f + failures
  c.win = win
end

local function too_many_fail()
  if s.rate == 0 then return false end
  local calls, failures = 0, 0
  for _, b in ipairs(c.win or {}) do
    calls, failures = calls + b.s + b.f, failures + b.f
  end
  return calls >= s.minimum and failures >= s.rate * calls
end

-- Merging.

local function badness(x)
  if x.held then return 3 end
  return ({CLOSED = 0, HALF_OPEN = 1, OPEN = 2})[x.state]
end

local function merge_window(mine)
  if #mine == 0 then return end
  local by_start = {}
  for _, list in ipairs({c.win or {}, mine}) do
    for _, b in ipairs(list) do
      local a = by_start[b.t]
      if not a or b.f > a.f or (b.f == a.f and b.s > a.s) then by_start[b.t] = b end
    end
  end
  local all = {}
  for _, b in pairs(by_start) do all[#all + 1] = b end
  table.sort(all, function(a, b) return a.t < b.t end)
  while #all > 10 do table.remove(all, 1) end
  c.win = all
end

local function merge_probes(mine, returned)
  local gone, have = {}, {}
  for _, id in ipairs(returned) do gone[id] = true end
  keep(function(p) return not gone[p.id] end)
  local all = c.probes or {}
  for _, p in ipairs(all) do have[p.id] = true end
  for _, p in ipairs(mine) do
    if not have[p.id] and not gone[p.id] then all[#all + 1] = p end
  end
  c.probes = all
  keep(unexpired)
end

local function nonzero(v)
  if v ~= 0 then return v end
end

local handlers = {}

function handlers.report()
  local t = e.tally
  if n(t.n) == 0 then return end
  count(t)
  if e.gen ~= c.gen or c.state ~= 'CLOSED' then return end
  local peak = math.max(n(c.fails) + n(t.lead), n(t.long))
  local before = n(c.fails)
  if n(t.s) == 0 then
    c.fails = nonzero(n(c.fails) + n(t.f))
  else
    c.fails = nonzero(n(t.trail))
  end
  notable = n(c.fails) ~= before
  observe(n(t.s), n(t.f))
  if peak >= s.threshold then
    open('failures', s.timeout)
    c.op = nil
  elseif n(t.f) > 0 and too_many_fail() then
    open('failure_rate', s.timeout)
    c.op = nil
  end
end

function handlers.acquire()
  if c.state == 'CLOSED' then
    granted = true
    return
  end
  if c.held then return end
  if c.state == 'OPEN' and now < n(c.next) then
    next_at = c.next
    return
  end
  local in_flight, first = 0, nil
  for _, p in ipairs(c.probes or {}) do
    if unexpired(p) then
      in_flight = in_flight + 1
      if not first or p.exp < first then first = p.exp end
    end
  end
  if in_flight >= s.probes then
    next_at = first
    return
  end
  if c.state == 'OPEN' then change('HALF_OPEN', 'timeout') end
  keep(unexpired)
  c.probes = c.probes or {}
  table.insert(c.probes, {id = e.probe, exp = now + s.lease})
  c.tries = n(c.tries) + 1
  granted, written, notable = true, true, true
end

handlers['return'] = function()
  local known = false
  keep(unexpired)
  keep(function(p)
    known = known or p.id == e.probe
    return p.id ~= e.probe
  end)
  written, notable = known, known
  if n(e.tally.n) > 0 then count(e.tally) end
  if not known or e.gen ~= c.gen or c.state ~= 'HALF_OPEN' then return end
  if e.result == 'success' then
    c.oks = n(c.oks) + 1
    if c.oks >= s.successes then
      close('probes_succeeded')
      c.op = nil
    end
  elseif e.result == 'failure' then
    c.fails = n(c.fails) + 1
    open('probe_failed', s.timeout)
  end
end

function handlers.trip()
  if c.held then return end
  open('tripped', n(e['for']) > 0 and e['for'] or s.timeout)
  operated()
end

function handlers.hold()
  open('held', 0)
  c.held, c.next = true, nil
  operated()
end

function handlers.reset()
  close('reset')
  operated()
end

function handlers.rejoin()
  local mine = e.circuit
  written, notable = true, true
  if n(c.v) == 0 then
    local key, gen = c.key, n(c.gen)
    c = mine
    c.key, c.gen = key, math.max(gen, n(mine.gen))
    keep(unexpired)
    return
  end
  count(e.tally)
  if not e.diverged and n(mine.v) <= n(c.v) and n(mine.gen) <= n(c.gen) then
    merge_probes({}, e.returned or {})
    return
  end
  merge_probes(mine.probes or {}, e.returned or {})
  c.v = math.max(n(c.v), n(mine.v))
  local a, b = badness(mine), badness(c)
  if a > b then
    local gen = n(c.gen)
    c.state, c.held, c.next = mine.state, mine.held, mine.next
    c.fails, c.tries, c.oks = mine.fails, mine.tries, mine.oks
    c.gen = n(mine.gen)
    if gen >= c.gen then c.gen = gen + 1 end
    c.cause, c.note, c.at, c.by, c.op = 'merged', mine.note, now, e.by, mine.op
    c.out = c.out or mine.out
    changed = true
  elseif a < b then
    if n(mine.gen) >= n(c.gen) then c.gen = n(mine.gen) + 1 end
  else
    c.gen = math.max(n(c.gen), n(mine.gen))
    c.fails = nonzero(math.max(n(c.fails), n(mine.fails)))
    c.oks = nonzero(math.min(n(c.oks), n(mine.oks)))
    c.next = nonzero(math.max(n(c.next), n(mine.next)))
    if mine.op and (not c.op or mine.op.at > c.op.at) then c.op = mine.op end
    merge_window(mine.win or {})
  end
end

if e.kind ~= 'rejoin' and (n(e.seen) > n(c.v) or n(e.seen) > 0 and n(e.seengen) > n(c.gen)) then
  return cjson.encode({lost = true, now = now, circuit = c})
end

handlers[e.kind]()

if written then
  c.v = n(c.v) + 1
  local ttl = tonumber(ARGV[4])
  if c.held then
    ttl = tonumber(ARGV[5])
  elseif n(c.next) > now then
    ttl = ttl + c.next - now
  elseif c.state == 'CLOSED' and not c.note and not ({tripped = true, held = true, reset = true})[c.cause or ''] then
    ttl = tonumber(ARGV[6])
  end
  local encoded = cjson.encode(c)
  redis.call('SET', KEYS[1], encoded, 'PX', string.format('%.0f', ttl))
  if changed or notable then redis.call('PUBLISH', ARGV[3], encoded) end
elseif stored then
  c = cjson.decode(stored)
end
return cjson.encode({
  now = now, granted = granted, next = next_at, written = written,
  changed = changed, from = from, circuit = c,
})
