-- Health of a SessionPolicy, for Argo CD. A policy has no status: the API server has checked it when it was written, and
-- what is wrong with it is told by the Workspaces that it governs. So it is healthy as soon as it is there.

local object = type(obj) == "table" and obj or {}
local metadata = type(object.metadata) == "table" and object.metadata or {}

if metadata.deletionTimestamp ~= nil then
  return { status = "Progressing", message = "Pending deletion" }
end
return { status = "Healthy", message = "a SessionPolicy holds as soon as it is written" }
