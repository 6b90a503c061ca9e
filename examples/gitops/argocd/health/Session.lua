-- Health of a Session, for Argo CD. It needs nothing beyond the basic library, so `useOpenLibs` stays off.
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

-- The first of these that is a text.
local function say(...)
  for index = 1, select("#", ...) do
    local value = select(index, ...)
    if is_text(value) then
      return value
    end
  end
  return ""
end

if metadata.deletionTimestamp ~= nil then
  return health("Progressing", "Pending deletion")
end
if not is_text(status.phase) then
  return health("Progressing", "the operator has not looked at this Session yet")
end
if type(status.observedGeneration) ~= "number" or status.observedGeneration ~= metadata.generation then
  return health("Progressing", "the operator has not looked at the last change of this Session yet")
end

local phase = status.phase
local message = say(status.message, condition("Ready").message, phase)

if phase == "Failed" or holds("Stalled") then
  return health("Degraded", say(status.reason, "Failed") .. ": " .. say(status.message, condition("Stalled").message, phase))
end
if (phase == "Disconnected" or phase == "Terminated") and (is_text(status.endedAt) or holds("Ended")) then
  return health("Suspended", say(status.reason, phase) .. ": " .. say(status.message, condition("Ended").message, phase))
end
if holds("Ready") and not holds("Reconciling") and phase ~= "Pending" and phase ~= "Starting" and phase ~= "Disconnected" then
  return health("Healthy", message)
end
return health("Progressing", phase .. ": " .. message)
