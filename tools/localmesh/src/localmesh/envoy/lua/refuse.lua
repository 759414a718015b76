-- After the tokens: refuses what REST may not say, and turns If-Match into the etag of the message.
local function refuse(handle, status, field, description)
  local message = description
  if field ~= "" then
    message = field .. " " .. description
    local violations = { { field = field, description = description } }
    handle:streamInfo():dynamicMetadata():set("rest", "violations", violations)
  end
  handle:respond({ [":status"] = status }, message)
end

local function request(handle)
  local headers = handle:headers()
  local is_rest = transcoded(headers)
  if is_rest or headers:get("x-grpc-web") then handle:streamInfo():dynamicMetadata():set("rest", "changed", true) end
  if not is_rest then return end
  local method, binding = binding_of(headers)
  if not binding then
    refuse(handle, "404", "", "there is no such path")
    return
  end
  handle:streamInfo():dynamicMetadata():set("rest", "template", binding.template)
  local path, query = headers:get("x-envoy-original-path"):match("^([^?]*)%??(.*)$")
  local wrong = query_fault(query, method, binding)
  if wrong then
    refuse(handle, "400", wrong.field, wrong.description)
    return
  end
  headers:replace("x-envoy-original-path", path)
  local etag, status, description = wanted_etag(headers, method, binding.verb)
  if status then
    refuse(handle, status, "", description)
    return
  end
  local body = handle:body()
  local noted = handle:streamInfo():dynamicMetadata():get("rest") or {}
  if noted.failed then error("a body was not looked at") end
  if noted.fault then
    refuse(handle, "400", noted.fault.field, noted.fault.description)
    return
  end
  if handle:headers():get("if-match") ~= nil then
    handle:streamInfo():dynamicMetadata():set("rest", "precondition", true)
  end
  if etag then
    local conflict = put_etag(body, method.etag, etag)
    if conflict then refuse(handle, "400", "etag", conflict) end
  end
end

-- A script that fails does not stop a request: Envoy would let it through.
function envoy_on_request(handle)
  local fine, wrong = pcall(request, handle)
  if not fine then
    handle:logErr("refuse: " .. tostring(wrong))
    handle:respond({ [":status"] = "500" }, "the request cannot be judged")
  end
end

-- The access log cannot see what becomes JSON, or a part of a body of gRPC-Web.
function envoy_on_response(handle)
  local noted = handle:streamInfo():dynamicMetadata()
  if not (noted:get("rest") or {}).changed then return end
  local status = handle:headers():get("grpc-status")
  if status == nil then
    local trailers = handle:trailers()
    status = trailers and trailers:get("grpc-status")
  end
  if status then handle:streamInfo():dynamicMetadata():set("rest", "grpc_status", status) end
end
