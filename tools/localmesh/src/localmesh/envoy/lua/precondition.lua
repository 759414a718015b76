-- If-Match (RFC 9110, section 13.1.1) is the etag of a request: it is put into the message that the transcoder has made.
local NOT_TAKEN = { "if-match", "if-none-match", "if-unmodified-since" }
local SAFE = { GET = true, HEAD = true, OPTIONS = true }

local function all_values(headers, name)
  local values = {}
  for index = 0, headers:getNumValues(name) - 1 do
    values[#values + 1] = headers:getAtIndex(name, index)
  end
  return table.concat(values, ",")
end

-- The strong etags of a list, each once, and whether the list is one. A weak etag is never equal to anything here.
local function strong(text)
  local found, seen, at, any = {}, {}, 1, false
  while true do
    at = text:match("^[ \t,]*()", at)
    if at > #text then return found, any end
    local weak, etag, next_at = text:match('^(W?/?)("[!#-~\128-\255]*")[ \t]*()', at)
    if not etag or (weak ~= "" and weak ~= "W/") then return nil, false end
    if next_at <= #text and text:sub(next_at, next_at) ~= "," then return nil, false end
    any = true
    if weak == "" and not seen[etag] then
      seen[etag] = true
      found[#found + 1] = etag
    end
    at = next_at
  end
end

local function varint(data, at)
  local result, factor = 0, 1
  while true do
    local byte = data:byte(at)
    if not byte then error("a message of the transcoder ends too early") end
    result, at = result + byte % 128 * factor, at + 1
    if byte < 128 then return result, at end
    factor = factor * 128
  end
end

local function as_varint(value)
  local bytes = {}
  while value >= 128 do
    bytes[#bytes + 1] = string.char(value % 128 + 128)
    value = math.floor(value / 128)
  end
  return table.concat(bytes) .. string.char(value)
end

-- The last value of a field of text in a message, as those who parse it see it.
local function text_of(message, wanted)
  local at, found = 1, ""
  while at <= #message do
    local tag, length
    tag, at = varint(message, at)
    local kind, field = tag % 8, math.floor(tag / 8)
    if kind == 0 then
      length, at = varint(message, at)
    elseif kind == 1 then
      at = at + 8
    elseif kind == 2 then
      length, at = varint(message, at)
      if field == wanted then found = message:sub(at, at + length - 1) end
      at = at + length
    elseif kind == 5 then
      at = at + 4
    else
      error("a message of the transcoder has a group")
    end
  end
  return found
end

local function framed(message)
  local length = #message
  local function byte(shift) return string.char(math.floor(length / shift) % 256) end
  return "\0" .. byte(16777216) .. byte(65536) .. byte(256) .. byte(1) .. message
end

-- What the request wants of the resource: an etag or nothing, or else a status and what is wrong.
function wanted_etag(headers, method, verb)
  if headers:get("if-match") == nil or method.etag == nil then
    if SAFE[verb] and headers:get("if-match") == nil then return nil end
    for _, name in ipairs(NOT_TAKEN) do
      if headers:get(name) ~= nil and not (name == "if-unmodified-since" and headers:get("if-match") ~= nil) then
        return nil, "400", "this method takes no " .. name
      end
    end
    return nil
  end
  if headers:get("if-none-match") ~= nil then return nil, "400", "this method takes no if-none-match" end
  local value = all_values(headers, "if-match")
  if value:match("^[ \t]*%*[ \t]*$") then return nil end
  local etags, any = strong(value)
  if etags == nil or not any then
    return nil, "400", 'if-match is no list of etags: an etag is in double quotes, such as "1"'
  end
  if #etags == 0 then return nil, "412", "a weak etag in if-match is no resource's" end
  if #etags > 1 then return nil, "400", "if-match may name one etag only" end
  return etags[1]
end

-- Puts the etag into the one message of a body; returns what is wrong where the body names another one.
function put_etag(body, number, etag)
  local message = body:getBytes(5, body:length() - 5)
  local named = text_of(message, number)
  if named ~= "" and named ~= etag then return "is another one than if-match names" end
  if named == "" then
    body:setBytes(framed(message .. as_varint(number * 8 + 2) .. as_varint(#etag) .. etag))
  end
  return nil
end
