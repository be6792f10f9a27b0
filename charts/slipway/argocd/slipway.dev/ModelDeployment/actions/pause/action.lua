-- Hold the rollout at its step; its gates can still abort it.
local me = "system:serviceaccount:argocd:argocd-server"

local rollout = obj.status and obj.status.rollout
if rollout == nil then
  error("no rollout is under way", 0)
end
if rollout.phase == "Aborting" then
  error("rollout " .. rollout.id .. " is being aborted", 0)
end
local annotations = obj.metadata.annotations or {}
annotations["slipway.dev/pause"] = rollout.id
annotations["slipway.dev/pause-by"] = rollout.id .. "/" .. me
obj.metadata.annotations = annotations
return obj
