-- Health of a Workspace, for Argo CD. It needs nothing beyond the basic library, so `useOpenLibs` stays off.
-- What the status says is taken only where it has the type that it should have.

local function is_text(value)
  return type(value) == "string" and value ~= ""
end

local function health(status, message)
  return { status = status, message = message }
end

local object = type(obj) == "table" and obj or {}
local metadata = type(object.metadata) == "table" and object.metadata or {}
local status = type(object.status) == "table" and object.status or {}

local function condition(name)
  if type(status.conditions) == "table" then
    for _, each in ipairs(status.conditions) do
      if type(each) == "table" and each.type == name then
        return each
      end
    end
  end
  return {}
end

local function holds(name)
  return condition(name).status == "True"
end

if metadata.deletionTimestamp ~= nil then
  return health("Progressing", "Pending deletion")
end
if not is_text(status.phase) then
  return health("Progressing", "the operator has not looked at this Workspace yet")
end
if type(status.observedGeneration) ~= "number" or status.observedGeneration ~= metadata.generation then
  return health("Progressing", "the operator has not looked at the last change of this Workspace yet")
end

local phase = status.phase
local ready = condition("Ready")
local message = phase
if is_text(ready.message) then
  message = phase .. ": " .. ready.message
end

if phase == "Unavailable" or holds("Stalled") then
  return health("Degraded", message)
end
if holds("Reconciling") or not holds("Ready") then
  return health("Progressing", message)
end
if phase == "Maintenance" then
  return health("Suspended", message)
end
return health("Healthy", message)
