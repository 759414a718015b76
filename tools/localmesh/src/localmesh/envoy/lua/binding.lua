-- Which RPC the transcoder has made of a request, and by which of its bindings; nothing for what is no REST.
function transcoded(headers)
  return headers:get("x-envoy-original-path") ~= nil
end

function binding_of(headers)
  local method = METHODS[headers:get(":path")]
  if not method then return nil, nil end
  local path, verb = headers:get("x-envoy-original-path"):match("^[^?]*"), headers:get("x-envoy-original-method")
  for _, binding in ipairs(method.bindings) do
    if binding.verb == verb then
      for _, pattern in ipairs(binding.patterns) do
        if path:find(pattern) then return method, binding end
      end
    end
  end
  return nil, nil
end
