-- Health of a ModelDeployment, as `kubectl wait --for=condition=Ready` sees it.

local function progressing(message)
  return { status = "Progressing", message = message }
end

local status = obj.status
if status == nil or status.conditions == nil then
  return progressing("Waiting for the operator")
end
-- What was observed before the last change says nothing about it.
if status.observedGeneration == nil or status.observedGeneration < obj.metadata.generation then
  return progressing("Waiting for the operator to see the last change")
end

local conditions = {}
for _, condition in ipairs(status.conditions) do
  if condition.observedGeneration == nil or condition.observedGeneration >= obj.metadata.generation then
    conditions[condition.type] = condition
  end
end

local function holds(name)
  return conditions[name] ~= nil and conditions[name].status == "True"
end

local function words(condition)
  return condition.reason .. ": " .. condition.message
end

-- Stalled comes before Ready: an older revision can serve on while the wanted one cannot come up.
if holds("Stalled") then
  return { status = "Degraded", message = words(conditions["Stalled"]) }
end
local ready = conditions["Ready"]
if ready == nil then
  return progressing("Waiting for the operator")
end
local complete = conditions["RolloutComplete"]
-- A name that the spec follows moved, or what it moved to was rejected: no commit asked for it, and stable serves.
if ready.status == "True" and not holds("Reconciling") and complete ~= nil and complete.status == "False" then
  if complete.reason ~= "Suspended" then
    return { status = "Healthy", message = words(ready) .. "; " .. words(complete) }
  end
end
if holds("Suspended") then
  return { status = "Suspended", message = words(conditions["Suspended"]) }
end
if holds("Reconciling") then
  return progressing(words(conditions["Reconciling"]))
end
if ready.status == "True" then
  return { status = "Healthy", message = words(ready) }
end
return progressing(words(ready))
