-- The outermost: brings what callers write in several ways into one, and completes what they are answered.
local JSON = "application/json"
-- What servers alone say, or gRPC to itself; its core chokes on what it does not expect there.
local NEVER_ASKED = {
  "grpc-internal-encoding-request", "grpc-message", "grpc-retry-pushback-ms", "grpc-status", "grpclb_client_stats",
  "lb-cost-bin", "lb-token", "x-envoy-original-method", "x-envoy-original-path",
}
local GRPC = { ["application/grpc"] = true, ["application/grpc-web"] = true, ["application/grpc-web-text"] = true }
local ENCODINGS = { identity = true, deflate = true, gzip = true }

-- A body that is too large is still taken to its end, and thrown away: clients that are answered before they have sent
-- all may take that for a failure. One without end is not.
local function take(handle)
  local bytes = 0
  for chunk in handle:bodyChunks() do
    bytes = bytes + chunk:length()
    if bytes > MAX_BODY then
      handle:streamInfo():dynamicMetadata():set("rest", "too_large", true)
      if bytes <= MAX_TAKEN then chunk:setBytes("") end
    end
  end
end

-- Base64 as gRPC's core reads it: padded or not, and without stray bits at its end.
local function is_base64(value)
  local text = value:match("^([%w+/]*)=?=?$")
  local left = text and #text % 4
  return left == 0 or (left == 2 and text:find("[AQgw]$")) or (left == 3 and text:find("[AEIMQUYcgkosw048]$"))
end

-- What gRPC's core cannot read, which would be an INTERNAL or a 500 of the service's, and what HTTP/2 does not allow.
local function header_fault(headers)
  if not (headers:get(":authority") or ""):find("^[%w._~%%!$&'()*+,;=:%[%]-]+$") then
    return "host is the name of a host, and its port"
  end
  local time = headers:get("grpc-timeout")
  if time and not (time:find("^%d+[HMSmun]$") and #time <= 9) then
    return "grpc-timeout is up to eight digits and one of H, M, S, m, u, n, such as 500m"
  end
  local attempts = headers:get("grpc-previous-rpc-attempts")
  if attempts and not (attempts:find("^%d+$") and #attempts <= 9) then return "grpc-previous-rpc-attempts is a number" end
  local wrong = nil
  for name, value in pairs(headers) do -- to its end: Envoy counts a loop that is left as one that goes on
    if name:sub(-4) == "-bin" and not is_base64(value) then wrong = name .. " is to be in base64" end
  end
  return wrong
end

-- Returns whether there is a body to be taken.
local function request(handle)
  local headers = handle:headers()
  for _, name in ipairs(NEVER_ASKED) do
    headers:remove(name)
  end
  local token = (headers:get("authorization") or ""):match("^[Bb][Ee][Aa][Rr][Ee][Rr] +(.*)$")
  if token then headers:replace("authorization", "Bearer " .. token) end
  local correlation = headers:get("x-correlation-id") or ""
  if #correlation > 128 or not correlation:find("^[%w._:/+=@-]+$") then
    headers:replace("x-correlation-id", headers:get("x-request-id"))
  end
  -- The filter for gRPC-Web leaves no other trace of what it has changed.
  local kind = headers:get("content-type") or ""
  if kind:find("^application/grpc%-web") then
    headers:replace("x-grpc-web", "1")
  else
    headers:remove("x-grpc-web")
  end
  if headers:get(":method") == "CONNECT" then -- its body has no end
    handle:respond({ [":status"] = "405" }, "there are no tunnels here")
    return false
  end
  local wrong = header_fault(headers)
  if not GRPC[kind:match("^[^+]*")] then
    headers:remove("grpc-encoding") -- of JSON it says nothing
    if wrong then handle:streamInfo():dynamicMetadata():set("rest", "header", wrong) end -- said when the body is read
    return true
  end
  if headers:get(":method") ~= "POST" then
    handle:respond({ [":status"] = "405" }, "gRPC is asked by POST")
    return false
  end
  headers:replace("te", "trailers") -- core resets a call without it, which would look like a service that is ill
  if wrong then
    handle:respond({ [":status"] = "400" }, wrong)
  elseif not ENCODINGS[headers:get("grpc-encoding") or "identity"] then
    handle:respond({ [":status"] = "501", ["grpc-accept-encoding"] = "identity,deflate,gzip" },
      "a message is compressed by gzip or deflate, or not at all")
  end
  return false
end

-- A script that fails does not stop a request: Envoy would let it through.
function envoy_on_request(handle)
  local fine, has_body = pcall(request, handle)
  if not fine then
    handle:logErr("arrive: " .. tostring(has_body))
    handle:respond({ [":status"] = "500" }, "the request cannot be judged")
  elseif has_body then
    take(handle)
  end
end

local function is_json(headers)
  return (headers:get("content-type") or ""):sub(1, #JSON) == JSON
end

local function text(handle)
  local body = handle:body()
  return body and body:getBytes(0, body:length()) or ""
end

-- How long to wait, in whole seconds: what google.rpc.RetryInfo says, or one.
local function pause(body)
  local seconds, fraction = body:match('"retry_delay":"(%d+)(%.?%d*)s"')
  local whole = tonumber(seconds or "1") + (tonumber("0" .. (fraction or "")) > 0 and 1 or 0)
  return string.format("%d", math.max(1, whole))
end

function envoy_on_response(handle)
  local headers = handle:headers()
  local status, reply_status = headers:get(":status"), headers:get("x-reply-status")
  if status == "200" and not reply_status then return end
  local noted = handle:streamInfo():dynamicMetadata():get("rest") or {}
  if noted.grpc_status and not headers:get("grpc-status") then headers:add("grpc-status", noted.grpc_status) end
  if reply_status then
    headers:replace("grpc-status", reply_status)
    headers:replace(":status", "200")
    headers:remove("x-reply-status")
    status = "200"
  end
  if status == "401" or headers:get("www-authenticate") then
    -- Envoy's own realm is the whole URL, query included.
    local challenge = headers:get("www-authenticate") or 'Bearer realm=""'
    headers:replace("www-authenticate", (challenge:gsub('^Bearer realm="[^"]*"', 'Bearer realm="' .. REALM .. '"')))
  elseif (status == "429" or status == "503") and not headers:get("retry-after") then
    local seconds = pause(is_json(headers) and text(handle) or "")
    handle:headers():add("retry-after", seconds)
  elseif status == "409" and noted.precondition and noted.grpc_status == "10" then
    headers:replace(":status", "412")
  end
end
