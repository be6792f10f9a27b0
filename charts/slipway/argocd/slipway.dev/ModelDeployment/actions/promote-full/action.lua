-- Give the canary all traffic as soon as it has the pods for it; the steps that are left are skipped.
local me = "system:serviceaccount:argocd:argocd-server"

local rollout = obj.status and obj.status.rollout
if rollout == nil then
  error("no rollout is under way", 0)
end
local annotations = obj.metadata.annotations or {}
annotations["slipway.dev/promote-full"] = rollout.id
annotations["slipway.dev/promote-full-by"] = rollout.id .. "/" .. me
obj.metadata.annotations = annotations
return obj
