-- Reads JSON (RFC 8259) as far as it takes to say which fields it names. The transcoder is more liberal: it takes single
-- quotes, commas at the end and the like. What two readers could read in two ways is refused, so that there is one way.
local find, sub, char = string.find, string.sub, string.char
local DEEPEST = 64
local LONGEST = 200

-- Where the reader is: names of fields and indexes of arrays, from the outside in. They are joined only where something
-- is wrong: joined at every step, one name of half a megabyte before many short ones would be copied for each of them.
local trail = {}

local function shown()
  local text = ""
  for _, part in ipairs(trail) do
    if type(part) == "number" then
      text = text .. "[" .. part .. "]"
    else
      text = text == "" and part or text .. "." .. part
    end
  end
  if #text <= LONGEST then return text end
  return (sub(text, 1, LONGEST):gsub("[\192-\255][\128-\191]*$", "")) .. "..."
end

local function fault(description)
  error({ field = shown(), description = description }, 0)
end

local function broken(at, what)
  error({ field = "", description = "the body is no JSON at byte " .. at .. ": " .. what }, 0)
end

local function after_space(text, at)
  local _, last = find(text, "^[ \t\r\n]*", at)
  return last + 1
end

local function utf8(code)
  if code < 0x80 then return char(code) end
  if code < 0x800 then return char(0xC0 + math.floor(code / 0x40), 0x80 + code % 0x40) end
  if code < 0x10000 then
    return char(0xE0 + math.floor(code / 0x1000), 0x80 + math.floor(code / 0x40) % 0x40, 0x80 + code % 0x40)
  end
  return char(0xF0 + math.floor(code / 0x40000), 0x80 + math.floor(code / 0x1000) % 0x40,
    0x80 + math.floor(code / 0x40) % 0x40, 0x80 + code % 0x40)
end

local ESCAPES = { b = "\b", f = "\f", n = "\n", r = "\r", t = "\t", ['"'] = '"', ["\\"] = "\\", ["/"] = "/" }

local function escape(text, at)
  local letter = sub(text, at + 1, at + 1)
  if ESCAPES[letter] then return ESCAPES[letter], at + 2 end
  local _, last, digits = find(text, "^\\u(%x%x%x%x)", at)
  if not last then broken(at, "an unknown escape") end
  local code = tonumber(digits, 16)
  if code >= 0xD800 and code < 0xDC00 then
    local _, low_last, low = find(text, "^\\u([dD][c-fC-F]%x%x)", last + 1)
    if not low_last then broken(at, "half a surrogate pair") end
    return utf8(0x10000 + (code - 0xD800) * 0x400 + tonumber(low, 16) - 0xDC00), low_last + 1
  end
  if code >= 0xDC00 and code < 0xE000 then broken(at, "half a surrogate pair") end
  return utf8(code), last + 1
end

-- Returns the text between the quotes and the place after them.
local function quoted(text, at)
  local parts, from = {}, at + 1
  while true do
    local stop = find(text, '[%z\1-\31"\\]', from)
    if not stop then broken(at, "a string without end") end
    parts[#parts + 1] = sub(text, from, stop - 1)
    local byte = sub(text, stop, stop)
    if byte == '"' then return table.concat(parts), stop + 1 end
    if byte ~= "\\" then broken(stop, "a control character in a string") end
    parts[#parts + 1], from = escape(text, stop)
  end
end

local function number(text, at)
  local _, last = find(text, "^-?[1-9]%d*", at)
  if not last then _, last = find(text, "^-?0", at) end
  if not last then broken(at, "no value") end
  local _, point = find(text, "^%.%d+", last + 1)
  last = point or last
  local _, exponent = find(text, "^[eE][+-]?%d+", last + 1)
  return (exponent or last) + 1
end

local value

local function joined(path, name)
  return path == "" and name or path .. "." .. name
end

-- `canonical` is the path without indexes and in the names of the proto, as far as messages reach.
local function object(text, at, shape, canonical, bound, depth)
  local seen = {}
  at = after_space(text, at + 1)
  if sub(text, at, at) == "}" then return at + 1 end
  while true do
    if sub(text, at, at) ~= '"' then broken(at, "no name of a field in double quotes") end
    local key, next_at = quoted(text, at)
    trail[#trail + 1] = key
    local field, name, path = nil, key, canonical
    if shape.fields then
      field = shape.fields[key]
      if not field then fault("is no field of this request") end
      name, path = field.name, joined(canonical, field.name)
      if bound[path] then fault("is in the path of the URL, and may not be anywhere else") end
    end
    if seen[name] then fault("is there more than once") end
    seen[name] = true
    at = after_space(text, next_at)
    if sub(text, at, at) ~= ":" then broken(at, "no colon after a field's name") end
    local inner = {}
    if field then
      inner = field.keyed and { values = { fields = field.type and TYPES[field.type] } }
        or { fields = field.type and TYPES[field.type] }
    elseif shape.values then
      inner = shape.values
    end
    at = after_space(text, value(text, after_space(text, at + 1), inner, path, bound, depth + 1))
    trail[#trail] = nil
    local byte = sub(text, at, at)
    if byte == "}" then return at + 1 end
    if byte ~= "," then broken(at, "neither a comma nor the end of an object") end
    at = after_space(text, at + 1)
  end
end

local function array(text, at, shape, canonical, bound, depth)
  local index, level = 0, #trail + 1
  at = after_space(text, at + 1)
  if sub(text, at, at) == "]" then return at + 1 end
  while true do
    trail[level] = index
    at = after_space(text, value(text, at, shape, canonical, bound, depth + 1))
    trail[level] = nil
    local byte = sub(text, at, at)
    if byte == "]" then return at + 1 end
    if byte ~= "," then broken(at, "neither a comma nor the end of an array") end
    at, index = after_space(text, at + 1), index + 1
  end
end

function value(text, at, shape, canonical, bound, depth)
  if depth > DEEPEST then fault("is more than " .. DEEPEST .. " levels deep") end
  local byte = sub(text, at, at)
  if byte == "{" then return object(text, at, shape, canonical, bound, depth) end
  if byte == "[" then return array(text, at, shape, canonical, bound, depth) end
  if byte == '"' then
    local _, next_at = quoted(text, at)
    return next_at
  end
  for _, word in ipairs({ "true", "false", "null" }) do
    if sub(text, at, at + #word - 1) == word then return at + #word end
  end
  return number(text, at)
end

-- Returns nothing, or what is wrong: {field = ..., description = ...}, where the field may be empty.
function json_fault(text, fields, bound, canonical)
  trail = {}
  local fine, wrong = pcall(function()
    local at = after_space(text, 1)
    local last = after_space(text, value(text, at, { fields = fields }, canonical, bound, 0))
    if last <= #text then broken(last, "more after the end") end
  end)
  if fine then return nil end
  if type(wrong) ~= "table" then error(wrong, 0) end
  return wrong
end
