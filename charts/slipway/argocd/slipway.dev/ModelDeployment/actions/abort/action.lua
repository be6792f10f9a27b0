-- Take all traffic from the canary and reject its revision.
local me = "system:serviceaccount:argocd:argocd-server"

local rollout = obj.status and obj.status.rollout
if rollout == nil then
  error("no rollout is under way", 0)
end
if rollout.phase == "Aborting" then
  error("rollout " .. rollout.id .. " is being aborted", 0)
end
local annotations = obj.metadata.annotations or {}
annotations["slipway.dev/abort"] = rollout.id
annotations["slipway.dev/abort-by"] = rollout.id .. "/" .. me
obj.metadata.annotations = annotations
return obj
