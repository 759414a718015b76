-- Reads a query as forms are written (the URL Standard's application/x-www-form-urlencoded), and says what is wrong in it.
local function decoded(text)
  local plain = text:gsub("+", " ")
  return (plain:gsub("%%(%x%x)", function(digits) return string.char(tonumber(digits, 16)) end))
end

-- The field that a name such as `item.displayName` means, in the names of the proto, and whether it may be repeated.
local function meant(name, request)
  local fields, path, many = TYPES[request], {}, false
  for part in name:gmatch("[^.]+") do
    local field = fields and fields[part]
    path[#path + 1] = field and field.name or part
    many = many or (field and (field.many or field.keyed)) or false
    fields = field and field.type and TYPES[field.type] or nil
  end
  return table.concat(path, "."), many
end

-- Whether `path` is one of the fields, is inside of one, or has one inside.
local function touches(path, fields)
  for field in pairs(fields) do
    if path == field or path:sub(1, #field + 1) == field .. "." or field:sub(1, #path + 1) == path .. "." then
      return true
    end
  end
  return false
end

function query_fault(query, method, binding)
  local seen = {}
  for pair in query:gmatch("[^&]+") do
    local name = decoded(pair:match("^[^=]*"))
    if name == "" then return { field = "", description = "the query of the URL has a value without a name" } end
    if binding.body == "*" then
      return { field = name, description = "is in the query of the URL; this method takes its fields from the body" }
    end
    local path, many = meant(name, method.request)
    if touches(path, binding.bound) then
      return { field = name, description = "is in the path of the URL, and may not be anywhere else" }
    end
    if binding.body ~= "" and touches(path, { [binding.body] = true }) then
      return { field = name, description = "is the body, and may not be anywhere else" }
    end
    if not pair:find("=", 1, true) then
      return { field = name, description = "has no value in the query of the URL; write " .. name .. "=" }
    end
    if seen[path] and not many then return { field = name, description = "is there more than once" } end
    seen[path] = true
  end
  return nil
end
