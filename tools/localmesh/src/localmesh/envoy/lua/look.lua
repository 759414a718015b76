-- Before the transcoder: looks at the JSON while it is there. What is wrong is said later, once the token has been judged.
local GRPC = "application/grpc"

local function check(handle, text)
  local method, binding = binding_of(handle:headers())
  if not binding then return nil end
  local fields, canonical = TYPES[method.request], ""
  if binding.body == "" then
    fields = {}
  elseif binding.body ~= "*" then
    local field = TYPES[method.request][binding.body]
    if field.keyed then return nil end
    fields, canonical = field.type and TYPES[field.type], field.name
  end
  if not text:find("[^ \t\r\n]") then return nil end
  return json_fault(text, fields, binding.bound, canonical)
end

local function request(handle)
  local headers = handle:headers()
  local kind = headers:get("content-type") or ""
  if kind == GRPC or kind:sub(1, #GRPC + 1) == GRPC .. "+" then return end -- as the transcoder tells it from the rest
  local noted = handle:streamInfo():dynamicMetadata():get("rest") or {}
  if noted.too_large then
    handle:respond({ [":status"] = "413" }, "the body is too large")
    return
  end
  if noted.header then
    handle:respond({ [":status"] = "400" }, noted.header)
    return
  end
  local encoding = (headers:get("content-encoding") or "identity"):lower()
  if encoding ~= "identity" and encoding ~= "" then
    handle:respond({ [":status"] = "415", ["accept-encoding"] = "identity" },
      "a body may not be compressed; send it without content-encoding")
    return
  end
  local parts = {}
  for chunk in handle:bodyChunks() do
    if not transcoded(handle:headers()) then return end
    parts[#parts + 1] = chunk:getBytes(0, chunk:length())
  end
  if #parts == 0 or not transcoded(handle:headers()) then return end
  local wrong = check(handle, table.concat(parts))
  if wrong then handle:streamInfo():dynamicMetadata():set("rest", "fault", wrong) end
end

-- A script that fails does not stop a request: Envoy would let it through.
function envoy_on_request(handle)
  local fine, wrong = pcall(request, handle)
  if not fine then
    handle:logErr("look: " .. tostring(wrong))
    handle:streamInfo():dynamicMetadata():set("rest", "failed", true)
  end
end
